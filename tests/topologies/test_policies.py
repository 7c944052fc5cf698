"""Combination policies: their properties on random graphs, their errors, and user's own weights."""

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from basinet.topologies import (
    POLICIES,
    check_mixing_matrix,
    complete,
    exponential,
    laplacian,
    metropolis,
    neighborhoods,
    path,
    perron_vector,
    ring,
    star,
    uniform,
    weights,
)

DOUBLY_STOCHASTIC = [metropolis, laplacian]
FROM_GRAPH = [metropolis, laplacian, uniform]


@st.composite
def graphs(draw, directed=False):
    """Connected graphs of up to 12 agents: a random tree (or cycle, if directed) and more edges."""
    num_agents = draw(st.integers(1, 12))
    order = draw(st.permutations(range(num_agents)))
    graph = nx.DiGraph() if directed else nx.Graph()
    graph.add_nodes_from(order)
    if directed:
        graph.add_edges_from(zip(order, [*order[1:], order[0]], strict=True))
    else:
        graph.add_edges_from((order[k], order[draw(st.integers(0, k - 1))]) for k in range(1, num_agents))
    pairs = st.tuples(st.integers(0, num_agents - 1), st.integers(0, num_agents - 1))
    graph.add_edges_from(draw(st.lists(pairs, max_size=20)))
    return graph


@pytest.mark.parametrize("policy", FROM_GRAPH)
@settings(deadline=None, derandomize=True, max_examples=60)
@given(graph=graphs())
def test_rows_are_convex_combinations_of_neighbours(policy, graph):
    W = policy(graph)
    assert isinstance(W, csr_array)
    assert W.dtype == np.float64
    check_mixing_matrix(W, graph)
    dense = W.toarray()
    np.testing.assert_allclose(dense.sum(axis=1), 1, rtol=0, atol=1e-14)
    assert (dense >= 0).all()
    support = nx.to_numpy_array(graph, weight=None) > 0
    assert ((dense > 0) == (support | np.eye(len(graph), dtype=bool))).all()


@pytest.mark.parametrize("policy", DOUBLY_STOCHASTIC)
@settings(deadline=None, derandomize=True, max_examples=60)
@given(graph=graphs())
def test_symmetric_policies_weigh_all_agents_alike(policy, graph):
    W = policy(graph)
    np.testing.assert_array_equal(W.toarray(), W.toarray().T)
    assert (perron_vector(W) == 1 / len(graph)).all()


@pytest.mark.parametrize("policy", [uniform, laplacian])
@settings(deadline=None, derandomize=True, max_examples=60)
@given(graph=graphs(directed=True))
def test_directed_graphs(policy, graph):
    W = policy(graph)
    check_mixing_matrix(W, graph)
    sends = nx.to_numpy_array(graph, weight=None) > 0
    assert ((W.toarray() > 0) == (sends.T | np.eye(len(graph), dtype=bool))).all()


@pytest.mark.parametrize("policy", FROM_GRAPH)
@settings(deadline=None, derandomize=True, max_examples=30)
@given(graph=graphs(), data=st.data())
def test_node_order_is_the_graphs_own(policy, graph, data):
    order = data.draw(st.permutations(list(graph)))
    shuffled = nx.Graph()
    shuffled.add_nodes_from(("agent", k) for k in order)
    shuffled.add_edges_from((("agent", u), ("agent", v)) for u, v in graph.edges)
    position = [list(graph).index(k) for k in order]
    expected = policy(graph).toarray()[np.ix_(position, position)]
    np.testing.assert_allclose(policy(shuffled).toarray(), expected, rtol=0, atol=1e-15)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(graph=graphs())
def test_perron_vector_of_uniform_weights(graph):
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    sizes = np.array([1 + degree for _, degree in graph.degree])
    np.testing.assert_allclose(perron_vector(uniform(graph)), sizes / sizes.sum(), rtol=1e-12)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(graph=graphs())
def test_laplacian_and_metropolis_by_definition(graph):
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    L = nx.laplacian_matrix(graph, weight=None).toarray()
    d_max = L.diagonal().max()
    np.testing.assert_allclose(laplacian(graph).toarray(), np.eye(len(graph)) - L / (d_max + 1), atol=1e-15)
    W = metropolis(graph).toarray()
    index = {agent: k for k, agent in enumerate(graph)}
    for u, v in graph.edges:
        assert W[index[u], index[v]] == 1 / (1 + max(graph.degree[u], graph.degree[v]))


