"""The largest ratio of delay to rounds on a cycle of waiting whose arcs may lead to the same round or further back."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ratio", "critical_ratio"]

Numbers = NDArray[np.int64]

_EQUAL = 1e-10
"""Times that differ by less, relative to the longest delay, are equal up to rounding; growths, by a hundredth of it."""


class Ratio(NamedTuple):
    """A cycle on which delays are longest.

    Attributes:
        growth: Delay of its arcs in nanoseconds, per round.
        arcs: Numbers of its arcs, in the order in which they are passed.
    """

    growth: Fraction
    arcs: tuple[int, ...]


def critical_ratio(nodes: int, receivers: Numbers, senders: Numbers, delays: Numbers, rounds: Numbers) -> Ratio:
    r"""Find the cycle with the largest delay per round, by Howard's algorithm.

    It is :math:`\lambda = \max \sum \text{delays} / \sum \text{rounds}` over all cycles. Each node follows one of its
    arcs back; the cycles reached so give each node a growth, and the delays on the way a time. Nodes change to arcs
    that give them more growth, or a later time at the same growth, until there are none.

    Args:
        nodes: Number of nodes.
        receivers: Node that waits, of each arc [E]; each node waits for at least one.
        senders: Node that it waits for [E].
        delays: How long after [E], nanoseconds.
        rounds: How many rounds ago [E]; each cycle has at least one.

    Returns:
        The cycle.

    Example:
        >>> critical_ratio(2, *np.array([[0, 1, 1], [1, 0, 1], [3, 4, 5], [0, 2, 1]]))
        Ratio(growth=Fraction(5, 1), arcs=(2,))

    References:
        Cochet-Terrasson, Cohen, Gaubert, McGettrick, Quadrat: Numerical computation of spectral elements in max-plus
        algebra, IFAC Conference on System Structure and Control 1998, doi:10.1016/S1474-6670(17)42067-2
    """
    order = np.argsort(receivers, kind="stable")
    to, whence, took, ago = (values[order] for values in (receivers, senders, delays, rounds))
    starts = np.searchsorted(to, np.arange(nodes))
    small = _EQUAL * max(1.0, float(took.max()))
    choice = _best(took.astype(np.float64), to, starts)
    times = np.zeros(nodes)
    while True:
        growth, times, cycle = _followed(choice, whence, took, ago, times)
        gained = growth[whence]
        better = np.maximum.reduceat(gained, starts) > growth + small / 100
        if not better.any():
            later = took - growth[to] * ago + times[whence]
            gained = np.where(gained >= growth[to] - small / 100, later, -np.inf)
            better = np.maximum.reduceat(gained, starts) > times + small
        if not better.any():
            total = Fraction(int(took[cycle].sum()), int(ago[cycle].sum()))
            return Ratio(total, tuple(order[cycle][::-1].tolist()))
        choice = np.where(better, _best(gained, to, starts), choice)


def _best(values: NDArray[np.float64], to: Numbers, starts: Numbers) -> Numbers:
    """Return the first arc into each node that has the largest value."""
    places = np.where(values == np.maximum.reduceat(values, starts)[to], np.arange(len(values)), len(values))
    return np.asarray(np.minimum.reduceat(places, starts))


def _followed(
    choice: Numbers, whence: Numbers, took: Numbers, ago: Numbers, times: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[int]]:
    """Follow the chosen arcs; return growth and times of the nodes, and the chosen cycle with the largest growth."""
    arcs, before = choice.tolist(), whence[choice].tolist()
    delay, rounds = took[choice].tolist(), ago[choice].tolist()
    known: list[float | None] = [None] * len(arcs)
    found = times.tolist()
    walked = [-1] * len(arcs)
    best: tuple[float, list[int]] = (-np.inf, [])
    for first in range(len(arcs)):
        walk, node = [], first
        while walked[node] < 0:
            walked[node] = first
            walk.append(node)
            node = before[node]
        if known[node] is None:  # a cycle, which begins where the walk has met itself
            cycle = walk[walk.index(node) :]
            ratio = sum(delay[v] for v in cycle) / sum(rounds[v] for v in cycle)
            known[node] = ratio
            best = max(best, (ratio, [arcs[v] for v in cycle]), key=lambda pair: pair[0])
        for v in reversed(walk):
            rate = known[before[v]]
            assert rate is not None
            known[v] = rate
            if v != node:
                found[v] = delay[v] - rate * rounds[v] + found[before[v]]
    return np.array(known, dtype=np.float64), np.array(found), best[1]
