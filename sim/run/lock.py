"""The lock of an experiment's folder: one process at a time writes into it."""

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from basinet.sim.experiment.mistakes import ExperimentError
from basinet.sim.run.files import LOCKS, no_linked_run

__all__ = ["alone", "locked", "taking_turns"]

_WORK, _REPORT = LOCKS

P = ParamSpec("P")
T = TypeVar("T")
Place = TypeVar("Place", Path, str | Path)

_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of an experiment's folder for a while; whoever does so may do it again meanwhile.

    Args:
        folder: The folder.

    Yields:
        Nothing.

    Raises:
        ExperimentError: Another process is at work in it.
    """
    place = folder.resolve()
    if place in _held.get():
        yield
        return
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with open(os.open(folder / _WORK, flags, 0o666), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = file.read(100).decode(errors="replace").strip()
            raise ExperimentError(
                f"--out: another process is at work in {folder} ({who or 'unknown'}); wait for its end, or choose"
                " another folder"
            ) from error
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        file.flush()
        token = _held.set(_held.get() | {place})
        try:
            yield
        finally:
            _held.reset(token)
            file.truncate(0)


@contextmanager
def taking_turns(folder: Path) -> Iterator[None]:
    """Write the report of a folder, in which another process may be at work: one process after the other does so.

    Args:
        folder: The folder of an experiment or of a run; of any other one nothing is written.

    Yields:
        Nothing.
    """
    if not _holds_runs(no_linked_run(folder)):
        yield
        return
    with open(os.open(folder / _REPORT, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _holds_runs(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("experiment.yaml", "config.yaml"))


def alone(function: Callable[Concatenate[Place, P], T]) -> Callable[Concatenate[Place, P], T]:
    """Let a function that writes into the folder of an experiment, or of a run in one, have it for itself.

    Args:
        function: Takes the folder first.

    Returns:
        The function, which keeps other processes out.
    """

    @wraps(function)
    def exclusive(given: Place, /, *args: P.args, **kwargs: P.kwargs) -> T:
        folder = no_linked_run(Path(given))
        of_run = (folder / "config.yaml").exists() and (folder.resolve().parent / "experiment.yaml").exists()
        place = folder.resolve().parent if of_run else folder
        if not _holds_runs(place):
            return function(given, *args, **kwargs)  # which finds no run
        with locked(place):
            return function(given, *args, **kwargs)

    return exclusive
