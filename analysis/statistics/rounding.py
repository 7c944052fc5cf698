"""Formatting of numbers with as many digits as their errors justify."""

import math
from collections.abc import Sequence

__all__ = ["plus_minus", "write_amount", "write_digits"]


def write_digits(values: Sequence[float], mean: float, error: float, *, join: str, sign: str = "") -> str:
    """Format values down to the second significant digit of a standard error.

    Args:
        values: The values.
        mean: The mean, which determines the power of ten.
        error: Its standard error, which determines the digits; a negligible one stands for exact values.
        join: Separator of the values.
        sign: "+" also writes the sign of positive values.

    Returns:
        The text.
    """
    if error <= 1e-6 * abs(mean):
        # Values below float32 rounding of the mean are zeros.
        return join.join(f"{value:{sign}.4g}" if abs(value) > 2**-23 * abs(mean) else "0" for value in values)
    power = math.floor(math.log10(max(abs(mean), error)))
    power = 0 if -4 < power < 5 else power
    decimals = max(0, 1 + power - int(f"{error:.1e}".split("e")[1]))
    text = join.join(f"{value / 10.0**power:{sign}.{decimals}f}" for value in values)
    return f"({text})e{power}" if power else text


def write_amount(number: float) -> str:
    """Format a large number of things that are counted, such as samples or bytes.

    Args:
        number: The number.

    Returns:
        The text; from a million on four digits of millions, or of larger units.

    Example:
        >>> [write_amount(number) for number in (512, 10_240, 12_390_400, 2.5e9)]
        ['512', '10,240', '12.39 M', '2.5 G']
    """
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= size * (1 - 5e-5):
            return f"{number / size:,.4g} {unit}" if number < 1e16 else f"{number:.4g}"
    return f"{number:,.0f}" if number >= 9999.5 else f"{number:.4g}"


def plus_minus(mean: float | None, error: float | None, *, join: str = " ± ") -> str:
    """Format a mean with as many digits as its standard error justifies.

    Args:
        mean: The mean, or None.
        error: Its standard error; if None, only the mean is written.
        join: Separator of the two.

    Returns:
        The text.

    Example:
        >>> plus_minus(0.96123, 0.00312)
        '0.9612 ± 0.0031'
    """
    if mean is None:
        return "–"
    return f"{mean:.4g}" if error is None else write_digits([mean, error], mean, error, join=join)
