"""Comparisons of a study: replicas are paired, intervals are t-intervals, trainings are matched by their loss."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr

from basinet.analysis.statistics.paired import ROUNDING
from basinet.analysis.statistics.replica_values import moments, t_interval
from basinet.analysis.studies.flatness_tradeoff.claims import interval
from basinet.analysis.studies.flatness_tradeoff.trainings import Array
from basinet.analysis.studies.study import Check

__all__ = ["PAIRED", "Difference", "at_the_loss", "best_of_others", "holm", "larger", "nested_errors"]

PAIRED = "the paired 95 % interval lies above 0"
"""The rule of a comparison of pairs."""


class Difference:
    """A mean paired difference and its 95 % t-interval.

    Args:
        a: Values: shares, or logarithms.
        b: Values of the same replicas, which are taken off. Pairs of which one is not finite are left out, and where
            they differ by rounding they do not differ.

    Attributes:
        pairs: How many pairs are left.
        left_out: How many are not.
        mean: The mean of a − b.
        low: Lower end of the interval; −∞ for less than two pairs.
        high: Upper end.
        p: Two-sided p-value of the t-test that nothing differs; NaN for less than two pairs.

    Example:
        >>> str(Difference([3.0, 4.0, 5.0, float("nan")], [1.0, 3.0, 2.0, 0.0]))
        '2 [-0.484, 4.48], 3 pairs'
    """

    def __init__(self, a: ArrayLike, b: ArrayLike) -> None:
        d = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
        total, d = len(d), d[np.isfinite(d)]
        d[np.abs(d) < ROUNDING] = 0
        self.pairs, self.left_out = len(d), total - len(d)
        mean, error, _ = moments(d.tolist())
        self.mean = math.nan if mean is None else mean
        self.low, self.high, self.p = -math.inf, math.inf, math.nan
        if error is not None:
            self.low, self.high = t_interval(self.mean, error, len(d))
            # Where all pairs differ alike there is no error, and any difference shows.
            t = abs(self.mean) / error if error else math.inf if self.mean else 0.0
            self.p = 2 * float(stdtr(len(d) - 1, -t))

    @property
    def verdict(self) -> str:
        """Whether a is the larger: "holds" or "reversed" where the interval leaves out 0, else "not shown"."""
        if self.pairs < 2:
            return "too few pairs"
        return "holds" if self.low > 0 else "reversed" if self.high < 0 else "not shown"

    def __str__(self) -> str:
        if self.pairs < 2:
            return "too few pairs"
        return interval(self.mean, self.low, self.high) + (f", {self.pairs} pairs" if self.left_out else "")


def larger(claim: str, a: ArrayLike, b: ArrayLike) -> Check:
    """Check that a is larger than b, by the paired difference.

    Args:
        claim: What is compared.
        a: Values.
        b: Values of the same replicas.

    Returns:
        The check.
    """
    found = Difference(a, b)
    agrees = found.verdict == "holds"
    return Check(claim, "above 0", str(found), PAIRED, agrees, otherwise=found.verdict)


def holm(p: ArrayLike, level: float = 0.05) -> NDArray[np.bool_]:
    """Find which of several tests show something, so that by chance any does with a probability of `level` at most.

    Args:
        p: Their p-values, [n]; NaN for what could not be tested, which does not count.
        level: The probability.

    Returns:
        Whether each shows something, [n] (S. Holm, Scand. J. Statist. 6, 1979).

    Example:
        >>> holm([0.03, 0.001, 0.02, float("nan")]).tolist()
        [True, True, True, False]
        >>> holm([0.03, 0.001, 0.04]).tolist()
        [False, True, False]
    """
    values = np.asarray(p, dtype=float)
    tested = int(np.isfinite(values).sum())
    order = np.argsort(values)[:tested]  # NaN come last
    enough = values[order] <= level / np.arange(tested, 0, -1)
    shown = np.zeros(len(values), dtype=bool)
    shown[order] = np.logical_and.accumulate(enough)
    return shown


def at_the_loss(losses: Sequence[Array], values: Sequence[Array], wanted: Array) -> Array:
    """Interpolate a value between trainings of different length, where they have a given training loss.

    Replica by replica, in the logarithm of the loss; beyond the shortest and the longest training nothing is known.

    Args:
        losses: Training losses of each training, [R] each.
        values: The value at its end, [R] each.
        wanted: The loss at which it is wanted, [R].

    Returns:
        The value of each replica, NaN where nothing is known.
    """
    found = np.full(len(wanted), np.nan)
    ends, series = np.array(losses), np.array(values)
    for replica, loss in enumerate(wanted):
        known = np.isfinite(ends[:, replica]) & np.isfinite(series[:, replica])
        order = np.argsort(-ends[known, replica], kind="stable")
        fallen, column = -np.log(ends[known, replica][order]), series[known, replica][order]
        if len(fallen) and np.isfinite(loss):
            found[replica] = np.interp(-math.log(loss), fallen, column, left=math.nan, right=math.nan)
    return found


def best_of_others(losses: Sequence[Array]) -> NDArray[np.int64]:
    """Choose a setting for each replica by what the other replicas have come to.

    So a choice does not see the replica that it is made for.

    Args:
        losses: Losses under each setting, [R] each; NaN of a replica that diverged.

    Returns:
        The index of the setting under which the fewest of the other replicas diverged, and among these their mean loss
        is the smallest, [R].
    """
    table = np.asarray(losses, dtype=float)
    chosen = np.empty(table.shape[1], dtype=np.int64)
    for replica in range(table.shape[1]):
        others = np.delete(table, replica, axis=1)
        known = np.isfinite(others)
        means = np.where(known, others, 0).sum(1) / np.maximum(known.sum(1), 1)
        chosen[replica] = np.lexsort((means, -known.sum(1)))[0]
    return chosen


def nested_errors(
    features: Mapping[str, ArrayLike], target: ArrayLike, groups: ArrayLike, *, factor: ArrayLike | None = None
) -> dict[str, Array]:
    """Predict a target by linear regressions on one feature, on another, and on all of them, cross-validated.

    Each group in turn is left out and predicted from the others.

    Args:
        features: Values by name, [n] each.
        target: What is to be predicted, [n].
        groups: Which points belong together, [n].
        factor: Levels of a condition, [n], for each of which all regressions have a mean of its own.

    Returns:
        The mean squared error on each group, [G]: by "nothing" but the means, by each name, and by "all". A group of a
        level that is in no other cannot be predicted, and is left out.

    Example:
        >>> x, y = np.arange(12.0), np.arange(12.0) % 5
        >>> errors = nested_errors({"x": x, "y": y}, 2 * x - y, np.arange(12) // 3)
        >>> bool(errors["all"].max() < 1e-20 < errors["x"].min())
        True
    """
    y, of = np.asarray(target, dtype=float), np.asarray(groups)
    levels = np.zeros(len(y)) if factor is None else np.asarray(factor)
    means = (levels[:, None] == np.unique(levels)).astype(float)
    sets: dict[str, list[str]] = {"nothing": [], **{name: [name] for name in features}, "all": list(features)}
    errors: dict[str, Array] = {}
    for label, names in sets.items():
        design = np.column_stack([means, *(np.asarray(features[name], dtype=float) for name in names)])
        found = []
        for group in np.unique(of):
            out = of == group
            if not np.isin(levels[out], levels[~out]).all():
                continue
            weights = np.linalg.lstsq(design[~out], y[~out], rcond=None)[0]
            found.append(float(((y[out] - design[out] @ weights) ** 2).mean()))
        errors[label] = np.array(found)
    return errors
