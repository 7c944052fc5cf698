"""Workers that hang: each tells, from a thread of its own, where it is; those that do not, or stay there, are named.

A process that is stopped or whose machine is gone keeps its connections open, and one that waits for what never comes
is alive: neither ends a call by itself. How long a call may take is learnt from the calls before it.
"""

import json
import logging
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basinet.sim.runtimes.meeting import patience

__all__ = ["SILENCE", "Address", "Heart", "Silence"]

_log = logging.getLogger(__name__)

SILENCE = "BASINET_SILENCE_SECONDS"
"""The environment variable that sets after how many seconds without an answer a worker is taken to hang."""

_FLOOR = 300.0
"""Its default: one piece of C code may well keep a process from answering for a minute."""

_FACTOR = 20.0
"""How many times longer than the longest one so far a call may take."""

_LOOKS = 10
"""Looks in a row without an answer: counted, since this process may have been stopped itself."""

_ANSWER_SECONDS = 2.0
"""Time limit of one answer."""

_LONGEST_ANSWER = 10_000
"""Most characters of one answer."""

_STOP = b"stop\n"
"""Says to a worker that asks nothing more: stop."""

_PASSING_SECONDS = 0.5
"""Seconds between two looks whether workers are to stop."""

_MOST_NAMED = 4
"""Most workers that a sentence names."""


@dataclass(frozen=True)
class Address:
    """Where a worker can be asked how it is.

    Attributes:
        host: Host or IP address.
        port: Port.
        machine: Name of the machine, for messages.
        process: Its process.
    """

    host: str
    port: int
    machine: str
    process: int

    def ask(self) -> dict[str, Any]:
        """Ask the worker how it is.

        Returns:
            Its `step`, None if it hosts no run; and its `place`, the line of code that it executes.

        Raises:
            OSError: It does not answer.
            ValueError: Something else does.
        """
        with self._connected() as connection, connection.makefile() as file:
            answer = json.loads(file.readline(_LONGEST_ANSWER))
        if not (isinstance(answer, dict) and answer.keys() >= {"step", "place"}):
            raise ValueError(f"not the answer of a worker: {answer}")
        return answer

    def stop(self) -> None:
        """Tell the worker to stop long work; one that cannot be reached goes on."""
        with suppress(OSError), self._connected() as connection:
            connection.sendall(_STOP)
            while connection.recv(_LONGEST_ANSWER):  # until it has heard
                pass

    def _connected(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=_ANSWER_SECONDS)


