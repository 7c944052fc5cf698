"""Ray: the agents of a run in actors, blocks of agents each, on one machine or a cluster.

Ray starts and places the workers and carries setups, measurements and checkpoints. Parameters travel between
the workers themselves, by torch.distributed.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import torch.distributed as dist
from ray.exceptions import RayTaskError

from basinet.sim.component import ExperimentError
from basinet.sim.config import Config
from basinet.sim.engines import EngineName
from basinet.sim.placement import Placement
from basinet.sim.runtimes.team import TIMEOUT, Team
from basinet.sim.setup import Setup
from basinet.sim.worker import Worker, pick_device

__all__ = ["RayTeam", "cluster", "runs_that_fit"]


class _Actor:
    """A worker inside a Ray actor."""

    def address(self) -> str:
        """Find an address at which this actor can be met by the others."""
        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return f"tcp://{host}:{probe.getsockname()[1]}"

    def start(self, setup: Setup, placement: Placement, address: str, engine: EngineName) -> str:
        """Meet the other workers and build the block; return the engine's name."""
        if placement.workers > 1:
            runtime = setup.config.runtime
            # NCCL wants a GPU for each worker.
            backend = "nccl" if pick_device(runtime).type == "cuda" and runtime.gpus_per_actor >= 1 else "gloo"
            dist.init_process_group(
                backend,
                init_method=address,
                rank=placement.rank,
                world_size=placement.workers,
                timeout=TIMEOUT,
            )
        self.worker = Worker(setup, placement, engine)
        return self.worker.block.engine.name

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the worker."""
        return getattr(self.worker, method)(*arguments)


class RayTeam(Team):
    """The workers of a run as Ray actors.

    Args:
        setup: The parts of the run.
        engine: Name of the engine, or "auto": the first worker then chooses for all.
    """

    def __init__(self, setup: Setup, engine: EngineName) -> None:
        runtime = setup.config.runtime
        workers = runtime.actors
        make = ray.remote(num_cpus=runtime.cpus_per_actor, num_gpus=runtime.gpus_per_actor)(_Actor)
        self.actors = [make.remote() for _ in range(workers)]
        try:
            address = _get(self.actors[0].address.remote())
            shared = ray.put(setup)
            pending = []
            for rank, actor in enumerate(self.actors):
                placement = Placement.split(setup.config.replicas, setup.num_agents, workers, rank)
                pending.append(actor.start.remote(shared, placement, address, engine))
            _get(pending)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        for actor in self.actors:
            ray.kill(actor)

    def _call(self, method: str, *arguments: Any) -> list[Any]:
        shared = [ray.put(argument) for argument in arguments]
        results: list[Any] = _get([actor.call.remote(method, *shared) for actor in self.actors])
        return results


def _get(pending: Any) -> Any:
    """Wait for what actors return; what one of them raised is raised as it is, caused by Ray's account of it."""
    try:
        return ray.get(pending)
    except RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise


@contextmanager
def cluster() -> Iterator[None]:
    """Join the cluster that `RAY_ADDRESS` names, or start one on this machine; leave what was found as it was.

    Yields:
        Nothing.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(
        # Without "local" Ray would wait for a cluster that has been started here some day and is gone.
        address=os.environ.get("RAY_ADDRESS", "local"),
        include_dashboard=None if "RAY_ADDRESS" in os.environ else False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        yield
    finally:
        ray.shutdown()


def runs_that_fit(config: Config) -> int:
    """Compute how many such runs the cluster can hold at once.

    Args:
        config: A run.

    Returns:
        At least 1.

    Raises:
        ExperimentError: Not even one fits; the message has the numbers.
    """
    runtime = config.runtime
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    # An actor cannot be split between nodes: what fits is counted node by node.
    slots = 0
    for node in nodes:
        fit = int(node.get("CPU", 0) / runtime.cpus_per_actor + 1e-9)
        if runtime.gpus_per_actor:
            fit = min(fit, int(node.get("GPU", 0) / runtime.gpus_per_actor + 1e-9))
        slots += fit
    if slots < runtime.actors:
        have = f"{sum(n.get('CPU', 0) for n in nodes):g} CPUs and {sum(n.get('GPU', 0) for n in nodes):g} GPUs"
        raise ExperimentError(
            f"runtime.actors: {runtime.actors} actors of {runtime.cpus_per_actor:g} CPUs and "
            f"{runtime.gpus_per_actor:g} GPUs do not fit on the cluster's {len(nodes)} node(s) with {have}; "
            f"at most {slots} do: lower runtime.actors, runtime.cpus_per_actor or runtime.gpus_per_actor"
        )
    return max(1, slots // runtime.actors)
