"""The workers of a run as Ray actors, each hosting a block of agents.

Ray starts and places the workers and transfers setups, measurements and checkpoints. Parameters travel directly between
the workers, by torch.distributed.
"""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
import torch.distributed as dist
from ray.exceptions import RayTaskError

from basinet.sim.agents.placement import Placement
from basinet.sim.agents.worker import Worker
from basinet.sim.engines import EngineName
from basinet.sim.experiment.config import RuntimePart
from basinet.sim.run.records import Row
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.runtimes.team import TIMEOUT, Analysis, Stopped, Team
from basinet.sim.setup.setup import Setup

__all__ = ["RayTeam"]

_LOOK_SECONDS = 0.5
"""Seconds between two checks whether actors have been placed."""

_TELL_SECONDS = 10.0, 300.0
"""Seconds between messages about what the actors wait for."""


class _Actor:
    """A worker inside a Ray actor."""

    def address(self) -> str:
        """Return an address at which the others can reach this actor."""
        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return f"tcp://{host}:{probe.getsockname()[1]}"

    def start(self, setup: Setup, placement: Placement, address: str, engine: EngineName) -> str:
        """Meet the other workers and build the block; return the engine's name."""
        if placement.workers > 1:
            runtime = setup.config.runtime
            # NCCL needs one GPU per worker.
            backend = "nccl" if runtime_of(runtime).device().type == "cuda" and runtime.gpus_per_actor >= 1 else "gloo"
            dist.init_process_group(
                backend,
                init_method=address,
                rank=placement.rank,
                world_size=placement.workers,
                timeout=TIMEOUT,
            )
        self.worker = Worker(setup, placement, engine)
        return self.worker.block.oracle.engine.name

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the worker."""
        return getattr(self.worker, method)(*arguments)


class RayTeam(Team):
    """The workers of a run as Ray actors.

    Args:
        setup: The parts of the run.
        engine: Name of the engine, or "auto": the first worker then chooses for all.
        stop: Set when the run is to stop, possibly before its actors have been placed, or while they analyse it.
        waiting: Called with what the actors wait for.

    Raises:
        Stopped: `stop` was set before all actors were placed.
    """

    def __init__(self, setup: Setup, engine: EngineName, stop: threading.Event, waiting: Callable[[str], None]) -> None:
        runtime = setup.config.runtime
        workers = runtime.actors
        self.stop = stop
        make = ray.remote(num_cpus=runtime.cpus_per_actor, num_gpus=runtime.gpus_per_actor)(_Actor)
        self.actors = [make.remote() for _ in range(workers)]
        try:
            address = self._placed(stop, lambda missing: waiting(_needs(runtime, missing)))
            shared = ray.put(setup)
            pending = []
            for rank, actor in enumerate(self.actors):
                placement = Placement.split(setup.config.replicas, setup.num_agents, workers, rank)
                pending.append(actor.start.remote(shared, placement, address, engine))
            _get(pending)
        except BaseException:
            self.__exit__()
            raise

    def _placed(self, stop: threading.Event, waiting: Callable[[int], None]) -> str:
        """Wait until all actors have been placed; return the address of the first."""
        addresses = [actor.address.remote() for actor in self.actors]
        next_word, pause = time.monotonic() + _TELL_SECONDS[0], _TELL_SECONDS[1]
        while True:
            _, missing = ray.wait(addresses, num_returns=len(addresses), timeout=_LOOK_SECONDS)
            if not missing:
                return str(_get(addresses)[0])
            if stop.is_set():
                raise Stopped
            if time.monotonic() > next_word:
                next_word = time.monotonic() + pause
                waiting(len(missing))

    def __exit__(self, *_: object) -> None:
        for actor in self.actors:
            ray.kill(actor)

    def _call(self, method: str, *arguments: Any) -> list[Any]:
        results: list[Any] = _get(self._begin(method, *arguments))
        return results

    def _begin(self, method: str, *arguments: Any) -> list[Any]:
        shared = [ray.put(argument) for argument in arguments]
        return [actor.call.remote(method, *shared) for actor in self.actors]

    def analyze(self, analysis: Analysis, state: dict[str, Any], replica: int) -> list[Row]:
        """Analyse a replica; to stop, leave the actors, which end with the team."""
        pending = left = self._begin("analyze", analysis, state, replica)
        while left:
            ready, left = ray.wait(left, timeout=_LOOK_SECONDS)
            _get(ready)
            if left and self.stop.is_set():
                raise Stopped
        found: list[Row] = _get(pending)[0]
        return found


def _needs(runtime: RuntimePart, actors: int) -> str:
    """Describe what actors wait for."""
    free = ray.available_resources()
    wanted = {"CPU": actors * runtime.cpus_per_actor, "GPU": actors * runtime.gpus_per_actor}
    short = {kind: count for kind, count in wanted.items() if count > free.get(kind, 0)}
    if not short:
        return f"{actors} Ray {'actor' if actors == 1 else 'actors'} to start"
    parts = [f"{count:g} {kind}s, of which {free.get(kind, 0):g} are free" for kind, count in short.items()]
    return f"the Ray cluster: {'; '.join(parts)}"


def _get(pending: Any) -> Any:
    """Wait for the results of actors; an actor's exception is raised as it was, with Ray's as its cause."""
    try:
        return ray.get(pending)
    except RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise
