"""Quantities with units: times in integer nanoseconds, sizes in bytes, rates in bytes per second.

Networks are described in words such as ``50 us`` and ``10 Gb/s``. Bits (b) and bytes (B), powers of ten (G) and of two
(Gi) are told apart, and a number without a unit is refused: a factor of eight or a thousand shows in no plot.
"""

import re
from fractions import Fraction
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Quantity",
    "nanoseconds",
    "rate",
    "share",
    "show_rate",
    "show_size",
    "show_time",
    "size",
    "speed",
    "transfer",
]

Quantity = str | int | float
"""A number with its unit. A bare number is accepted only to be refused with a sentence that names the unit wanted."""

_TIMES = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
_DECIMAL = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_PREFIXES = _DECIMAL | {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_SIZES = {f"{prefix}B": Fraction(factor) for prefix, factor in _PREFIXES.items()}
_RATES = {f"{prefix}B{per}": Fraction(factor) for prefix, factor in _PREFIXES.items() for per in ("/s", "ps")} | {
    f"{prefix}{bit}": Fraction(factor, 8) for prefix, factor in _PREFIXES.items() for bit in ("b/s", "bps", "bit/s")
}
_SPEEDS = {
    f"{prefix}{unit}": Fraction(factor)
    for prefix, factor in (_DECIMAL | {"P": 10**15}).items()
    for unit in ("FLOP/s", "FLOPS")
}
_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*([^\d\s.]\S*)?\s*", re.ASCII)
_LONGEST = 2**62
"""Nanoseconds: 146 years. Sums of two do not overflow."""


def nanoseconds(text: Quantity) -> int:
    """Read a time, rounded to whole nanoseconds.

    Args:
        text: A non-negative number and one of ns, us, ms, s, min and h.

    Returns:
        Nanoseconds.

    Raises:
        ValueError: If it is no such time, or longer than 146 years.

    Example:
        >>> nanoseconds("50 us"), nanoseconds("1.5 s")
        (50000, 1500000000)
    """
    time = round(_read(text, {unit: Fraction(factor) for unit, factor in _TIMES.items()}, "a time", "50 us"))
    if time > _LONGEST:
        raise ValueError(f"got {text!r}; a time must be at most 146 years")
    return time


def rate(text: Quantity) -> float:
    """Read a bandwidth.

    Args:
        text: A positive number and a unit: b/s, bit/s or bps for bits, B/s for bytes, after k, M, G, T (powers of
            1000) or Ki, Mi, Gi, Ti (powers of 1024); or ``inf``.

    Returns:
        Bytes per second.

    Raises:
        ValueError: If it is no such bandwidth.

    Example:
        >>> rate("10 Gb/s"), rate("1 GiB/s")
        (1250000000.0, 1073741824.0)
    """
    if isinstance(text, str) and text.strip() == "inf":
        return float("inf")
    read = float(_read(text, _RATES, "a bandwidth", "10 Gb/s"))
    if not read:
        raise ValueError(f"got {text!r}; a bandwidth must be positive")
    return read


def speed(text: Quantity) -> float:
    """Read the speed of a processor.

    Args:
        text: A positive number and FLOP/s or FLOPS, after k, M, G, T or P (powers of 1000).

    Returns:
        Floating-point operations per second.

    Raises:
        ValueError: If it is no such speed.

    Example:
        >>> speed("20 TFLOP/s")
        20000000000000.0
    """
    read = float(_read(text, _SPEEDS, "a speed", "20 TFLOP/s"))
    if not read:
        raise ValueError(f"got {text!r}; a speed must be positive")
    return read


def size(text: Quantity) -> int:
    """Read a size.

    Args:
        text: A non-negative number and a unit: B after k, M, G, T (powers of 1000) or Ki, Mi, Gi, Ti (powers of 1024).

    Returns:
        Bytes.

    Raises:
        ValueError: If it is no such size, or no whole number of bytes.

    Example:
        >>> size("100 MB"), size("1 MiB")
        (100000000, 1048576)
    """
    read = _read(text, _SIZES, "a size", "100 MB")
    if read.denominator != 1:
        raise ValueError(f"got {text!r}; a size must be a whole number of bytes")
    return int(read)


def share(text: Quantity) -> float:
    """Read the share of messages that are lost.

    Args:
        text: A number in [0, 1), or in [0, 100) before a percent sign.

    Returns:
        The share.

    Raises:
        ValueError: If it is no such share.

    Example:
        >>> share("0.5 %"), share("0.005")
        (0.005, 0.005)
    """
    units = {"": Fraction(1), "%": Fraction(1, 100)}
    read = float(_read(str(text), units, "a loss", "0.5 %"))
    if read >= 1:
        raise ValueError(f"got {text!r}; a loss must be below 1, or below 100 %")
    return read


def _read(text: Quantity, units: dict[str, Fraction], what: str, example: str) -> Fraction:
    """Return a non-negative number in the base unit."""
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if (match is None or not match[2]) and "" not in units:
        raise ValueError(f"got {text!r}; {what} needs a number and a unit, such as {example}")
    if match is None or (match[2] or "") not in units:
        known = ", ".join(unit for unit in units if unit)
        raise ValueError(f"got {text!r}; {what} is given in one of {known}, such as {example}")
    number = Fraction(match[1])
    if number < 0:
        raise ValueError(f"got {text!r}; {what} must not be negative")
    return number * units[match[2] or ""]


@overload
def transfer(size: int, rate: float) -> int: ...
@overload
def transfer(size: ArrayLike, rate: ArrayLike) -> NDArray[np.int64]: ...
def transfer(size: ArrayLike, rate: ArrayLike) -> int | NDArray[np.int64]:
    """Return how long messages take through a line, without its latency: size / rate, to the nearest nanosecond.

    Args:
        size: Bytes.
        rate: Bytes per second; the result is 0 where it is infinite.

    Returns:
        Nanoseconds: an int for two numbers, int64 of the common shape for arrays.

    Raises:
        ValueError: If it takes longer than 146 years.

    Example:
        >>> transfer(1_048_576, rate("50 GiB/s"))
        19531
    """
    times = np.rint(np.asarray(size, np.float64) * 1e9 / np.asarray(rate, np.float64))
    if not np.all(times <= _LONGEST):
        raise ValueError(f"a message of {show_size(int(np.max(size)))} at {show_rate(float(np.min(rate)))} takes ages")
    whole = times.astype(np.int64)
    return int(whole) if whole.ndim == 0 else whole


def show_time(time: float) -> str:
    """Return a time in words.

    Args:
        time: Nanoseconds.

    Returns:
        Four digits and a unit.

    Example:
        >>> show_time(20_031), show_time(90 * 10**9)
        ('20.03 us', '90 s')
    """
    scales = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "h": 3600 * 10**9}
    return _show(time, scales)


def show_rate(rate: float) -> str:
    """Return a bandwidth in words, in bits.

    Args:
        rate: Bytes per second.

    Returns:
        Four digits and a unit.

    Example:
        >>> show_rate(1.25e9)
        '10 Gb/s'
    """
    return _show(8 * rate, {f"{prefix}b/s": factor for prefix, factor in _DECIMAL.items() if prefix != "K"})


def show_size(size: float) -> str:
    """Return a size in words.

    Args:
        size: Bytes.

    Returns:
        Four digits and a unit.

    Example:
        >>> show_size(44_961_717)
        '44.96 MB'
    """
    return _show(size, {f"{prefix}B": factor for prefix, factor in _DECIMAL.items() if prefix != "K"})


def _show(value: float, scales: dict[str, int]) -> str:
    """Write a value in the largest unit of which it has at least one."""
    unit = next((unit for unit, factor in reversed(scales.items()) if abs(value) >= factor), next(iter(scales)))
    number = value / scales[unit]
    return f"{number:.4g} {unit}" if abs(number) < 10**4 else f"{number:,.0f} {unit}"
