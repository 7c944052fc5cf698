"""The critical ratio against all cycles, one by one."""

from fractions import Fraction

import networkx as nx
import numpy as np
import pytest

from basinet.topologies.timing.cycle_ratio import critical_ratio


def largest(receivers, senders, delays, rounds):
    """Enumerate all simple cycles of a graph without parallel arcs."""
    arcs = {(s, r): (d, n) for r, s, d, n in zip(receivers, senders, delays, rounds, strict=True)}
    ratios = []
    for cycle in nx.simple_cycles(nx.DiGraph([*arcs])):
        parts = [arcs[edge] for edge in zip(cycle, cycle[1:] + cycle[:1], strict=True)]
        ratios.append(Fraction(sum(d for d, _ in parts), sum(n for _, n in parts)))
    return max(ratios)


@pytest.mark.parametrize("seed", range(30))
def test_no_cycle_has_a_larger_ratio(seed):
    rng = np.random.default_rng(seed)
    nodes = int(rng.integers(2, 8))
    pairs = [(r, s) for r in range(nodes) for s in range(nodes) if r == s or rng.random() < 0.5]
    receivers, senders = map(np.array, zip(*pairs, strict=True))
    delays = rng.integers(0, 10 ** int(rng.integers(1, 12)), len(pairs))
    rounds = np.where(senders < receivers, rng.integers(0, 2, len(pairs)), rng.integers(1, 4, len(pairs)))
    found = critical_ratio(nodes, receivers, senders, delays, rounds)
    assert found.growth == largest(*(values.tolist() for values in (receivers, senders, delays, rounds)))
    arcs = list(found.arcs)
    assert Fraction(int(delays[arcs].sum()), int(rounds[arcs].sum())) == found.growth
    assert receivers[arcs].tolist() == np.roll(senders[arcs], -1).tolist()


def test_parts_that_are_not_reached_do_not_matter():
    """Two cycles, of which the slower one only listens."""
    found = critical_ratio(2, *np.array([[0, 1, 1], [0, 1, 0], [7, 3, 100], [1, 1, 1]]))
    assert found == (7, (0,))
