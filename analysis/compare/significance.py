"""Whether the best of several groups is better than the next: paired tests where groups share seeds, Holm's method."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from basinet.analysis.statistics.multiple_tests import holm
from basinet.analysis.statistics.paired import ROUNDING
from basinet.sim.run.quantity import Direction

__all__ = ["Values", "best_of_each", "difference", "ranks"]

Values = Mapping[tuple[int, int], float]
"""Values by seed and replica."""


def difference(one: Values, other: Values) -> tuple[float, bool]:
    """Test whether two groups have the same mean.

    Replicas of the same seed and number share initial parameters and samples. If at least half of either group have
    such a partner, the test is the t-test of their differences, where values that agree in five digits count as equal;
    otherwise it is Welch's.

    Args:
        one: The values of a group.
        other: Those of another.

    Returns:
        The two-sided p-value, NaN if there are too few values, and whether the test is paired.

    Example:
        >>> difference({(0, 0): 1.0, (0, 1): 2.0}, {(0, 0): 2.0, (0, 1): 4.0})
        (0.204..., True)
        >>> difference({(0, 0): 1.0}, {(0, 0): 2.0})
        (nan, False)
    """
    from scipy import stats  # takes long to import, for runs that are not compared

    pairs = [(one[key], other[key]) for key in one if key in other]
    if len(pairs) >= 2 and 2 * len(pairs) >= max(len(one), len(other)):
        gaps = np.array([0.0 if math.isclose(a, b, rel_tol=ROUNDING) else a - b for a, b in pairs])
        if np.ptp(gaps) <= ROUNDING * np.abs(gaps).max():  # without any spread
            return float(not gaps.any()), True
        return float(stats.ttest_1samp(gaps, 0.0).pvalue), True
    if min(len(one), len(other)) < 2:
        return math.nan, False
    a, b = np.array(list(one.values())), np.array(list(other.values()))
    size = max(np.abs(a).max(), np.abs(b).max())
    if max(np.ptp(a), np.ptp(b)) <= ROUNDING * size:
        return float(abs(a.mean() - b.mean()) <= ROUNDING * size), False
    return float(stats.ttest_ind(a, b, equal_var=False).pvalue), False


def ranks(means: Sequence[float], direction: Direction | None) -> list[float]:
    """Rank groups.

    Args:
        means: Their means, NaN for none.
        direction: Which values are better.

    Returns:
        Ranks from 1 for the best, equal means share the average of theirs; NaN without mean or direction.

    Example:
        >>> ranks([0.5, 0.9, 0.9, math.nan], "larger")
        [3.0, 1.5, 1.5, nan]
    """
    if direction is None or len(means) < 2:
        return [math.nan if direction is None or math.isnan(mean) else 1.0 for mean in means]
    from scipy.stats import rankdata

    values = np.array(means, dtype=float) * (-1 if direction == "larger" else 1)
    return [float(rank) for rank in rankdata(values, nan_policy="omit")]


def best_of_each(
    conditions: Sequence[str], values: Sequence[Values], direction: Direction | None, level: float = 0.05
) -> tuple[list[float], list[float], list[bool]]:
    """Find the best group of each condition in a column of a table, and whether it is better than the next.

    Each condition's best is tested against the others; the tests of all conditions are corrected together.

    Args:
        conditions: The condition of each group.
        values: Their values.
        direction: Which values are better.
        level: The family-wise error rate of the column.

    Returns:
        For each group its rank in its condition; the p-value of its difference from the best, before the correction,
        NaN for the best itself; and whether it is the best and significantly better than the next.
    """
    means = [float(np.mean(list(found.values()))) if found else math.nan for found in values]
    rank, p, best = [math.nan] * len(values), [math.nan] * len(values), [False] * len(values)
    order: dict[str, list[int]] = {}
    for condition in dict.fromkeys(conditions):
        members = [place for place, of in enumerate(conditions) if of == condition]
        for place, number in zip(members, ranks([means[place] for place in members], direction), strict=True):
            rank[place] = number
        order[condition] = sorted((place for place in members if not math.isnan(rank[place])), key=rank.__getitem__)
        for place in order[condition][1:]:
            p[place], _ = difference(values[order[condition][0]], values[place])
    shown = holm(p, level)
    for places in order.values():
        if len(places) > 1:
            best[places[0]] = bool(shown[places[1]])
    return rank, p, best
