"""Ranges: values on an axis of a grid that are given by their ends."""

import math
import sys
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from basinet.sim.experiment.mistakes import ExperimentError, shown

__all__ = ["FORMS", "MOST_RUNS", "choices", "is_range"]

MOST_RUNS = 100_000
"""Largest number of runs in a grid."""

FORMS = {"range": "[start, stop, step]", "linear": "[first, last, number]", "log": "[first, last, number]"}
"""Keys of ranges, and what is given with each."""

_DIGITS = 12
"""Significant digits of values on a logarithmic scale, whose last ones would otherwise be rounding errors."""


def is_range(given: Any) -> bool:
    """Return whether a value is a range.

    Args:
        given: A value of an experiment.

    Returns:
        Whether it is a mapping with one of the keys of ranges and no other.
    """
    return isinstance(given, Mapping) and len(given) == 1 and next(iter(given)) in FORMS


def choices(key: str, given: Any) -> list[Any] | None:
    """Return the values that a list or a range stands for.

    Args:
        key: Its dotted key.
        given: A value of an experiment.

    Returns:
        The values; None if it is a single value. Integers stay integers if all values are.

    Raises:
        ExperimentError: It is a range without values, without an end, or of something else than numbers.

    Example:
        >>> choices("seed", {"range": [0, 6, 2]}), choices("optimizer.lr", {"log": [0.001, 1, 4]})
        ([0, 2, 4], [0.001, 0.01, 0.1, 1.0])
    """
    if not is_range(given):
        return given if isinstance(given, list) else None
    ((form, values),) = given.items()
    about = f"{key}: got {shown(dict(given))}; "
    numbers = [_number(value) for value in values] if isinstance(values, list | tuple) else []
    if len(numbers) != 3 or None in numbers:
        raise ExperimentError(f"{about}allowed is {form}: {FORMS[form]}, three finite numbers")
    first, last, third = (number for number in numbers if number is not None)
    if form == "range":
        found = _steps(about, Fraction(str(first)), Fraction(str(last)), Fraction(str(third)))
        return _typed(found, all(isinstance(number, int) for number in (first, last, third)))
    if not isinstance(third, int) or third < 2:
        raise ExperimentError(f"{about}the number of values must be an integer of 2 or more")
    _check_number(about, third)
    if form == "log":
        if first <= 0 or last <= 0:
            raise ExperimentError(f"{about}the ends of a logarithmic range must be positive")
        found = [Fraction(str(value)) for value in _logarithmic(first, last, third)]
    else:
        low, high = Fraction(str(first)), Fraction(str(last))
        found = [low + (high - low) * i / (third - 1) for i in range(third)]
    return _typed(found, isinstance(first, int) and isinstance(last, int))


def _number(value: Any) -> int | float | None:
    """Return a finite number as Python's own; None for anything else."""
    if isinstance(value, np.generic):
        value = value.item()
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return value if known and abs(value) <= sys.float_info.max else None  # also of integers that no float holds


def _steps(about: str, start: Fraction, stop: Fraction, step: Fraction) -> list[Fraction]:
    """Return the values from the start to before the stop."""
    if step == 0:
        raise ExperimentError(f"{about}a range with a step of 0 never ends")
    count = math.ceil((stop - start) / step)
    if count < 1:
        raise ExperimentError(f"{about}its step leads away from its stop, or there is no way to go")
    _check_number(about, count)
    return [start + i * step for i in range(count)]


def _check_number(about: str, count: int) -> None:
    if count > MOST_RUNS:
        raise ExperimentError(f"{about}it has {count:,} values, and a grid has at most {MOST_RUNS:,} runs")


def _logarithmic(first: float, last: float, count: int) -> list[float]:
    low, high = math.log(first), math.log(last)
    inner = [math.exp(low + (high - low) * i / (count - 1)) for i in range(1, count - 1)]
    return [first, *(float(f"{value:.{_DIGITS}g}") for value in inner), last]


def _typed(values: list[Fraction], whole: bool) -> list[Any]:
    whole = whole and all(value.denominator == 1 for value in values)
    return [int(value) if whole else float(value) for value in values]
