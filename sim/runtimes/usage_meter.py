"""What a worker uses: time, bytes on the wire, and memory."""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from basinet.sim.agents.block import Block

__all__ = ["UsageMeter"]


class UsageMeter:
    """Lets a worker take its steps, and measures what it uses meanwhile.

    Args:
        block: The agents of the worker.
        rank: Number of the worker.
    """

    def __init__(self, block: "Block", rank: int) -> None:
        self._block = block
        self._rank = rank
        self._steps, self._seconds, self._waiting = 0, 0.0, 0.0
        self._begins = False

    def begin_anew(self) -> None:
        """Let the next step begin another mean; until then, the last one stays."""
        self._begins = True

    def advance(self, until: int) -> None:
        """Take steps.

        Args:
            until: The step to stop at.
        """
        if self._begins:
            self._steps, self._seconds, self._waiting = 0, 0.0, 0.0
            self._begins = False
        block, channel = self._block, self._block.channel
        step, waiting, begun = block.step, channel.waiting_seconds, time.perf_counter()
        block.advance(until)
        if block.x.is_cuda:  # which is ahead of its results
            torch.cuda.synchronize(block.x.device)
        self._seconds += time.perf_counter() - begun
        self._waiting += channel.waiting_seconds - waiting
        self._steps += block.step - step

    def read(self) -> dict[str, Any]:
        """Return what the worker uses.

        Returns:
            `rank`, `host` and `device`; `step_seconds`, the mean wall time of a step since the last evaluation, and
            `waiting_seconds`, its part that is spent waiting for other workers, both None before the first step;
            `sent_bytes`, on the wire since the worker started; and `memory_bytes`, reserved on a GPU, or resident.
        """
        taken, device = self._steps, self._block.x.device
        return {
            "rank": self._rank,
            "host": socket.gethostname(),
            "device": str(device),
            "step_seconds": self._seconds / taken if taken else None,
            "waiting_seconds": self._waiting / taken if taken else None,
            "sent_bytes": self._block.channel.wire_bytes,
            "memory_bytes": torch.cuda.memory_reserved(device) if device.type == "cuda" else _resident(),
        }


def _resident() -> int | None:
    """Return the memory of this process that is in use, in bytes; None if the system does not say."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None
