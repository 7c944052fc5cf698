"""Whether the best of several groups is better than the next: paired tests where groups share seeds, Holm's method."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from basinet.analysis.statistics.multiple_tests import holm
from basinet.analysis.statistics.paired import ROUNDING
from basinet.sim.run.quantity import Direction

__all__ = ["Values", "best_of_each", "differences", "ranks"]

Array = NDArray[np.float64]

Values = Mapping[tuple[int, int], float]
"""Values by seed and replica."""


def differences(pairs: Sequence[tuple[Values, Values]]) -> list[tuple[float, bool]]:
    """Test whether two groups have the same mean, for many pairs of groups at once.

    Replicas of the same seed and number share initial parameters and samples. If at least half of either group have
    such a partner, the test is the t-test of their differences, where values that agree in five digits count as equal;
    otherwise it is Welch's. Without any spread, which a t-test takes for certainty though accuracies often coincide, it
    is the sign test of the differences, or the permutation test of the means.

    Args:
        pairs: The values of both groups.

    Returns:
        For each pair the two-sided p-value, NaN if there are too few values, and whether the test is paired.

    Example:
        >>> differences([({(0, 0): 1.0, (0, 1): 2.0}, {(0, 0): 2.0, (0, 1): 4.0}), ({(0, 0): 1.0}, {(0, 0): 2.0})])
        [(0.204..., True), (nan, False)]
    """
    if not pairs:
        return []
    found = [(math.nan, False)] * len(pairs)
    gaps: dict[int, dict[int, Array]] = {}  # by their number, then by pair
    apart: dict[int, tuple[Array, Array]] = {}
    for place, (one, other) in enumerate(pairs):
        both = [(one[key], other[key]) for key in one if key in other]
        if len(both) >= 2 and 2 * len(both) >= max(len(one), len(other)):
            each = np.array([0.0 if math.isclose(a, b, rel_tol=ROUNDING) else a - b for a, b in both])
            if np.ptp(each) > ROUNDING * np.abs(each).max():
                gaps.setdefault(len(both), {})[place] = each
            else:  # without any spread
                found[place] = (0.5 ** (len(each) - 1) if each.any() else 1.0), True
        elif min(len(one), len(other)) >= 2:
            a, b = np.array(list(one.values())), np.array(list(other.values()))
            size = max(np.abs(a).max(), np.abs(b).max())
            if max(np.ptp(a), np.ptp(b)) > ROUNDING * size:
                apart[place] = a, b
            else:
                equal = abs(a.mean() - b.mean()) <= ROUNDING * size
                found[place] = (1.0 if equal else 2 / math.comb(len(a) + len(b), len(a))), False
    for alike in gaps.values():  # as fast for many tests as for one
        each = np.stack(list(alike.values()))
        error = each.std(axis=1, ddof=1) / math.sqrt(each.shape[1])
        found = _filled(found, alike, _t_test(each.mean(axis=1), error, each.shape[1] - 1), paired=True)
    if apart:
        one, other = zip(*apart.values(), strict=True)
        gap = np.array([a.mean() - b.mean() for a, b in apart.values()])
        parts = np.array([[v.var(ddof=1) / len(v) for v in side] for side in (one, other)])
        free = np.array([[len(v) - 1 for v in side] for side in (one, other)])
        degrees = parts.sum(axis=0) ** 2 / (parts**2 / free).sum(axis=0)  # Welch and Satterthwaite
        found = _filled(found, apart, _t_test(gap, np.sqrt(parts.sum(axis=0)), degrees), paired=False)
    return found


def _t_test(gap: Array, error: Array, degrees: Array | int) -> Array:
    """Return the two-sided p-values of differences with standard errors; scipy.stats takes a second to import."""
    from scipy.special import stdtr

    p: Array = 2 * stdtr(degrees, -np.abs(gap / error))
    return p


def _filled(
    found: list[tuple[float, bool]], places: Iterable[int], p: Array, *, paired: bool
) -> list[tuple[float, bool]]:
    new = {place: (float(value), paired) for place, value in zip(places, p, strict=True)}
    return [new.get(place, before) for place, before in enumerate(found)]


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
    values = np.array(means, dtype=float) * (-1 if direction == "larger" else 1)
    order = np.sort(values[~np.isnan(values)])
    better, not_worse = (np.searchsorted(order, values, side) for side in ("left", "right"))
    found = np.where(np.isnan(values), math.nan, (better + not_worse + 1) / 2)
    return [float(rank) for rank in found]


def best_of_each(
    conditions: Sequence[str],
    values: Sequence[Values],
    direction: Direction | None,
    level: float = 0.05,
    *,
    samples: Sequence[Hashable] | None = None,
) -> tuple[list[float], list[float], list[bool]]:
    """Find the best group of each condition in a column of a table, and whether it is better than the next.

    Each condition's best is tested against the others; the tests of all conditions are corrected together. Copies are
    no samples of their own: they are not tested against each other, share the outcome of their tests, and count once.

    Args:
        conditions: The condition of each group.
        values: Their values.
        direction: Which values are better.
        level: The family-wise error rate of the column.
        samples: What identifies the replicas of each group: the same for copies. By default all are different.

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
    of = list(range(len(values))) if samples is None else list(samples)
    rivals = {key: [place for place in places if of[place] != of[places[0]]] for key, places in order.items() if places}
    tested: dict[tuple[Hashable, Hashable], tuple[Values, Values]] = {}
    for key, others in rivals.items():
        first = order[key][0]
        for place in others:
            tested.setdefault((of[first], of[place]), (values[first], values[place]))
    found = [value for value, _ in differences(list(tested.values()))]
    outcomes = dict(zip(tested, zip(found, holm(found, level), strict=True), strict=True))
    for key, others in rivals.items():
        first = order[key][0]
        for place in others:
            p[place] = outcomes[of[first], of[place]][0]
        if others:
            is_better = bool(outcomes[of[first], of[others[0]]][1])
            for place in order[key]:
                best[place] = is_better and of[place] == of[first]
    return rank, p, best
