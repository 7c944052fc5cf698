"""Facts about graphs that are not random."""

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basinet.topologies import (
    barbell,
    caterpillar,
    clusters,
    complete,
    davis,
    eigenvalues,
    erdos_renyi,
    exponential,
    florentine,
    grid,
    hypercube,
    karate,
    lollipop,
    margulis,
    metropolis,
    newman_watts,
    paley,
    path,
    random_regular,
    ring,
    star,
    torus,
    tree,
    watts_strogatz,
    wheel,
)


def test_degrees():
    assert set(dict(ring(7).degree).values()) == {2}
    assert sorted(dict(path(7).degree).values()) == [1, 1, 2, 2, 2, 2, 2]
    assert sorted(dict(star(7).degree).values()) == [1] * 6 + [6]
    assert set(dict(complete(7).degree).values()) == {6}
    assert set(dict(torus(20).degree).values()) == {4}
    assert set(dict(hypercube(32).degree).values()) == {5}
    assert set(dict(random_regular(30, degree=5).degree).values()) == {5}
    assert set(dict(exponential(16).in_degree).values()) == {4}


@pytest.mark.parametrize(
    ("shape", "edges"), [((6,), 5), ((2, 3), 7), ((3, 2), 7), ((1, 6), 5), ((2, 1, 3), 7), ((6, 1), 5)]
)
def test_grid_shapes(shape, edges):
    graph = grid(6, shape=shape)
    assert graph.number_of_edges() == edges
    assert list(graph) == list(range(6))


def test_grid_is_numbered_row_by_row():
    assert sorted(grid(24, shape=(2, 3, 4))[0]) == [1, 4, 12]
    assert sorted(torus(60, shape=(3, 4, 5))[0]) == [1, 4, 5, 15, 20, 40]


def test_default_shape_is_the_most_square():
    assert nx.is_isomorphic(grid(12), nx.grid_2d_graph(3, 4))
    assert nx.is_isomorphic(grid(16), nx.grid_2d_graph(4, 4))
    assert nx.is_isomorphic(grid(7), path(7))
    assert nx.is_isomorphic(torus(7), ring(7))


def test_identities():
    assert nx.utils.graphs_equal(torus(9, shape=[9]), ring(9))
    assert nx.utils.graphs_equal(torus(16, shape=[2, 2, 2, 2]), hypercube(16))
    assert nx.is_isomorphic(torus(16), hypercube(16))
    assert nx.is_isomorphic(hypercube(16), nx.hypercube_graph(4))
    assert nx.is_isomorphic(torus(12, shape=(2, 6)), nx.circular_ladder_graph(6))
    assert nx.utils.edges_equal(exponential(3).edges, complete(3).to_directed().edges)
    assert nx.utils.graphs_equal(erdos_renyi(9, probability=1), complete(9))
    assert nx.utils.graphs_equal(random_regular(9, degree=8), complete(9))


@pytest.mark.parametrize("num_agents", [5, 12, 16, 17])
def test_exponential_edges(num_agents):
    hops = [2**j for j in range(math.ceil(math.log2(num_agents)))]
    expected = {(k, (k + hop) % num_agents) for k in range(num_agents) for hop in hops}
    assert set(exponential(num_agents).edges) == expected


@pytest.mark.parametrize("num_agents", [4, 9, 16])
def test_wheel(num_agents):
    graph = wheel(num_agents)
    assert graph.degree[0] == num_agents - 1
    assert {graph.degree[k] for k in range(1, num_agents)} == {3}
    rim = 3 - 2 * np.cos(2 * np.pi * np.arange(1, num_agents - 1) / (num_agents - 1))
    spectrum = nx.laplacian_spectrum(graph)
    np.testing.assert_allclose(np.sort(spectrum), np.sort([0, num_agents, *rim]), rtol=0, atol=1e-10)


@given(num_agents=st.integers(1, 40), branching=st.integers(1, 5))
def test_trees(num_agents, branching):
    graph = tree(num_agents, branching=branching)
    assert nx.is_tree(graph)
    assert all(len([v for v in graph[k] if v > k]) <= branching for k in graph)
    assert nx.utils.graphs_equal(graph, nx.full_rary_tree(branching, num_agents)) or branching == 1
    assert nx.utils.graphs_equal(tree(num_agents, branching=1), path(num_agents))
    assert branching == 1 or nx.diameter(graph) <= 2 * math.log2(num_agents)


