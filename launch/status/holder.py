"""Who works in the folder of an experiment, as its lock tells."""

import os
import re
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from basinet.sim.experiment.mistakes import ExperimentError
from basinet.sim.run.files import LOCKS, plain_file
from basinet.sim.run.lock import start_of

__all__ = ["Holder", "holder_of", "worker_on"]

_PATIENCE = 300.0
"""Seconds after the last sign of life when a process on another machine is taken to have ended."""


@dataclass(frozen=True)
class Holder:
    """The process that has locked a folder.

    Attributes:
        process: Its number.
        host: Its machine.
        start: When it started, as `start_of` says; "" if that is not known.
        seen: When it last gave a sign of life, in seconds since the epoch.
        shared: Whether others may share the lock: this is then only the last to come, and each locks its runs.
    """

    process: int
    host: str
    start: str
    seen: float
    shared: bool = False

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    def has_ended(self) -> bool:
        """Return whether it has ended without releasing its lock, as if killed, or with its machine."""
        if self.host != socket.gethostname():
            return time.time() - self.seen > _PATIENCE
        try:
            os.kill(self.process, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            pass
        return bool(self.start) and start_of(self.process) != self.start


def holder_of(folder: Path) -> Holder | None:
    """Read who has locked a folder.

    Args:
        folder: The folder of an experiment or of a run.

    Returns:
        The process; None if there is none.
    """
    try:
        path = plain_file(folder / LOCKS[0])
        text, seen = path.read_text(encoding="utf-8", errors="replace"), path.stat().st_mtime
    except (ExperimentError, OSError):
        return None
    found = re.match(r"process (\d+) on (\S+)\n?(\d*)\n?(shared)?", text)
    return Holder(int(found[1]), found[2], found[3], seen, bool(found[4])) if found else None


def worker_on(folders: Iterable[Path], known: Callable[[Path], Holder | None] = holder_of) -> Holder | None:
    """Find who works on a run, or has left its lock behind.

    Args:
        folders: Those that this process may have locked. A lock that is shared tells nothing: each of its holders locks
            the run at which it is, too.
        known: Returns who has locked a folder.

    Returns:
        The process; None if there is none.
    """
    holders = [holder for holder in map(known, folders) if holder is not None and not holder.shared]
    return next((holder for holder in holders if not holder.has_ended()), next(iter(holders), None))
