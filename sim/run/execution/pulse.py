"""How fast a run gets on, and how often it gives a sign of life."""

import time
from typing import Any

__all__ = ["Pulse"]


class Pulse:
    """Times the signs of life that a run gives by its status."""

    def __init__(self) -> None:
        self._first: tuple[int, float, float] | None = None
        self._last = self._longest = 0.0

    def told(self, step: int) -> dict[str, Any]:
        """Note a sign of life.

        Args:
            step: The step that has been reached.

        Returns:
            `from_step` and `began`, where and when (in seconds since the epoch) the first sign came; `seconds`, the
            time since then; and `longest_pause`, the longest time in seconds between two signs.
        """
        now = time.monotonic()
        if self._first is None:
            self._first, self._last = (step, time.time(), now), now
        self._longest, self._last = max(self._longest, now - self._last), now
        from_step, began, at = self._first
        return {"from_step": from_step, "began": began, "seconds": now - at, "longest_pause": self._longest}
