"""Interruptions: the signals that ask a process to stop, and who answers them meanwhile."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["INTERRUPTIONS", "answering", "stopping"]

INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C; a cluster that takes a machine back; a terminal that is closed."""


@contextmanager
def answering(answer: Callable[[int], None]) -> Iterator[None]:
    """Answer interruptions for a while; a hang-up that is ignored, as `nohup` has it, stays so.

    Args:
        answer: Is given the signal. It is called in the main thread: elsewhere this does nothing.

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
    """Turn an interruption into a wish to stop; a second Ctrl-C interrupts at once.

    Args:
        say: Is told what will happen.

    Yields:
        What an interruption sets.

    Raises:
        KeyboardInterrupt: The second Ctrl-C.
    """
    stop = threading.Event()

    def answer(number: int) -> None:
        if not stop.is_set():
            stop.set()
            say("stopping after the next step, with a checkpoint; interrupt again to stop at once")
        # Others may come twice: from a scheduler to all processes, and from the one that has started them.
        elif number == signal.SIGINT:
            raise KeyboardInterrupt("interrupted twice: what the last checkpoints hold is on disk")

    with answering(answer):
        yield stop
