"""Statistical comparisons of a study: paired differences, matching by loss, and regressions."""

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

__all__ = ["PAIRED", "Difference", "at_the_loss", "best_of_others", "larger", "nested_errors"]

PAIRED = "the paired 95 % interval lies above 0"
"""The rule of a paired comparison."""


class Difference:
    """A mean paired difference and its 95 % t-interval.

    Args:
        a: Values, such as fractions or logarithms.
        b: Values of the same replicas, to be subtracted. Pairs with a non-finite value are left out, and differences of
            rounding count as zero.

    Attributes:
        pairs: Number of pairs used.
        left_out: Number of pairs left out.
        mean: The mean of a − b.
        low: Lower end of the interval; −∞ for fewer than two pairs.
        high: Upper end.
        p: Two-sided p-value of the t-test of zero difference; NaN for fewer than two pairs.

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
            # If all pairs differ by the same amount, the error is zero, and any difference is significant.
            t = abs(self.mean) / error if error else math.inf if self.mean else 0.0
            self.p = 2 * float(stdtr(len(d) - 1, -t))

    @property
    def verdict(self) -> str:
        """Whether a is larger: "holds" or "reversed" if the interval excludes 0, otherwise "not shown"."""
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
        claim: The claim in words.
        a: Values.
        b: Values of the same replicas.

    Returns:
        The check.
    """
    found = Difference(a, b)
    agrees = found.verdict == "holds"
    return Check(claim, "above 0", str(found), PAIRED, agrees, otherwise=found.verdict)


def at_the_loss(losses: Sequence[Array], values: Sequence[Array], wanted: Array) -> Array:
    """Interpolate a value between trainings of different length to a given training loss.

    The interpolation is linear in the logarithm of the loss, replica by replica, without extrapolation.

    Args:
        losses: Final training losses of each training, [R] each.
        values: The final value of each training, [R] each.
        wanted: The training loss to interpolate to, [R].

    Returns:
        The value of each replica, NaN outside the range of losses.
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
    """Choose a setting for each replica by the results of the other replicas (leave-one-out).

    Args:
        losses: Losses under each setting, [R] each; NaN for a replica that diverged.

    Returns:
        The index of the setting under which the fewest of the other replicas diverged, and of these the one with the
        smallest mean loss, [R].
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
    """Cross-validate linear regressions of a target on each feature alone and on all features.

    Each group in turn is left out and predicted from the others.

    Args:
        features: Values by name, [n] each.
        target: Values to predict, [n].
        groups: Group of each point, [n].
        factor: Level of a condition, [n]; all regressions have a separate mean for each level.

    Returns:
        The mean squared error on each group, [G]: "nothing" for the means alone, each feature by name, and "all". A
        group with a level that no other group has cannot be predicted and is left out.

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
