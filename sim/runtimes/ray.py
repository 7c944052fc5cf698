"""Ray: the agents of a run in actors, blocks of agents each, on one machine or a cluster.

Ray starts and places the workers and carries setups, measurements and checkpoints. Parameters travel between
the workers themselves, by torch.distributed.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Self

import ray
import torch.distributed as dist

from basinet.sim.component import ExperimentError
from basinet.sim.config import Config
from basinet.sim.engines import EngineName
from basinet.sim.folder import Row
from basinet.sim.placement import Placement
from basinet.sim.setup import Setup
from basinet.sim.state import join_rows
from basinet.sim.worker import Analysis, Worker, pick_device

__all__ = ["RayTeam", "cluster", "runs_that_fit"]

_TIMEOUT = timedelta(minutes=10)


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
                timeout=_TIMEOUT,
            )
        self.worker = Worker(setup, placement, engine)
        return self.worker.block.engine.name

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the worker."""
        return getattr(self.worker, method)(*arguments)


class RayTeam:
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
            address = ray.get(self.actors[0].address.remote())
            shared = ray.put(setup)
            pending = []
            for rank, actor in enumerate(self.actors):
                placement = Placement.split(setup.config.replicas, setup.num_agents, workers, rank)
                pending.append(actor.start.remote(shared, placement, address, engine))
            ray.get(pending)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self.actors:
            ray.kill(actor)

    def _call(self, method: str, *arguments: Any) -> list[Any]:
        results: list[Any] = ray.get([actor.call.remote(method, *arguments) for actor in self.actors])
        return results

    def advance(self, until: int) -> None:
        """Let every worker run to the given step.

        Args:
            until: The step.
        """
        self._call("advance", until)

    def measure(self) -> tuple[list[Row], dict[int, int]]:
        """Measure all replicas, each worker its share.

        Returns:
            See `Worker.measure`.
        """
        rows: list[Row] = []
        diverged: dict[int, int] = {}
        for part, found in self._call("measure"):
            rows += part
            for replica, step in found.items():
                diverged[replica] = min(step, diverged.get(replica, step))
        return _sorted(rows), diverged

    def analyze(self, analysis: Analysis, state: dict[str, Any], replica: int) -> list[Row]:
        """Analyse a replica, each worker its share of the sums.

        Args:
            analysis: What to do.
            state: The state of the replica's rows.
            replica: Which replica it is.

        Returns:
            What was found, as the first worker says.
        """
        found: list[Row] = self._call("analyze", analysis, ray.put(state), replica)[0]
        return found

    def state(self) -> dict[str, Any]:
        """Collect the state of all rows.

        Returns:
            Nested plain values and tensors.
        """
        state: dict[str, Any] = join_rows(self._call("state"))
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Restore the state of all rows.

        Args:
            state: What `state` returned.
        """
        self._call("load", ray.put(state))

    def engine_choice(self) -> str:
        """Tell which engine runs.

        Returns:
            Its name, and why it was chosen, as the first worker says.
        """
        return str(self._call("engine_choice")[0])


def _sorted(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: int(row["replica"]))


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
