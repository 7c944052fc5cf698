"""Survival analysis: times to an event, some of them censored by the end of the run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from operator import mul

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtri, gammaincinv, ndtri, polygamma

from basinet.sim.run.folder import Run

__all__ = ["MeanTime", "SpeedUp", "Survival", "escape_times", "kaplan_meier", "mean_time", "speed_up"]

Array = NDArray[np.float64]


def escape_times(run: Run) -> tuple[Array, NDArray[np.bool_]]:
    """Collect the escape times of a run's replicas; a replica that diverged has escaped.

    Args:
        run: A run whose experiment defines an escape.

    Returns:
        Steps, and whether the replica escaped then, [R] each; for the others, the last step of the run.
    """
    found = {row["replica"]: row["escape_step"] for row in run.metrics if "escape_step" in row}
    found = run.diverged | found
    replicas = range(run.config["replicas"])
    times = [found.get(replica, run.status["step"]) for replica in replicas]
    return np.array(times, dtype=float), np.array([replica in found for replica in replicas])


@dataclass(frozen=True, eq=False)
class Survival:
    """The Kaplan-Meier estimate of P(T > t), a step function.

    Attributes:
        times: Times at which it falls, ascending, [n].
        survival: Its value from each time on, [n].
        lower: Lower end of its pointwise interval, [n].
        upper: Upper end, [n].
        at_risk: Number at risk just before each time, [n].
        median: The first time at which at most half survive, computed exactly; infinite if there is none.
    """

    times: Array
    survival: Array
    lower: Array
    upper: Array
    at_risk: Array
    median: float

    @property
    def median_interval(self) -> tuple[float, float]:
        """Interval of the median: the times whose pointwise interval covers one half (Brookmeyer, Crowley 1982)."""
        return _first_below(self.times, self.lower), _first_below(self.times, self.upper)


def _first_below(times: Array, values: Array | Sequence[Fraction]) -> float:
    return next((float(time) for time, value in zip(times, values, strict=True) if value <= 0.5), math.inf)


def kaplan_meier(times: ArrayLike, happened: ArrayLike, *, level: float = 0.95) -> Survival:
    r"""Estimate the survival function from censored times (Kaplan-Meier).

    $$
    \hat S(t) = \prod_{t_i ≤ t} \left(1 - \frac{d_i}{n_i}\right), \qquad
    \widehat{\mathrm{Var}} \log(-\log \hat S) = \frac{1}{\log² \hat S} \sum_{t_i ≤ t} \frac{d_i}{n_i (n_i - d_i)} .
    $$

    The product is computed in fractions, so that it is exactly one half where it should be. The interval is Greenwood's
    on the log(−log S) scale, which keeps it between 0 and 1; for 30 times its coverage is within about 3 % of the
    nominal one. Once none survive, its width cannot be estimated, and its lower end is 0.

    Args:
        times: Times of the event or of censoring, [R].
        happened: Whether the event happened then, [R].
        level: Coverage of the pointwise intervals, in large samples.

    Returns:
        The curve.

    Raises:
        ValueError: If there are no times, the lengths differ, or a time is negative or NaN.

    Example:
        >>> curve = kaplan_meier([1, 2, 2, 3], [True, True, False, True])
        >>> curve.times.tolist(), curve.survival.tolist()
        ([1.0, 2.0, 3.0], [0.75, 0.5, 0.0])

    References:
        Kaplan, Meier: Nonparametric estimation from incomplete observations, JASA 53, 1958,
        doi:10.1080/01621459.1958.10501452. Kalbfleisch, Prentice: The statistical analysis of failure time data, 2002,
        doi:10.1002/9781118032985.
    """
    t, d = np.asarray(times, dtype=float), np.asarray(happened, dtype=bool)
    if t.shape != d.shape or t.ndim != 1 or not len(t):
        raise ValueError(f"times {t.shape} and happened {d.shape} must have the same length, at least one")
    if not (t >= 0).all():
        raise ValueError(f"times must be at least 0, got {t[~(t >= 0)][0]}")
    falls, deaths = np.unique(t[d], return_counts=True)
    risk = len(t) - np.searchsorted(np.sort(t), falls, side="left")
    left = risk - deaths
    exact = list(accumulate(map(Fraction, left.tolist(), risk.tolist()), mul))
    survival = np.array([float(value) for value in exact])
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(deaths / (risk * left))
        spread = float(ndtri((1 + level) / 2)) * np.sqrt(greenwood) / np.abs(np.log(survival))
        lower: Array = survival ** np.exp(spread)
        upper: Array = survival ** np.exp(-spread)
    lower[survival == 0] = 0.0
    if len(upper) and survival[-1] == 0:
        upper[-1] = upper[-2] if len(upper) > 1 else 1.0
    return Survival(falls, survival, lower, upper, risk.astype(float), _first_below(falls, exact))


@dataclass(frozen=True)
class MeanTime:
    """The mean of exponential times, some of them censored.

    Attributes:
        value: Total time at risk divided by the number of events; infinite without events.
        lower: Lower end of its interval.
        upper: Upper end.
        happened: Number of events d.
    """

    value: float
    lower: float
    upper: float
    happened: int

    @property
    def error(self) -> float:
        """Standard error, value / √d."""
        return self.value / math.sqrt(self.happened) if self.happened else math.inf


def mean_time(times: ArrayLike, happened: ArrayLike, *, level: float = 0.95) -> MeanTime:
    """Estimate the mean of exponential, possibly censored times by maximum likelihood.

    The time until a high barrier is crossed is exponential except for a short initial phase. With total time T and d
    events the interval is 2T / χ² with quantiles of 2d degrees of freedom if no time is censored: the coverage is then
    exact. Otherwise the lower end uses 2d + 2 degrees of freedom, as for a Poisson count, and the coverage is somewhat
    larger: 95.6 % for samples of 30 times censored at three times their mean, 97 % at a third of it.

    Args:
        times: Times of the event or of censoring, [R].
        happened: Whether the event happened then, [R].
        level: Coverage of the interval; a lower bound if times are censored.

    Returns:
        The mean.

    Example:
        >>> mean_time([1.0, 3.0, 5.0], [True, True, False]).value
        4.5

    References:
        Lawless: Statistical models and methods for lifetime data, 2003, doi:10.1002/9781118033005.
    """
    total, count = float(np.sum(times)), int(np.sum(happened))
    tail = (1 - level) / 2
    censored = count < np.size(happened)
    return MeanTime(
        value=total / count if count else math.inf,
        lower=2 * total / (2 * float(gammaincinv(count + censored, 1 - tail))),
        upper=2 * total / (2 * float(gammaincinv(count, tail))) if count else math.inf,
        happened=count,
    )


@dataclass(frozen=True)
class SpeedUp:
    """The ratio of two mean times.

    Attributes:
        ratio: The slower mean divided by the faster.
        lower: Lower end of its interval.
        upper: Upper end.
        z: The logarithm of the ratio divided by its standard error, for means of exponential times.
    """

    ratio: float
    lower: float
    upper: float
    z: float


def speed_up(slow: MeanTime, fast: MeanTime, *, level: float = 0.95) -> SpeedUp:
    """Compare two mean times by their ratio, a multiple of an F variable with 2d and 2d' degrees of freedom.

    This is exact if no time is censored, otherwise approximate. The times are taken as independent. Replicas that share
    their draws are mostly positively correlated, which makes the interval too wide rather than too narrow.

    Args:
        slow: The mean time in the numerator.
        fast: The mean time in the denominator.
        level: Coverage of the interval.

    Returns:
        The ratio.

    Raises:
        ValueError: If one of the two has no events.

    Example:
        >>> round(speed_up(mean_time([4.0, 8.0], [True, True]), mean_time([1.0, 2.0], [True, True])).ratio, 9)
        4.0
    """
    if not (slow.happened and fast.happened):
        raise ValueError("one of the two has no events, so their mean times have no ratio")
    ratio = slow.value / fast.value
    error = math.sqrt(sum(float(polygamma(1, time.happened)) for time in (slow, fast)))
    low, high = (float(fdtri(2 * slow.happened, 2 * fast.happened, q)) for q in ((1 - level) / 2, (1 + level) / 2))
    return SpeedUp(ratio, ratio / high, ratio / low, math.log(ratio) / error)
