"""Graphs designed for a network, on networks small enough to see what is best."""

from dataclasses import replace
from itertools import permutations

import networkx as nx
import numpy as np
import pytest

from basinet.topologies.designs import bounded_tree, fastest_ring, fastest_star, fastest_tree, lone_messages
from basinet.topologies.networks import uniform_links


def on_a_plane(seed, agents=7):
    """A network whose latencies are distances between random points."""
    network = uniform_links(nx.complete_graph(agents))
    points = np.random.default_rng(seed).random((agents, 2))
    far = np.hypot(*(points[network.senders] - points[network.receivers]).T)
    return replace(network, latency=np.rint(1e9 * far).astype(np.int64))


@pytest.mark.parametrize("seed", range(3))
def test_designs_are_as_fast_as_promised(seed):
    network = on_a_plane(seed)
    takes = lone_messages(network, 0)
    ring = fastest_ring(network, 0)
    assert nx.is_strongly_connected(ring) and {*dict(ring.out_degree).values()} == {1}
    tours = (zip((0, *rest), (*rest, 0), strict=True) for rest in permutations(range(1, 7)))
    shortest = min(sum(takes[edge] for edge in tour) for tour in tours)
    assert shortest * (1 - 1e-12) <= sum(takes[edge] for edge in ring.edges) <= 1.5 * shortest
    order = [k for k, _ in nx.find_cycle(ring, 0)]
    for i in range(1, 6):
        for j in range(i + 1, 7):  # no exchange of two edges is shorter
            other = order[:i] + order[i : j + 1][::-1] + order[j + 1 :]
            length = sum(takes[edge] for edge in zip(other, other[1:] + other[:1], strict=True))
            assert length >= sum(takes[edge] for edge in ring.edges) * (1 - 1e-9)
    tree = fastest_tree(network, 0)
    # Without its slowest edge, no other edge that is as fast joins the two parts.
    slowest = max(tree.edges, key=lambda edge: takes[edge])
    tree.remove_edge(*slowest)
    one, other = nx.connected_components(tree)
    assert min(takes[u, v] for u in one for v in other) == takes[slowest]
    star = fastest_star(network, 0)
    assert max(takes[edge] for edge in star.edges) == min(np.sort(row)[-2] for row in takes)
    for most in (2, 3):
        assert max(degree for _, degree in bounded_tree(network, 0, degree=most).degree) <= most


def test_computing_and_ports_count():
    network = uniform_links(nx.complete_graph(3), bandwidth="1 GB/s", access={"up": "1 GB/s", "down": "0.5 GB/s"})
    takes = lone_messages(network, 1000, compute=[0, 10, 20])
    assert takes[0, 1] == takes[1, 0] == 2005 and takes[1, 2] == 2015 and np.isinf(np.diag(takes)).all()


def test_missing_links_are_said():
    path = uniform_links(nx.path_graph(4))
    assert fastest_tree(path, 1).edges == nx.path_graph(4).edges
    with pytest.raises(ValueError, match="does not link all pairs"):
        fastest_ring(path, 1)
    with pytest.raises(ValueError, match="links no agent to all others"):
        fastest_star(path, 1)
    with pytest.raises(ValueError, match="no spanning tree"):
        fastest_tree(uniform_links(nx.empty_graph(2)), 1)
    with pytest.raises(ValueError, match="no spanning tree"):
        bounded_tree(uniform_links(nx.star_graph(3)), 1, degree=2)
    with pytest.raises(ValueError, match="degree is 1, but must be at least 2"):
        bounded_tree(path, 1, degree=1)
    assert [sorted(fastest_ring(uniform_links(nx.complete_graph(n)), 1).edges) for n in (1, 2, 3)] == [
        [],
        [(0, 1), (1, 0)],
        [(0, 1), (1, 2), (2, 0)],
    ]