@given(num_agents=st.integers(1, 40), data=st.data())
def test_caterpillars(num_agents, data):
    spine = data.draw(st.integers(1, num_agents))
    graph = caterpillar(num_agents, spine=spine)
    assert nx.is_tree(graph)
    assert nx.utils.graphs_equal(nx.Graph(graph.subgraph(range(spine))), path(spine))
    assert {graph.degree[k] for k in range(spine, num_agents)} <= {1}
    leaves = [sum(v >= spine for v in graph[k]) for k in range(spine)]
    assert max(leaves) - min(leaves) <= 1


def test_shapes_between_families():
    assert nx.utils.graphs_equal(caterpillar(7, spine=1), star(7))
    assert nx.utils.graphs_equal(caterpillar(7, spine=7), path(7))
    assert nx.utils.graphs_equal(barbell(11, bridge=3), nx.barbell_graph(4, 3))
    assert nx.utils.graphs_equal(barbell(5, bridge=5), path(5))
    assert nx.utils.graphs_equal(lollipop(9, tail=4), nx.lollipop_graph(5, 4))
    assert nx.utils.graphs_equal(lollipop(5, tail=0), complete(5))
    assert nx.utils.graphs_equal(clusters(7, clusters=1), complete(7))
    assert nx.utils.graphs_equal(clusters(7, clusters=7), ring(7))
    assert nx.utils.graphs_equal(clusters(8, clusters=2), barbell(8))
    assert nx.utils.graphs_equal(margulis(4), torus(4))
    assert nx.utils.graphs_equal(paley(5), ring(5))
    assert nx.utils.graphs_equal(watts_strogatz(9, neighbors=2, probability=0), ring(9))
    assert nx.utils.graphs_equal(newman_watts(9, neighbors=8), complete(9))


def test_barbell_counts():
    graph = barbell(20)
    assert graph.number_of_edges() == 2 * 45 + 1
    assert sorted(dict(graph.degree).values()) == [9] * 18 + [10] * 2
    assert nx.diameter(graph) == 3
    assert list(nx.bridges(graph)) == [(9, 10)]


@given(num_agents=st.integers(1, 40), data=st.data())
def test_clusters_are_complete_and_bridged(num_agents, data):
    count = data.draw(st.integers(1, num_agents))
    bridges = data.draw(st.integers(1, num_agents // count))
    graph = clusters(num_agents, clusters=count, bridges=bridges)
    bounds = np.arange(count + 1) * num_agents // count
    cluster = np.searchsorted(bounds, np.arange(num_agents), side="right") - 1
    inside = sum(cluster[u] == cluster[v] for u, v in graph.edges)
    assert inside == sum(math.comb(size, 2) for size in np.bincount(cluster))
    joints = {1: 0, 2: 1}.get(count, count)
    assert graph.number_of_edges() - inside == bridges * joints
    assert nx.is_connected(graph)


@pytest.mark.parametrize("num_agents", [5, 13, 29, 61])
def test_paley_spectrum(num_agents):
    values = np.sort(nx.adjacency_spectrum(paley(num_agents)).real)
    half = (num_agents - 1) // 2
    expected = [*[(-1 - math.sqrt(num_agents)) / 2] * half, *[(-1 + math.sqrt(num_agents)) / 2] * half, half]
    np.testing.assert_allclose(values, np.sort(expected), rtol=0, atol=1e-10)
    squares = {k * k % num_agents for k in range(1, num_agents)}
    assert all(((u - v) % num_agents in squares) == paley(num_agents).has_edge(u, v) for u, v in [(0, 1), (2, 4)])


@pytest.mark.parametrize("n", [3, 4, 5, 8, 12, 20])
def test_margulis_gap(n):
    graph = margulis(n * n)
    multigraph = nx.convert_node_labels_to_integers(nx.margulis_gabber_galil_graph(n), ordering="sorted")
    simple = nx.Graph(multigraph)
    simple.remove_edges_from(list(nx.selfloop_edges(simple)))
    assert nx.utils.edges_equal(graph.edges, simple.edges)
    assert np.sort(nx.adjacency_spectrum(multigraph).real)[-2] <= 5 * math.sqrt(2)
    assert np.sort(nx.laplacian_spectrum(graph))[1] >= (8 - 5 * math.sqrt(2)) / 2
    assert np.sort(eigenvalues(metropolis(graph)))[-2] <= 1 - (8 - 5 * math.sqrt(2)) / 18


@pytest.mark.parametrize(("family", "num_agents", "edges"), [(karate, 34, 78), (davis, 32, 89), (florentine, 15, 20)])
def test_observed_networks(family, num_agents, edges):
    graph = family(None)
    assert nx.utils.graphs_equal(graph, family(num_agents))
    assert list(graph) == list(range(num_agents)) and graph.number_of_edges() == edges
    assert nx.is_connected(graph)
    assert len(set(nx.get_node_attributes(graph, "name").values())) == num_agents
