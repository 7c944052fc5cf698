"""The bootstrap: intervals and tests from resampled data."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["RESAMPLES", "bootstrap_interval", "bootstrap_p", "resamples"]

RESAMPLES = 4000
"""Number of resamples: enough for p-values below 0.05 / 100."""


def resamples(count: int, *, seed: int, number: int = RESAMPLES) -> NDArray[np.int64]:
    """Draw samples with replacement.

    Args:
        count: Number of items.
        seed: Seed of the random numbers. What is computed from the same resamples is paired.
        number: Number of resamples.

    Returns:
        Places of items [number, count].
    """
    return np.random.default_rng(seed).integers(count, size=(number, count))


def bootstrap_interval(draws: NDArray[np.float64], count: int) -> tuple[float, float]:
    """Compute a 95 % interval by the percentile bootstrap.

    Args:
        draws: The estimate in each resample; resamples in which it does not exist, NaN, are left out.
        count: Number of items in a resample.

    Returns:
        The ends of the interval; NaN if it exists in none, or if there is a single item, whose resamples are all equal.
    """
    known = draws[~np.isnan(draws)]
    if not len(known) or count < 2:
        return float("nan"), float("nan")
    # "lower" and "higher" interpolate nothing, so that infinite values are possible.
    low = np.quantile(known, 0.025, method="lower")
    high = np.quantile(known, 0.975, method="higher")
    return float(low), float(high)


def bootstrap_p(draws: NDArray[np.float64], count: int) -> float:
    """Compute the two-sided p-value of a difference of zero, by inverting the percentile bootstrap.

    It is no smaller than 2^(1 − count), the least of a sign test: resamples of few items vary too little.

    Args:
        draws: The difference in each resample; resamples in which it does not exist, NaN, are left out.
        count: Number of items in a resample.

    Returns:
        The p-value; NaN if the difference exists in no resample.

    Example:
        >>> bootstrap_p(np.array([1.0, 2.0, 1.5]), 100), bootstrap_p(np.array([1.0, 2.0, 1.5]), 1)
        (0.5, 1.0)
    """
    known = draws[~np.isnan(draws)]
    if not len(known):
        return float("nan")
    fewer = min((known <= 0).sum(), (known >= 0).sum())
    return min(1.0, max(2 * float(fewer + 1) / (len(known) + 1), 2.0 ** (1 - count)))
