"""The workers of a run as Ray actors, each hosting a block of agents.

Ray starts and places the workers and transfers setups, measurements and checkpoints. Parameters travel directly between
the workers, by torch.distributed.
"""

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from basinet.sim.engines import EngineName
from basinet.sim.run.records import Row
from basinet.sim.runtimes.ray_crews import leave, take
from basinet.sim.runtimes.run_packing import Needs
from basinet.sim.runtimes.team import Analysis, Stopped, Team, WorkerLost
from basinet.sim.runtimes.worker_log import note_unseen
from basinet.sim.setup.setup import Setup

__all__ = ["RayTeam"]

_LOOK_SECONDS = 0.5
"""Seconds between two checks whether actors have been placed."""

_TELL_SECONDS = 10.0, 300.0
"""Seconds between messages about what the actors wait for."""

_NEWS_SECONDS = 5.0
"""Seconds within which Ray knows that an actor has died, after others have noticed that it does not answer."""

_DEATHS: tuple[type[RayError], ...] = (
    RayActorError,
    NodeDiedError,
    WorkerCrashedError,
    OutOfMemoryError,
    ObjectLostError,
)


class RayTeam(Team):
    """The workers of a run as Ray actors.

    Args:
        setup: The parts of the run.
        needs: What the actors need.
        engine: Name of the engine, or "auto": the first worker then chooses for all.
        stop: Set when the run is to stop, possibly before its actors have been placed, or while they analyse it.
        waiting: Called with what the actors wait for.

    Raises:
        Stopped: `stop` was set before all actors were placed.
        WorkerLost: An actor has died.
    """

    def __init__(
        self, setup: Setup, needs: Needs, engine: EngineName, stop: threading.Event, waiting: Callable[[str], None]
    ) -> None:
        self.stop = stop
        self.crew = take(needs)
        try:
            self._wait_until_placed(waiting)
            self.actors = self.crew.actors
            address = self._addresses(waiting)[0]
            shared = ray.put(setup)
            pending = []
            self.placement = setup.placement(self.crew.machines())
            for rank, actor in enumerate(self.actors):
                pending.append(actor.start.remote(shared, replace(self.placement, rank=rank), address, engine))
            _get(pending)
        except BaseException:
            leave(self.crew, clean=False)
            raise

    def _wait_until_placed(self, waiting: Callable[[str], None]) -> None:
        """Wait until Ray has reserved what the actors need."""
        self._wait(self.crew.is_placed, lambda: waiting(_needs(self.crew.needs)))

    def _addresses(self, waiting: Callable[[str], None]) -> list[str]:
        """Wait until all actors have started; return their addresses."""
        pending = [actor.address.remote() for actor in self.actors]

        def have_started(seconds: float) -> bool:
            return not ray.wait(pending, num_returns=len(pending), timeout=seconds)[1]

        self._wait(have_started, lambda: waiting(f"{_actors(len(pending))} to start"))
        found: list[str] = _get(pending)
        return found

    def _wait(self, done: Callable[[float], bool], tell: Callable[[], None]) -> None:
        next_word, pause = time.monotonic() + _TELL_SECONDS[0], _TELL_SECONDS[1]
        while not done(_LOOK_SECONDS):
            if self.stop.is_set():
                raise Stopped
            if time.monotonic() > next_word:
                next_word = time.monotonic() + pause
                tell()

    def __exit__(self, *error: object) -> None:
        leave(self.crew, clean=not any(error) and not self.stop.is_set())

    def _call(self, method: str, *arguments: Any) -> list[Any]:
        results: list[Any] = _get(self._begin(method, *arguments))
        return results

    def _begin(self, method: str, *arguments: Any) -> list[Any]:
        shared = [ray.put(argument) for argument in arguments]
        return [actor.call.remote(method, *shared) for actor in self.actors]

    def log_to(self, folder: Path) -> None:
        """Let the actors write what they print into files."""
        folder.mkdir(exist_ok=True)
        note_unseen(folder, _get([actor.log_to.remote(folder, rank) for rank, actor in enumerate(self.actors)]))

    def analyze(self, analysis: Analysis, state: dict[str, Any], replica: int) -> list[Row]:
        """Analyse a replica; to stop, leave the actors, which end with the team."""
        pending = left = self._begin("analyze", analysis, state, replica)
        while left:
            ready, left = ray.wait(left, timeout=_LOOK_SECONDS)
            _get(ready, left)
            if left and self.stop.is_set():
                raise Stopped
        found: list[Row] = _get(pending)[0]
        return found


def _needs(needs: Needs) -> str:
    """Describe what actors wait for."""
    free = ray.available_resources()
    wanted = {"CPU": needs.workers * needs.cpus, "GPU": needs.workers * needs.gpus}
    short = {kind: count for kind, count in wanted.items() if count > free.get(kind, 0)}
    if not short:
        return f"{_actors(needs.workers)} to be placed"
    parts = [f"{count:g} {kind}s, of which {free.get(kind, 0):g} are free" for kind, count in short.items()]
    return f"the Ray cluster: {'; '.join(parts)}"


def _actors(count: int) -> str:
    return f"{count} Ray {'actor' if count == 1 else 'actors'}"


def _get(pending: list[Any], others: Sequence[Any] = ()) -> Any:
    """Wait for the results of actors; an actor's exception is raised as it was, with Ray's as its cause."""
    try:
        return ray.get(pending)
    except RayTaskError as error:
        # Actors that wait for messages of a dead one raise errors of their own, as if the run were at fault.
        dead = _death([*pending, *others])
        if dead is not None:
            raise WorkerLost(_obituary(dead)) from dead
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise
    except _DEATHS as dead:
        if isinstance(dead, RayActorError) and dead.actor_init_failed:
            raise
        raise WorkerLost(_obituary(dead)) from dead


def _death(pending: list[Any]) -> RayError | None:
    """Look for an actor that has died."""
    end = time.monotonic() + (_NEWS_SECONDS if len(pending) > 1 else 0)
    left = pending
    while left and time.monotonic() < end:
        ready, left = ray.wait(left, timeout=max(0.0, end - time.monotonic()))
        for result in ready:
            try:
                ray.get(result)
            except RayTaskError:
                pass
            except _DEATHS as dead:
                return dead
    return None


def _obituary(death: RayError) -> str:
    """Say in one line which actor died, and why, as far as Ray knows."""
    text = str(death)
    process, host = (re.search(rf"(?m)^\s*{key}: (\S+)", text) for key in ("pid", "ip"))
    who = f"the Ray actor of process {process[1]}" if process else "a Ray actor"
    where = f" on {host[1]}" if host else ""
    if isinstance(death, OutOfMemoryError) or "low on memory" in text:
        why = "was ended, since the machine ran out of memory"
    elif isinstance(death, NodeDiedError) or "its node" in text:
        why = "is gone with its machine"
    else:
        why = "died"
    return f"{who}{where} {why}"
