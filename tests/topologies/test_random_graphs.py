"""Facts about random graphs."""

import math

import networkx as nx
import numpy as np
import pytest

from basinet.topologies import (
    barabasi_albert,
    equitopo,
    erdos_renyi,
    metropolis,
    mixing_rate,
    newman_watts,
    random_geometric,
    random_regular,
    uniform,
    watts_strogatz,
    weights,
)


def test_sparse_random_graphs_are_drawn_until_connected():
    assert all(nx.is_connected(erdos_renyi(20, probability=0.12, seed=seed)) for seed in range(20))
    assert all(nx.is_connected(random_regular(8, degree=2, seed=seed)) for seed in range(20))


def test_erdos_renyi_default_probability():
    edges = erdos_renyi(1000).number_of_edges()
    mean = 999 * math.log(1000)
    assert abs(edges - mean) < 5 * math.sqrt(mean)


def test_random_geometric_joins_exactly_those_within_reach():
    graph = random_geometric(60, radius=0.3, seed=2)
    places = np.array([graph.nodes[k]["pos"] for k in graph])
    assert ((places >= 0) & (places < 1)).all()
    distance = np.linalg.norm(places[:, None] - places, axis=2)
    expected = (distance <= 0.3) & ~np.eye(60, dtype=bool)
    np.testing.assert_array_equal(nx.to_numpy_array(graph), expected)


def test_random_geometric_default_radius():
    degrees = [degree for _, degree in random_geometric(2000).degree]
    # Near the border an agent sees fewer.
    assert 0.85 * 2 * math.log(2000) < np.mean(degrees) < 2 * math.log(2000)


def test_small_worlds():
    rewired = watts_strogatz(400, neighbors=6, probability=0.2)
    assert rewired.number_of_edges() == 1200
    added = newman_watts(400, neighbors=6, probability=0.2)
    lattice = watts_strogatz(400, neighbors=6, probability=0)
    assert set(dict(lattice.degree).values()) == {6}
    assert set(lattice.edges) < set(added.edges)
    assert 150 < added.number_of_edges() - 1200 < 320
    assert nx.average_shortest_path_length(rewired) < nx.average_shortest_path_length(lattice) / 4


def test_barabasi_albert_has_hubs():
    graph = barabasi_albert(1000, links=3)
    degrees = sorted(dict(graph.degree).values())
    assert graph.number_of_edges() == 3 * 997
    assert degrees[0] >= 1 and degrees[500] <= 5 and degrees[-1] > 50


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("num_agents", [1, 2, 3, 9, 10, 16])
def test_equitopo_is_circulant_with_the_papers_weights(num_agents, directed):
    most = num_agents - 1 if directed else num_agents // 2
    for count in range(min(1, most), most + 1):
        graph = equitopo(num_agents, shifts=count, directed=directed, seed=count)
        assert graph.is_directed() == directed
        shifts = [(v - u) % num_agents for u, v in graph.edges if u == 0]
        one_way = [u for u in shifts if directed or 2 * u <= num_agents]
        turns = [np.roll(np.eye(num_agents), u, axis=0) for u in one_way]
        if not directed:
            turns = [(turn + turn.T) / 2 for turn in turns]
        if num_agents > 1:
            assert len(one_way) == count
            share = (num_agents - 1) / num_agents
            expected = sum(share * turn + np.eye(num_agents) / num_agents for turn in turns) / count
            np.testing.assert_allclose(weights(graph).toarray(), expected, rtol=0, atol=1e-14)


def test_equitopo_mixes_no_worse_when_it_grows():
    rates = [mixing_rate(uniform(equitopo(num_agents, seed=1))) for num_agents in (64, 256, 1000)]
    assert max(rates) < 0.9
    assert mixing_rate(metropolis(equitopo(1000, directed=False))) < 0.9