def test_complete_graph_averages_exactly():
    for policy in FROM_GRAPH:
        np.testing.assert_allclose(policy(complete(7)).toarray(), 1 / 7, rtol=1e-14)


def test_direction_of_an_edge():
    graph = nx.DiGraph([("speaker", "listener")])
    np.testing.assert_array_equal(neighborhoods(graph).toarray(), [[0, 0], [1, 0]])
    np.testing.assert_array_equal(uniform(graph).toarray(), [[1, 0], [0.5, 0.5]])


def test_edge_weights_do_not_matter_to_policies_of_the_graph():
    graph = path(4)
    nx.set_edge_attributes(graph, 7.5, "weight")
    for policy in FROM_GRAPH:
        np.testing.assert_array_equal(policy(graph).toarray(), policy(path(4)).toarray())


@pytest.mark.parametrize("policy", FROM_GRAPH)
def test_a_round_in_which_links_are_down_still_has_a_matrix(policy):
    graph = nx.Graph([(0, 1)])
    graph.add_node(2)
    np.testing.assert_allclose(policy(graph).toarray(), [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("policy", "graph"),
    [(metropolis, star(6)), (laplacian, ring(9)), (uniform, star(6)), (uniform, exponential(8))],
)
def test_own_weights_round_trip(policy, graph):
    W = policy(graph)
    weighted = graph.to_directed()
    nx.set_edge_attributes(weighted, {(u, v): W[[v], [u]].item() for u, v in weighted.edges}, "weight")
    np.testing.assert_allclose(weights(weighted).toarray(), W.toarray(), rtol=0, atol=1e-15)
    for k in weighted:
        weighted.add_edge(k, k, weight=W[[k], [k]].item())
    np.testing.assert_array_equal(weights(weighted).toarray(), W.toarray())


def weighted_graph(*edges, directed=False):
    graph = nx.DiGraph() if directed else nx.Graph()
    graph.add_weighted_edges_from(edges)
    return graph


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (
            lambda: metropolis(exponential(4)),
            "the policy metropolis needs an undirected graph, but this one is",
        ),
        (
            lambda: laplacian(star(5), step=0.3),
            "the policy laplacian has step 0.3, but on this graph it must lie in (0, 1/4], one",
        ),
        (lambda: laplacian(ring(5), step=0.0), "the policy laplacian has step 0, but on this graph"),
        (lambda: laplacian(ring(5), step=math.nan), "the policy laplacian has step nan, but on this graph"),
        (
            lambda: weights(ring(3)),
            "the policy weights finds the weight None on the edge",
        ),
        (
            lambda: weights(weighted_graph(("a", "b", -1.0))),
            "the policy weights finds the weight -1.0 on",
        ),
        (
            lambda: weights(weighted_graph(("a", "b", "x"))),
            "the policy weights finds the weight x on",
        ),
        (lambda: weights(weighted_graph(("a", "b", math.inf))), "the policy weights finds the weight inf"),
        (
            lambda: weights(weighted_graph(("a", "b", 0.6), ("b", "c", 0.6))),
            "the policy weights finds that agent 'b' gives weights with the sum 1.2, but must",
        ),
        (
            lambda: weights(weighted_graph(("a", "b", 0.5), ("a", "a", 0.6))),
            "the policy weights finds that agent 'a' gives weights with the sum 1.1",
        ),
        (
            lambda: uniform(nx.MultiGraph([(0, 1)])),
            "the graph is a MultiGraph, but must have at most one edge",
        ),
        (lambda: uniform(nx.Graph()), "the graph has no nodes, but must have at least one agent"),
    ],
)
def test_mistakes_are_one_sentence(build, sentence):
    with pytest.raises(ValueError) as caught:
        build()
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_laplacian_allows_its_whole_range():
    for degree in range(1, 60):
        assert laplacian(star(degree + 1), step=1 / degree).data.min() >= 0


def test_every_policy_is_listed():
    assert list(POLICIES) == ["metropolis", "uniform", "laplacian", "weights"]