class Heart:
    """Tells whoever asks where the thread that made it is, and hears whether that is to stop long work.

    Args:
        host: Host or IP address under which the others can reach this process.
        step: Returns the step of its run, or None.

    Attributes:
        address: Where to ask.
        stop: Set if it is to stop.
    """

    def __init__(self, host: str, step: Callable[[], int | None]) -> None:
        self._step = step
        self.stop = threading.Event()
        self._thread = threading.get_ident()
        family = socket.getaddrinfo(host, None)[0][0]
        self._server = socket.create_server((host, 0), family=family)
        self.address = Address(host, self._server.getsockname()[1], socket.gethostname(), os.getpid())
        threading.Thread(target=self._answer, name="heart", daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:  # closed
                return
            with suppress(OSError), connection:
                connection.settimeout(_ANSWER_SECONDS)
                connection.sendall(f"{json.dumps({'step': self._step(), 'place': self._place()})}\n".encode())
                if connection.recv(len(_STOP)) == _STOP:
                    self.stop.set()

    def _place(self) -> str:
        frame = sys._current_frames().get(self._thread)
        return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else "?"

    def close(self) -> None:
        """Answer no more."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes the thread, which closing does not
        self._server.close()


class Silence:
    """Tells which workers hang, of those that can be asked from here at first: a firewall may keep others from it.

    Args:
        workers: Where each can be asked, by its number.

    Attributes:
        pause: Seconds between two looks.
    """

    def __init__(self, workers: dict[int, Address]) -> None:
        self.workers = workers
        self.floor = patience(_FLOOR, SILENCE)
        self.pause = self.floor / _LOOKS
        self._longest: dict[str, float] = {}
        self._missed = dict.fromkeys(workers, 0)
        self._call: tuple[str, float] | None = None
        self._looks = 0
        with ThreadPoolExecutor(max(1, len(workers))) as pool:
            answering = pool.map(_answers, workers.values())
            self._reached = [number for number, answers in zip(workers, answering, strict=True) if answers]
        if unreached := [number for number in workers if number not in self._reached]:
            _log.warning("%s cannot be asked from here: nobody will notice if they hang", self._names(unreached))

    @contextmanager
    def during(self, work: str, amount: float = 1.0) -> Iterator[None]:
        """Watch over a call, and learn from it how long such a call takes.

        Args:
            work: Its kind.
            amount: How much it does of it.

        Yields:
            Nothing.
        """
        self._call, self._looks = (work, amount), 0
        begun = time.monotonic()
        try:
            yield
        finally:
            self._call = None
        spent = (time.monotonic() - begun) / max(amount, 1.0)
        self._longest[work] = max(spent, self._longest.get(work, 0.0))

    @contextmanager
    def passing_on(self, stop: threading.Event, heard: threading.Event | None = None) -> Iterator[None]:
        """Tell the workers to stop, within this context, as soon as this process is to.

        Args:
            stop: Set if it is to.
            heard: Set if one of the workers asks for it.

        Yields:
            Nothing.
        """
        ended = threading.Event()

        def pass_on() -> None:
            while not (stop.is_set() or (heard is not None and heard.is_set())):
                if ended.wait(_PASSING_SECONDS):
                    return
            stop.set()
            for number in self._reached:
                self.workers[number].stop()

        thread = threading.Thread(target=pass_on, name="passing on", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def allowed(self, work: str, amount: float) -> float:
        """Tell how long a call may take.

        Args:
            work: Its kind.
            amount: How much it does of it.

        Returns:
            Seconds; infinite before the first one of its kind has ended.
        """
        longest = self._longest.get(work)
        return math.inf if longest is None else max(self.floor, _FACTOR * longest * amount)

    def look(self) -> str | None:
        """Ask the workers how they are; called every `pause` seconds.

        Returns:
            Which ones hang, in a sentence; None if there is no reason to think so.
        """
        found = self._ask()
        if silent := [number for number in self._reached if self._missed[number] >= _LOOKS]:
            return f"{self._names(silent)} {_have(silent)} not answered for {self.floor:g} s"
        if (call := self._call) is None:
            return None
        self._looks += 1
        if not found or self._looks * self.pause <= self.allowed(*call):
            return None
        steps = [answer["step"] for answer in found.values() if answer["step"] is not None]
        last = [number for number, answer in found.items() if answer["step"] == min(steps, default=None)]
        where = ", ".join(dict.fromkeys(f"step {found[n]['step']} in {found[n]['place']}" for n in last[:_MOST_NAMED]))
        return (
            f"{self._names(last)} {_have(last)} not ended a piece of work for {self._looks * self.pause:g} s that took"
            f" at most {self._longest[call[0]] * call[1]:.3g} s before: at {where}"
        )

    def forget(self) -> None:
        """Forget how often workers have not answered, while nobody needs them."""
        self._missed = dict.fromkeys(self.workers, 0)

    def absent(self, excused: Callable[[int], bool] = lambda _: False) -> str | None:
        """Look for workers that do not answer right now, where others have lost the connection to one.

        Args:
            excused: Whether a worker that does not answer has left word why.

        Returns:
            Which ones do not, and are not excused, in a sentence; None if there are none.
        """
        found = self._ask()
        missing = [number for number in self._reached if number not in found and not excused(number)]
        return f"{self._names(missing)} {'is' if len(missing) == 1 else 'are'} gone" if missing else None

    def _ask(self) -> dict[int, dict[str, Any]]:
        """Ask the workers how they are; count the times that one has not answered."""
        found = {}
        for number in self._reached:
            try:
                found[number] = self.workers[number].ask()
                self._missed[number] = 0
            except (OSError, ValueError):
                self._missed[number] += 1
        return found

    def _names(self, numbers: Sequence[int]) -> str:
        named = [
            f"worker {number} (process {self.workers[number].process} on {self.workers[number].machine})"
            for number in numbers[:_MOST_NAMED]
        ]
        more = len(numbers) - len(named)
        return ", ".join(named) + (f" and {more} more" if more else "")


def _answers(address: Address) -> bool:
    """Return whether a worker answers."""
    with suppress(OSError, ValueError):
        return bool(address.ask())
    return False


def _have(numbers: Sequence[int]) -> str:
    return "has" if len(numbers) == 1 else "have"
