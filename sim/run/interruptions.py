"""Interruptions: the signals that ask a process to stop, and their temporary handlers."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["INTERRUPTIONS", "answering", "stopping"]

INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C; preemption on a cluster; a closed terminal."""


@contextmanager
def answering(answer: Callable[[int], None]) -> Iterator[None]:
    """Handle interruptions within this context; an ignored hang-up, as set by `nohup`, stays ignored.

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
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def stopping(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """Turn an interruption into a request to stop; a second Ctrl-C interrupts at once.

    Args:
        say: Called with a message about what will happen.

    Yields:
        An event that an interruption sets.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed twice.
    """
    stop = threading.Event()

    def answer(number: int) -> None:
        if not stop.is_set():
            stop.set()
            say("stopping after the next step, with a checkpoint; interrupt again to stop at once")
        # Other signals may arrive twice: from a scheduler to all processes, and from the launcher.
        elif number == signal.SIGINT:
            raise KeyboardInterrupt("interrupted twice: the last checkpoints are on disk")

    with answering(answer):
        yield stop
