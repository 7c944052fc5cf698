"""Threads of gloo, which must not take the processor from the thread that computes."""

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["let_gloo_wait"]

_NAME = "gloo_tcp_loop"


def let_gloo_wait() -> None:
    """Let the threads in which gloo receives wait for a free processor; does nothing where there is no Linux.

    The first answer of a neighbour wakes such a thread while this one still holds the connection's lock in `send`. On
    the processor of this one, it would take its place, and try the lock again and again for milliseconds.
    """
    with suppress(OSError, AttributeError):
        for thread in Path("/proc/self/task").iterdir():
            if (thread / "comm").read_text(encoding="utf-8").startswith(_NAME):
                os.sched_setscheduler(int(thread.name), os.SCHED_BATCH, os.sched_param(0))
