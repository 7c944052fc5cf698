"""Waiting for other processes: for so long and no longer, and not in silence."""

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
"""The environment variable that says how long a process waits for others to be there."""

_SILENT_SECONDS = 10.0
"""Seconds after which somebody is told what is waited for."""

_LOOK_SECONDS = 0.2
"""Seconds between two looks, in which signals are heeded."""


def patience(otherwise: float) -> float:
    """Find how long to wait for others to be there.

    Args:
        otherwise: Seconds, if the environment does not say.

    Returns:
        Seconds.

    Raises:
        ExperimentError: The environment says something else than a positive number.
    """
    text = os.environ.get(WAIT, "").strip()
    try:
        seconds = float(text) if text else otherwise
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ExperimentError(f"{WAIT}: got {text!r}; allowed are positive numbers of seconds")
    return seconds


def in_time(work: Callable[[], T], what: str, seconds: float, remedy: str) -> T:
    """Do what waits for others, and give up when the time is over.

    Args:
        work: Runs in a thread of its own, which is left behind where it does not come to its end: what it calls may be
            deaf to signals and timeouts.
        what: Who is waited for.
        seconds: How long.
        remedy: What to do if they do not come.

    Returns:
        What the work returned.

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
    begun, told = time.monotonic(), False
    while thread.is_alive() and time.monotonic() - begun < seconds:
        thread.join(_LOOK_SECONDS)
        if not told and time.monotonic() - begun > _SILENT_SECONDS:
            told = True
            print(f"waiting for {what}, for at most {seconds:g} s", file=sys.stderr)  # noqa: T201
    if errors:
        raise ExperimentError(f"{what}: {first_line(errors[0])}; {remedy}") from errors[0]
    if not results:
        raise ExperimentError(f"{what}: not there after {seconds:g} s ({WAIT} sets how long to wait); {remedy}")
    return results[0]
