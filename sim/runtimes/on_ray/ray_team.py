"""The workers of a run as Ray actors, each hosting a block of agents.

Ray starts and places the workers and transfers setups, measurements and checkpoints. Parameters travel directly between
the workers, by torch.distributed.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from basinet.sim.engines import EngineName
from basinet.sim.run.records import Row
from basinet.sim.runtimes.on_ray.ray_crews import leave, take
from basinet.sim.runtimes.on_ray.ray_losses import answers, check_ray
from basinet.sim.runtimes.on_ray.run_packing import Needs
from basinet.sim.runtimes.silence import Silence
from basinet.sim.runtimes.team import Analysis, Stopped, Team, WorkerLost
from basinet.sim.runtimes.worker_log import keep_collected
from basinet.sim.setup.setup import Setup

__all__ = ["RayTeam"]

_LOOK_SECONDS = 0.5
"""Seconds between two checks whether actors have been placed."""

_TELL_SECONDS = 10.0, 300.0
"""Seconds between messages about what the actors wait for."""


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
        WorkerLost: An actor has died or hangs.
    """

    def __init__(
        self, setup: Setup, needs: Needs, engine: EngineName, stop: threading.Event, waiting: Callable[[str], None]
    ) -> None:
        self.stop = stop
        self.step = 0
        self.far_logs: Path | None = None
        self.crew = take(needs)
        try:
            self._wait_until_placed(waiting)
            self.actors = self.crew.actors
            meetings, hearts = zip(*self._addresses(waiting), strict=True)
            self.silence = Silence(dict(enumerate(hearts)))
            shared = ray.put(setup)
            pending = []
            self.placement = setup.placement(self.crew.machines())
            for rank, actor in enumerate(self.actors):
                pending.append(actor.start.remote(shared, replace(self.placement, rank=rank), meetings[0], engine))
            answers(pending, self.silence)
        except BaseException:
            leave(self.crew, clean=False)
            raise

    def _wait_until_placed(self, waiting: Callable[[str], None]) -> None:
        """Wait until Ray has reserved what the actors need."""
        self._wait(self.crew.is_placed, lambda: waiting(_needs(self.crew.needs)))

    def _addresses(self, waiting: Callable[[str], None]) -> list[Any]:
        """Wait until all actors have started; return where they meet, and where each tells how it is."""
        pending = [actor.addresses.remote() for actor in self.actors]

        def have_started(seconds: float) -> bool:
            return not ray.wait(pending, num_returns=len(pending), timeout=seconds)[1]

        self._wait(have_started, lambda: waiting(f"{_actors(len(pending))} to start"))
        return answers(pending)

    def _wait(self, done: Callable[[float], bool], tell: Callable[[], None]) -> None:
        next_word, pause = time.monotonic() + _TELL_SECONDS[0], _TELL_SECONDS[1]
        while not _or_ray_has_ended(done):
            if self.stop.is_set():
                raise Stopped
            if time.monotonic() > next_word:
                next_word = time.monotonic() + pause
                check_ray()
                tell()

    def __exit__(self, *error: object) -> None:
        if not (self.stop.is_set() or isinstance(error[1], WorkerLost)):  # otherwise they may not answer
            with suppress(OSError, WorkerLost):
                self.collect_logs()
        leave(self.crew, clean=not any(error) and not self.stop.is_set())

    def _call(self, method: str, *arguments: Any) -> list[Any]:
        with self.silence.during(method):
            return answers(self._begin(method, *arguments), self.silence)

    def advance(self, until: int) -> None:
        """Advance every actor to a step."""
        with self.silence.during("advance", until - self.step):
            self.step = answers(self._begin("advance", until), self.silence)[0]

    def measure(self) -> tuple[list[Row], dict[int, int]]:
        """Measure all replicas, unless the actors are to stop meanwhile."""
        with self.silence.passing_on(self.stop):
            return super().measure()

    def load(self, state: dict[str, Any]) -> None:
        """Restore the state of all rows."""
        super().load(state)
        self.step = int(state["step"])

    def _begin(self, method: str, *arguments: Any) -> list[Any]:
        # Numbers travel with the call; what is larger is stored once for all actors.
        shared = [argument if isinstance(argument, int) else ray.put(argument) for argument in arguments]
        return [actor.call.remote(method, *shared) for actor in self.actors]

    def log_to(self, folder: Path) -> None:
        """Let the actors write what they print into files."""
        folder.mkdir(exist_ok=True)
        pending = [actor.log_to.remote(folder, rank) for rank, actor in enumerate(self.actors)]
        self.far_logs = folder if any(answers(pending, self.silence)) else None

    def collect_logs(self) -> None:
        """Fetch the logs of actors on machines from which the folder is not seen."""
        if self.far_logs is not None:
            keep_collected(self.far_logs, answers([actor.collected.remote() for actor in self.actors], self.silence))

    def analyze(self, analysis: Analysis, state: dict[str, Any], replica: int) -> list[Row]:
        """Analyse a replica; to stop, leave the actors, which end with the team."""
        found: list[Row] = answers(self._begin("analyze", analysis, state, replica), self.silence, self.stop)[0]
        return found


def _or_ray_has_ended(done: Callable[[float], bool]) -> bool:
    """Look whether what is waited for is there; an end of Ray here is said as such, not as what follows from it."""
    try:
        return done(_LOOK_SECONDS)
    except Exception:
        check_ray()
        raise


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
