"""Who works in the folder of an experiment, as its lock and the signs of life of its runs tell."""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basinet.sim.experiment.mistakes import ExperimentError
from basinet.sim.run.files import LOCKS, plain_file
from basinet.sim.run.lock import start_of

__all__ = ["Holder", "holder_of", "patience_of"]

_LEAST_PATIENCE = 120.0
"""Seconds of silence that say nothing, however often a run has given signs of life."""

_PAUSES = 20
"""How many times its longest pause a run may be silent."""


@dataclass(frozen=True)
class Holder:
    """The process that has locked a folder.

    Attributes:
        process: Its number.
        host: Its machine.
        start: When it started, as `start_of` says; "" if that is not known.
    """

    process: int
    host: str
    start: str = ""

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    def has_ended(self, silence: float, patience: float) -> bool:
        """Return whether the process has ended without releasing its lock, as the death of its machine makes it.

        Args:
            silence: Seconds since the last sign of life of its run: all that is known of a process on another machine.
            patience: Longest silence of a run that lives, see `patience_of`.

        Returns:
            Whether it has.
        """
        if self.host != socket.gethostname():
            return silence > patience
        try:
            os.kill(self.process, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            pass
        return bool(self.start) and start_of(self.process) != self.start


def holder_of(folder: Path) -> Holder | None:
    """Read who has locked the folder of an experiment.

    Args:
        folder: The folder.

    Returns:
        The process; None if there is none.
    """
    try:
        text = plain_file(folder / LOCKS[0]).read_text(encoding="utf-8", errors="replace")
    except (ExperimentError, OSError):
        return None
    found = re.match(r"process (\d+) on (\S+)\n(\d*)", text + "\n")
    return Holder(int(found[1]), found[2], found[3]) if found else None


def patience_of(usage: Mapping[str, Any]) -> float:
    """Derive from the pauses of a run how long it may be silent and yet live.

    Args:
        usage: What it uses, see `load_usage`.

    Returns:
        Seconds; infinite if it has not said how often it gives signs of life.
    """
    return max(_LEAST_PATIENCE, _PAUSES * usage["longest_pause"]) if usage else float("inf")
