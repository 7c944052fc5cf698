"""Crews of Ray actors: those that have hosted a run are cleaned and host the next one with the same needs.

An actor is a process that imports torch, which takes seconds. Cleaned, it computes what a new one would.
"""

import gc
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray.exceptions import GetTimeoutError, RayError
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from basinet.sim.agents.placement import Placement
from basinet.sim.agents.worker import Worker
from basinet.sim.engines import EngineName
from basinet.sim.experiment.component import extend_path
from basinet.sim.run.interruptions import watching
from basinet.sim.runtimes.on_ray.run_packing import Needs
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.runtimes.silence import Address, Heart
from basinet.sim.runtimes.team import TIMEOUT
from basinet.sim.runtimes.worker_log import WorkerLog
from basinet.sim.setup.setup import Setup

__all__ = ["Crew", "kept_crews", "leave", "take"]

_CLEANING_SECONDS = 30.0
"""Time limit of the cleaning of an actor, which is ended otherwise."""


class _Actor:
    """A process that hosts a worker of one run after the other.

    Args:
        homes: Folders where the user's modules are, as seen from the machine of the experiment.
    """

    def __init__(self, homes: Sequence[str]) -> None:
        extend_path(*homes)
        self.log: WorkerLog | None = None
        self.worker: Worker | None = None
        self.heart = Heart(ray.util.get_node_ip_address(), self._step)
        self.begun_with = _global_settings()

    def _step(self) -> int | None:
        return None if self.worker is None else self.worker.block.step

    def addresses(self) -> tuple[str, Address]:
        """Return an address at which the others can meet this actor, and where it tells how it is."""
        host = self.heart.address.host
        with socket.socket() as probe:
            probe.bind((host, 0))
            return f"tcp://{host}:{probe.getsockname()[1]}", self.heart.address

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
        self.heart.stop.clear()
        self.worker = Worker(setup, placement, engine)
        return self.worker.block.oracle.engine.name

    def log_to(self, folder: Path, rank: int) -> bool:
        """Write what this process prints into a file; return whether that has to be collected."""
        self.log = WorkerLog(folder, rank)
        return self.log.is_far

    def collected(self) -> str:
        """Return what has been printed since the last call, if it has to be collected."""
        return "" if self.log is None else self.log.collected()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the worker."""
        try:
            with watching(self.heart.stop):
                return getattr(self.worker, method)(*arguments)
        except Exception:
            if self.log is not None:
                self.log.failed()
            raise

    def clean(self) -> None:
        """Forget the run."""
        if self.log is not None:
            self.log.close()
        if self.worker is not None:
            self.worker.close()
        self.worker = None
        if dist.is_initialized():
            dist.destroy_process_group()
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
        for change, value in self.begun_with:
            change(value)


def _global_settings() -> list[tuple[Callable[[Any], Any], Any]]:
    """Collect the settings of torch that a run's code may change, each with what restores it."""
    # Not the global random generators, which begin anywhere in a new process.

    def cudnn(flags: tuple[bool, bool]) -> None:
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = flags

    return [
        (torch.set_default_dtype, torch.get_default_dtype()),
        (torch.set_num_threads, torch.get_num_threads()),
        (torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()),
        (torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled()),
        (cudnn, (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)),
        (torch.set_grad_enabled, torch.is_grad_enabled()),
    ]


_unplaced: set["Crew"] = set()
"""Crews for which there is no room yet."""


class Crew:
    """Actors that host a run; Ray reserves what they need for all of them or for none.

    Args:
        needs: What they need.

    Attributes:
        actors: The actors, as soon as they are placed.
    """

    def __init__(self, needs: Needs) -> None:
        self.needs = needs
        self.actors: list[Any] = []
        bundle = {"CPU": needs.cpus} | ({"GPU": needs.gpus} if needs.gpus else {})
        self.group = placement_group([bundle] * needs.workers, strategy="PACK")
        _unplaced.add(self)

    def is_placed(self, seconds: float) -> bool:
        """Return whether there is room; the actors are then started.

        Args:
            seconds: How long to wait for it.

        Returns:
            Whether there is.
        """
        if not self.actors and self.group.wait(seconds):
            make = ray.remote(num_cpus=self.needs.cpus, num_gpus=self.needs.gpus)(_Actor)
            for place in range(self.needs.workers):
                here = PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=place)
                self.actors.append(make.options(scheduling_strategy=here).remote(extend_path()))
            _unplaced.discard(self)
        return bool(self.actors)

    def machines(self) -> list[str]:
        """Return the identity of the machine of each actor, once they are placed."""
        of_bundles = placement_group_table(self.group)["bundles_to_node_id"]
        return [of_bundles[place] for place in range(self.needs.workers)]

    def clean(self) -> bool:
        """Let the actors forget their run.

        Returns:
            Whether they have.
        """
        try:
            ray.get([actor.clean.remote() for actor in self.actors], timeout=_CLEANING_SECONDS)
        except (GetTimeoutError, RayError):
            return False
        return True

    def end(self) -> None:
        """End the actors, and release what was reserved."""
        _unplaced.discard(self)
        for actor in self.actors:
            ray.kill(actor)
        remove_placement_group(self.group)


_idle: list[Crew] = []
_keepers = 0
_lock = threading.Lock()


def _end(crews: list[Crew]) -> None:
    for crew in crews:
        with suppress(RayError):  # the cluster may be gone
            crew.end()


@contextmanager
def kept_crews() -> Iterator[None]:
    """Keep crews from run to run within this context.

    Yields:
        Nothing.
    """
    global _keepers
    with _lock:
        _keepers += 1
    try:
        yield
    finally:
        with _lock:
            _keepers -= 1
            left = [] if _keepers else _idle[:]
            _idle[:] = _idle if _keepers else []
        _end(left)


def take(needs: Needs) -> Crew:
    """Take a crew that waits for a run, or start one; those with other needs end then, to make room.

    Args:
        needs: What its actors need.

    Returns:
        The crew.
    """
    with _lock:
        found = next((crew for crew in _idle if crew.needs == needs), None)
        if found is not None:
            _idle.remove(found)
            return found
        crew = Crew(needs)
        others, _idle[:] = _idle[:], []
    _end(others)
    return crew


def leave(crew: Crew, *, clean: bool) -> None:
    """Leave a crew to the next run, or end it, as where another one waits for room: it may be this.

    Args:
        crew: The crew.
        clean: Whether its actors have nothing more to do.
    """
    if clean and _keepers and crew.clean():
        with _lock:
            if _keepers and not _unplaced:
                _idle.append(crew)
                return
    _end([crew])
