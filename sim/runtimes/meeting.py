"""Meeting other processes: waiting for them, with a timeout and a message, and agreeing on a name."""

import math
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.mistakes import first_line

__all__ = ["WAIT", "in_time", "own_host", "patience", "session"]

T = TypeVar("T")

WAIT = "BASINET_WAIT_SECONDS"
"""The environment variable that sets how long a process waits for others, in seconds."""

_SILENT_SECONDS = 10.0
"""Seconds after which a message says what is waited for."""

_LOOK_SECONDS = 0.2
"""Seconds between two polls, at which signals are handled."""

_STORE_SECONDS = 0.05
"""Seconds between two looks into a store."""


def patience(otherwise: float, variable: str = WAIT) -> float:
    """Return how long to wait for other processes.

    Args:
        otherwise: Default in seconds, if the environment variable is not set.
        variable: The environment variable.

    Returns:
        The time in seconds.

    Raises:
        ExperimentError: The environment variable is not a positive number.
    """
    text = os.environ.get(variable, "").strip()
    try:
        seconds = float(text) if text else otherwise
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ExperimentError(f"{variable}: got {text!r}; allowed are positive numbers of seconds")
    return seconds


def in_time(work: Callable[[], T], what: str, seconds: float, remedy: str) -> T:
    """Do work that waits for others, and give up after a timeout.

    Args:
        work: Runs in a thread, which is abandoned at the timeout, since what it calls may ignore signals and timeouts.
        what: What is waited for.
        seconds: The timeout.
        remedy: What to do if it does not appear.

    Returns:
        The result of the work.

    Raises:
        ExperimentError: The work failed, or was not done in time.
    """
    results: list[T] = []
    errors: list[Exception] = []

    def attempt() -> None:
        try:
            results.append(work())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    begun, announced = time.monotonic(), False
    while thread.is_alive() and time.monotonic() - begun < seconds:
        thread.join(_LOOK_SECONDS)
        if not announced and time.monotonic() - begun > _SILENT_SECONDS:
            announced = True
            print(f"waiting for {what}, for at most {seconds:g} s", file=sys.stderr)  # noqa: T201
    if errors:
        raise ExperimentError(f"{what}: {first_line(errors[0])}; {remedy}") from errors[0]
    if not results:
        raise ExperimentError(f"{what}: not there after {seconds:g} s ({WAIT} sets how long to wait); {remedy}")
    return results[0]


def session(store: Any, rank: int, size: int) -> str:
    """Agree on a name for this meeting; the store may still hold what ranks have left that have been restarted.

    Args:
        store: The store of all ranks.
        rank: This rank.
        size: Number of ranks.

    Returns:
        The name: the first rank chooses it, and confirms it with the names that the others have chosen for themselves.
    """
    own = uuid.uuid4().hex
    if rank == 0:
        store.set("session", own)
        store.set(f"{own} met", b" ".join(store.get(f"{own} {other}") for other in range(1, size)))
        return own
    while True:
        name: str = store.get("session").decode()
        store.set(f"{name} {rank}", own)
        while store.get("session").decode() == name:
            if store.check([f"{name} met"]) and own.encode() in store.get(f"{name} met"):
                return name
            time.sleep(_STORE_SECONDS)


def own_host() -> str:
    """Find out how others can reach this machine.

    Returns:
        The address from which it reaches the first rank.
    """
    kind, _, _, _, there = socket.getaddrinfo(os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"])[0]
    with socket.socket(kind, socket.SOCK_DGRAM) as probe:
        probe.connect(there)  # sends nothing
        return str(probe.getsockname()[0])
