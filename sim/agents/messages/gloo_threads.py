"""Threads of gloo, which must not take the processor from the thread that computes."""

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["gloo_threads", "let_gloo_wait"]


def gloo_threads() -> list[int]:
    """Return the threads of this process in which gloo receives, as far as Linux tells."""
    found = []
    for thread in Path("/proc/self/task").glob("*"):
        with suppress(OSError):  # it has ended
            if (thread / "comm").read_text(encoding="utf-8").strip() == "gloo_tcp_loop":
                found.append(int(thread.name))
    return found


def let_gloo_wait() -> None:
    """Let these threads take a processor that is free, but not displace another thread when a message arrives.

    A neighbour's first answer arrives while `send` still holds the lock of the connection. In the place of that thread,
    gloo's would try the lock again and again, until the system takes the processor from it milliseconds later.
    """
    for thread in gloo_threads():
        with suppress(OSError):
            os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
