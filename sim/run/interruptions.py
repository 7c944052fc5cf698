"""Interruptions: the signals that ask a process to stop, their temporary handlers, and long work that obeys them."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["INTERRUPTIONS", "WorkStopped", "answering", "go_on", "stopping", "watching"]

INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Ctrl-C; preemption on a cluster; a closed terminal; a time limit of Slurm that is near, on many clusters."""

_ECHO_SECONDS = 10.0
"""Seconds within which the same interruption may arrive once more, by way of a launcher."""


@contextmanager
def answering(answer: Callable[[int], None]) -> Iterator[None]:
    """Handle interruptions within this context; an ignored hang-up, as set by `nohup`, stays ignored.

    What is ignored by the end of the context stays so, too.

    Args:
        answer: Called with the signal number. Handlers are only set in the main thread; elsewhere, this does nothing.

    Yields:
        Nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in INTERRUPTIONS}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]
    for number in before:
        signal.signal(number, lambda number, frame: answer(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def stopping(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """Turn an interruption into a request to stop; a second one interrupts at once.

    Args:
        say: Called with a message about what will happen.

    Yields:
        An event that an interruption sets.

    Raises:
        KeyboardInterrupt: There was a second interruption.
    """
    stop = threading.Event()
    asked_at = 0.0

    def answer(number: int) -> None:
        nonlocal asked_at
        if not stop.is_set():
            asked_at = time.monotonic()
            stop.set()
            say(
                "stopping: training after the next step and an evaluation after the next batch, with a checkpoint, an"
                " analysis with the measures that are finished; interrupt again to stop at once"
            )
        # Other signals arrive twice: from a scheduler to all processes, and from the launcher.
        elif number == signal.SIGINT or time.monotonic() - asked_at > _ECHO_SECONDS:
            raise KeyboardInterrupt("interrupted twice: the last checkpoints are on disk")

    with answering(answer):
        yield stop


class WorkStopped(Exception):
    """Long work was asked to stop before its end."""


@dataclass
class _Watch:
    """Who may stop the work of this thread, who is told of it, and what it is."""

    stop: threading.Event
    tell: Callable[[str], None]
    what: str = ""


_WATCH: ContextVar[_Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watching(stop: threading.Event, tell: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Let long work within this context be stopped and followed, if it is done in this thread.

    Args:
        stop: Set to stop it.
        tell: Called often, with what is being done.

    Yields:
        Nothing.
    """
    token = _WATCH.set(_Watch(stop, tell))
    try:
        yield
    finally:
        _WATCH.reset(token)


def go_on(what: str | None = None) -> None:
    """Go on with long work, unless it is to stop; outside `watching`, this does nothing.

    Args:
        what: What begins now; None within it.

    Raises:
        WorkStopped: It is to stop.
    """
    watch = _WATCH.get()
    if watch is None:
        return
    if watch.stop.is_set():
        raise WorkStopped
    watch.what = watch.what if what is None else what
    watch.tell(watch.what)
