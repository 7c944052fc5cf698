"""What a run uses: RUN/usage.json, the only file of a run with times, which differ whenever it is executed."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from basinet.sim.experiment.mistakes import ExperimentError
from basinet.sim.run.files import read_json, sealed_json, write_atomically

__all__ = ["UsageRecord", "load_usage"]

_NAME = "usage.json"


class UsageRecord:
    """Writes what a run uses, at each sign of life that it gives.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._first: tuple[int, float, float] | None = None
        self._last = self._longest = 0.0

    def write(self, step: int, workers: Sequence[dict[str, Any]]) -> None:
        """Replace what has been written.

        Args:
            step: The step that has been reached.
            workers: What each worker uses, see `UsageMeter.read`.
        """
        now = time.monotonic()
        if self._first is None:
            self._first, self._last = (step, time.time(), now), now
        self._longest, self._last = max(self._longest, now - self._last), now
        from_step, began, at = self._first
        known = {"step": step, "from_step": from_step, "began": began, "seconds": now - at}
        text = sealed_json(known | {"longest_pause": self._longest, "workers": list(workers)})
        if self._folder.is_dir():  # otherwise the status, which is written next, cannot be, and says so
            write_atomically(self._folder / _NAME, text, sync=False)


def load_usage(folder: Path) -> dict[str, Any]:
    """Read what a run uses, or used at its end.

    Args:
        folder: The run's folder.

    Returns:
        `workers`, what each worker uses, see `UsageMeter.read`; `step`; `from_step` and `began`, where and when (in
        seconds since the epoch) these workers gave the first sign of life; `seconds`, the time since then; and
        `longest_pause`, the longest time in seconds between two signs. Nothing if it is not known.
    """
    try:
        return read_json(folder / _NAME)
    except (ExperimentError, OSError):
        return {}
