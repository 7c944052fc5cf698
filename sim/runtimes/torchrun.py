"""The torchrun runtime: the agents of a run on the ranks started by torchrun or Slurm, one block each.

The first rank leads: it executes the experiment as a single process would, hosts a block itself, and is the only one to
write files. The others wait in `together` for its calls. Parameters travel between the ranks by torch.distributed.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from basinet.sim.engines import EngineName
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.records import Row
from basinet.sim.runtimes.rank_session import RankSession
from basinet.sim.runtimes.ranks import Ranks
from basinet.sim.runtimes.runtime import Runtime, Seat, memory_of
from basinet.sim.runtimes.team import Analysis, RankLostError, Team
from basinet.sim.runtimes.worker_log import keep_collected
from basinet.sim.runtimes.world import is_task, num_ranks, started
from basinet.sim.setup.setup import Setup

__all__ = ["Torchrun", "TorchrunTeam", "analysts", "failed", "follows", "leave", "met", "together"]

T = TypeVar("T")

_meetings = count()


def met() -> bool:
    """Return whether this process has met other ranks."""
    return _ranks.cache_info().currsize > 0


def follows() -> bool:
    """Return whether this process has met other ranks, and one of them leads and reports for it."""
    return met() and _ranks().rank > 0


def failed() -> bool:
    """Return whether something has failed on this rank while it served another."""
    return met() and _ranks().failed


def leave() -> None:
    """Close the connection to the other ranks, at the end of the process."""
    if met():
        _ranks().close()


@cache
def _ranks() -> Ranks:
    """Meet the other ranks, once per process."""
    if not started():
        raise ExperimentError(
            "runtime.name: torchrun has not started this process; start it with "
            "torchrun --standalone --nproc_per_node=2 -m basinet run … runtime.name=torchrun"
        )
    return Ranks()


def together(work: Callable[[], T]) -> T:
    """Do work on the first rank, with the others taking part as it calls them.

    Args:
        work: The work of the first rank; calls of this function within it just do their work.

    Returns:
        Its result, on every rank.

    Raises:
        ExperimentError: This process was not started by torchrun.
        BaseException: Raised by the work, on every rank.
    """
    ranks = _ranks()
    if ranks.leading:
        return work()
    if ranks.rank > 0:
        outcome: T = ranks.serve(RankSession(ranks))
        return outcome
    ranks.leading, ranks.asked_to_stop = True, False
    ranks.heart.stop.clear()
    try:
        value = work()
    except BaseException as error:
        ranks.end(error=error)
        raise
    finally:
        ranks.leading = False
    ranks.end(value)
    return value


class TorchrunTeam(Team):
    """The workers of a run as ranks.

    Args:
        setup: The parts of the run.
        engine: Name of the engine, or "auto": the first worker then chooses for all; None to host no agents, for an
            analysis.
        stop: Set when a rank is interrupted.

    Raises:
        RuntimeError: Not called inside `together`.
    """

    def __init__(self, setup: Setup, engine: EngineName | None, stop: threading.Event | None = None) -> None:
        self.ranks = _ranks()
        if not self.ranks.leading:
            raise RuntimeError("A team of ranks is led by one of them: call this inside `together`.")
        self.session = RankSession(self.ranks)
        self.far_logs: Path | None = None
        self.stop = threading.Event() if stop is None else stop
        try:
            devices = self._all("take", setup)
            self.placement = setup.placement([machine for machine, _ in devices])
            on_gpus = all(device.startswith("cuda") for _, device in devices)
            # NCCL needs one GPU per worker.
            backend = "nccl" if on_gpus and len(set(devices)) == len(devices) else "gloo"
            self._all("meet", backend, next(_meetings), self.placement)
            if engine is not None:
                self._all("host", engine)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            with suppress(OSError):
                self.collect_logs()
            self._all("leave")
        except RankLostError:
            self.session.leave()

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        results = self.ranks.call(self.session, method, *arguments)
        if self.ranks.asked_to_stop:
            self.stop.set()
        return results

    def _call(self, method: str, *arguments: Any) -> list[Any]:
        if method == "analyze":  # which differ too much for one to tell how long another takes
            return self._all("call", method, *arguments)
        with self.ranks.silence.during(method):
            return self._all("call", method, *arguments)

    def advance(self, until: int) -> None:
        """Advance every rank to a step."""
        with self.ranks.silence.during("advance", until - (self.ranks.step() or 0)):
            self._all("call", "advance", until)

    def measure(self) -> tuple[list[Row], dict[int, int]]:
        """Measure all replicas, unless the ranks are to stop meanwhile."""
        with self.ranks.silence.passing_on(self.stop, self.ranks.heart.stop):
            return super().measure()

    def log_to(self, folder: Path) -> None:
        """Let the ranks write what they print into files; the first one goes on printing, too."""
        folder.mkdir(exist_ok=True)
        self.far_logs = folder if any(self._all("log_to", folder)) else None

    def collect_logs(self) -> None:
        """Fetch the logs of ranks on machines from which the folder is not seen."""
        if self.far_logs is not None:
            keep_collected(self.far_logs, self._all("collected"))


@contextmanager
def analysts(setup: Setup) -> Iterator[Callable[[Analysis, dict[str, Any], int], list[Row]]]:
    """Return who analyses a finished run: all ranks, inside `together`; otherwise this process.

    Args:
        setup: The parts of the run.

    Yields:
        A function that takes an analysis, the state of a replica's rows and its number, and returns its rows.
    """
    if met() and _ranks().leading:
        with TorchrunTeam(setup, None) as team:
            yield team.analyze
    else:
        yield lambda analysis, state, replica: analysis(setup, state, replica, 0, 1)


class Torchrun(Runtime):
    """The ranks started by torchrun."""

    together = staticmethod(together)
    follows = staticmethod(follows)

    def team(
        self, setup: Setup, engine: EngineName, stop: threading.Event, waiting: Callable[[str], None]
    ) -> TorchrunTeam:
        """Start a block on every rank."""
        return TorchrunTeam(setup, engine, stop)

    @property
    def workers(self) -> int:
        """Number of ranks that share the agents of a run."""
        return num_ranks()

    @property
    def workers_here(self) -> int | None:
        """Number of ranks on this machine; None if none have been started."""
        if not started():
            return None
        return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if num_ranks() > 1 else 1

    @property
    def sharers(self) -> int:
        """Number of ranks that share the processors of this process."""
        return 1 if is_task() else super().sharers

    def seats(self) -> list[Seat]:
        """Say where the ranks are; before they have met, machines have numbers, and are taken to be like this one."""
        here, seats = self.workers_here or 1, []
        gpus = torch.cuda.device_count() if self.part.device in ("auto", "cuda") else 0
        for rank in range(self.workers):
            device = torch.device("cuda", rank % here % gpus) if gpus else self.device()
            seats.append(Seat(f"machine {rank // here}", str(device), self.threads(), memory_of(device)))
        return seats

    def check(self, setup: Setup) -> None:
        """Check that a run can be shared by the ranks.

        Args:
            setup: The parts of the run.

        Raises:
            ExperimentError: This process was not started by torchrun, or there are too many ranks, or they cannot meet.
        """
        super().check(setup)
        ranks = _ranks()
        if dist.is_initialized():
            raise ExperimentError(
                "runtime.name: torch.distributed has been initialized in this process, which torchrun needs for each"
                " run; call destroy_process_group() before"
            )
        rows = setup.config.replicas * setup.num_agents
        if ranks.size > rows:
            raise ExperimentError(
                f"runtime.name: torchrun has started {ranks.size} ranks; allowed are at most {rows}, one per agent of"
                " each replica"
            )
