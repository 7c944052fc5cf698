"""The largest mean delay on a cycle of waiting, which no number of rounds outruns."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from basinet.topologies.timing.max_plus import Arcs

__all__ = ["Cycle", "critical_cycle"]


class Cycle(NamedTuple):
    """A cycle on which delays are longest.

    Attributes:
        mean: Mean delay of its arcs in nanoseconds.
        agents: Its agents in the order in which messages travel, from the lowest on; the last one sends
            to it.
    """

    mean: Fraction
    agents: tuple[int, ...]


def critical_cycle(arcs: Arcs) -> Cycle:
    r"""Find the cycle with the largest mean delay, exactly.

    With d_n(v) the longest delay of n arcs that end in v, the mean is
    :math:`\lambda = \max_v \min_{n < K} \frac{d_K(v) - d_n(v)}{K - n}`, and the K arcs behind d_K(v) of the maximal v
    contain the cycle. It takes O(K E) time and O(K²) memory.

    Args:
        arcs: Who waits for whom. Each agent waits for at least one, such as itself.

    Returns:
        The cycle.

    Raises:
        ValueError: An agent waits for nobody, so that it is on no cycle and its rounds have no end.

    Example:
        >>> critical_cycle(Arcs.of(2, receivers=[0, 1, 0, 1], senders=[0, 0, 1, 1], delays=[1, 4, 3, 2]))
        Cycle(mean=Fraction(7, 2), agents=(0, 1))

    References:
        Karp: A characterization of the minimum cycle mean in a digraph, Discrete Mathematics 23, 1978,
        doi:10.1016/0012-365X(78)90011-0
    """
    if (lonely := np.flatnonzero(np.diff(arcs.starts) == 0)).size:
        raise ValueError(f"agent {lonely[0]} waits for nobody, not even itself")
    size = arcs.agents
    longest = np.zeros((size + 1, size), dtype=np.int64)
    for n in range(size):
        longest[n + 1] = np.maximum.reduceat(longest[n, arcs.senders] + arcs.delays, arcs.starts[:-1])
    # Of fractions with denominators up to K, those that differ do so by more than rounding: whole parts are compared
    # as integers, the rests as quotients below one.
    left = np.arange(size, 0, -1)[:, None]
    whole, rest = np.divmod(longest[-1] - longest[:-1], left)
    least = whole.min(axis=0)
    parts = np.where(whole == least, rest / left, 2.0).min(axis=0)
    end = int(np.lexsort((parts, least))[-1])
    walk = [end]
    for n in range(size, 0, -1):
        into = slice(arcs.starts[walk[-1]], arcs.starts[walk[-1] + 1])
        sender = arcs.senders[into][np.argmax(longest[n - 1, arcs.senders[into]] + arcs.delays[into])]
        walk.append(int(sender))
        if sender in walk[:-1]:
            break
    first = walk.index(walk[-1])
    total = longest[size - first, walk[first]] - longest[size - len(walk) + 1, walk[-1]]
    cycle = walk[first + 1 :][::-1]
    lowest = cycle.index(min(cycle))
    return Cycle(Fraction(int(total), len(cycle)), tuple(cycle[lowest:] + cycle[:lowest]))
