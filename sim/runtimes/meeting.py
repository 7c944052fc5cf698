"""Waiting for other processes, with a timeout and a message."""

import math
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.mistakes import first_line

__all__ = ["WAIT", "in_time", "patience"]

T = TypeVar("T")

WAIT = "BASINET_WAIT_SECONDS"
"""The environment variable that sets how long a process waits for others, in seconds."""

_SILENT_SECONDS = 10.0
"""Seconds after which a message says what is waited for."""

_LOOK_SECONDS = 0.2
"""Seconds between two polls, at which signals are handled."""


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
