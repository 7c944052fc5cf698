"""The lock of an experiment's folder, into which only one process writes at a time."""

import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from basinet.sim.experiment.mistakes import ExperimentError
from basinet.sim.run.files import LOCKS, no_linked_run

__all__ = ["AtWork", "alone", "locked", "start_of", "taking_turns", "turn"]

_WORK, _REPORT = LOCKS

_BEAT_SECONDS = 10.0
"""Seconds between two signs of life of a process that has locked a folder."""

P = ParamSpec("P")
T = TypeVar("T")
Place = TypeVar("Place", Path, str | Path)


class AtWork(ExperimentError):
    """Another process is at work in a folder."""


_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Lock the folder of an experiment, or of a run, within this context; the holder may lock it again.

    Args:
        folder: The folder.
        shared: Whether others may share the lock, who each lock the runs at which they are.

    Yields:
        Nothing.

    Raises:
        AtWork: Another process holds the lock.
    """
    place = folder.resolve()
    if place in _held.get():
        yield
        return
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with open(os.open(folder / _WORK, flags, 0o666), "r+b") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = file.readline(100).decode(errors="replace").strip()
            raise AtWork(
                f"--out: another process is at work in {folder} ({who or 'unknown'}); wait until it ends, or choose"
                " another folder"
            ) from error
        file.truncate()
        words = f"process {os.getpid()} on {socket.gethostname()}\n{start_of(os.getpid())}\n"
        file.write(f"{words}{'shared' if shared else ''}\n".encode())
        file.flush()
        token = _held.set(_held.get() | {place})
        try:
            with _beating(file.fileno()):
                yield
        finally:
            _held.reset(token)
            if not shared:  # others may have written who they are
                file.truncate(0)


@contextmanager
def _beating(lock: int) -> Iterator[None]:
    """Renew the time of a lock within this context, by which other machines see that its process lives."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(_BEAT_SECONDS):
            with suppress(OSError):
                os.utime(lock)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def start_of(process: int) -> str:
    """Return when a process of this machine started, which tells it from a later one with its number.

    Args:
        process: Its number.

    Returns:
        Ticks of a clock of the system; "" if it has ended, or the system does not say.
    """
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = text.rpartition(")")[2].split()
    return "" if state == "Z" else fields[18]  # a zombie has ended


@contextmanager
def taking_turns(folder: Path) -> Iterator[None]:
    """Take turns with other processes in writing the report of a folder, even while a run is in progress there.

    Args:
        folder: The folder of an experiment or of a run; in any other folder, no lock is written.

    Yields:
        Nothing.
    """
    if not _holds_runs(no_linked_run(folder)):
        yield
        return
    with turn(folder):
        yield


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Wait for this process's turn to write what concerns all runs of a folder: its record or its report.

    Args:
        folder: The folder of an experiment or of a run.

    Yields:
        Nothing.
    """
    with open(os.open(folder / _REPORT, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _holds_runs(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("experiment.yaml", "config.yaml"))


def alone(function: Callable[Concatenate[Place, P], T]) -> Callable[Concatenate[Place, P], T]:
    """Decorate a function that writes into the folder of an experiment, or of a run in one, to hold its lock.

    Args:
        function: Takes the folder as its first argument.

    Returns:
        The function, which locks the folder.
    """

    @wraps(function)
    def exclusive(given: Place, /, *args: P.args, **kwargs: P.kwargs) -> T:
        folder = no_linked_run(Path(given))
        of_run = (folder / "config.yaml").exists() and (folder.resolve().parent / "experiment.yaml").exists()
        place = folder.resolve().parent if of_run else folder
        if not _holds_runs(place):
            return function(given, *args, **kwargs)  # which reports that there is no run
        with locked(place):
            return function(given, *args, **kwargs)

    return exclusive
