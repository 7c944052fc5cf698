"""Combination policies: their properties on random graphs and on every family."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from basinet.topologies import (
    POLICIES,
    TOPOLOGIES,
    best_constant,
    check_mixing_matrix,
    fastest,
    hastings,
    laplacian,
    lazy,
    max_degree,
    metropolis,
    neighborhoods,
    path,
    perron_vector,
    push,
    relative_degree,
    relative_variance,
    ring,
    sinkhorn,
    smallest_eigenvalue,
    uniform,
    weights,
)


def half_trusted(graph):
    """Relative-variance weights where every other agent is noisier."""
    return relative_variance(graph, variance=[1 + k % 2 for k in range(len(graph))])


SYMMETRIC = [metropolis, laplacian, lazy, max_degree, hastings]

DOUBLY_STOCHASTIC = [*SYMMETRIC, sinkhorn]

FROM_GRAPH = [*DOUBLY_STOCHASTIC, uniform, relative_degree, half_trusted]

DIRECTED = [uniform, laplacian, max_degree, relative_degree, half_trusted, sinkhorn]


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
@settings(deadline=None, derandomize=True, max_examples=25)
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


@pytest.mark.parametrize("policy", SYMMETRIC)
@settings(deadline=None, derandomize=True, max_examples=25)
@given(graph=graphs())
def test_symmetric_policies_weigh_all_agents_alike(policy, graph):
    W = policy(graph)
    np.testing.assert_array_equal(W.toarray(), W.toarray().T)
    assert (perron_vector(W) == 1 / len(graph)).all()


@pytest.mark.parametrize("policy", DIRECTED)
@settings(deadline=None, derandomize=True, max_examples=25)
@given(graph=graphs(directed=True))
def test_directed_graphs(policy, graph):
    W = policy(graph)
    check_mixing_matrix(W, graph)
    sends = nx.to_numpy_array(graph, weight=None) > 0
    assert ((W.toarray() > 0) == (sends.T | np.eye(len(graph), dtype=bool))).all()


@pytest.mark.parametrize("policy", [*DOUBLY_STOCHASTIC, uniform, relative_degree])
@settings(deadline=None, derandomize=True, max_examples=15)
@given(graph=graphs(), data=st.data())
def test_node_order_is_the_graphs_own(policy, graph, data):
    order = data.draw(st.permutations(list(graph)))
    shuffled = nx.Graph()
    shuffled.add_nodes_from(("agent", k) for k in order)
    shuffled.add_edges_from((("agent", u), ("agent", v)) for u, v in graph.edges)
    position = [list(graph).index(k) for k in order]
    expected = policy(graph).toarray()[np.ix_(position, position)]
    np.testing.assert_allclose(policy(shuffled).toarray(), expected, rtol=0, atol=1e-10)


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
    W = policy(graph).toarray()
    np.testing.assert_array_equal(W > 0, [[True, True, False], [True, True, False], [False, False, True]])
    np.testing.assert_allclose(W.sum(axis=1), 1)


def test_every_policy_is_listed():
    assert set(POLICIES.values()) == {
        *set(FROM_GRAPH) - {half_trusted},
        relative_variance,
        best_constant,
        fastest,
        push,
        weights,
        POLICIES["file"],
    }


FAMILIES = {
    "hypercube": (16, {}),
    "margulis": (16, {}),
    "paley": (17, {}),
    "karate": (None, {}),
    "davis": (None, {}),
    "florentine": (None, {}),
    "clusters": (18, {"bridges": 2}),
}

READ = {"edge_list", "adjacency_list", "adjacency_matrix", "graphml"}


@pytest.mark.parametrize("family", sorted(TOPOLOGIES.keys() - READ))
def test_every_policy_on_every_family(family):
    num_agents, chosen = FAMILIES.get(family, (18, {}))
    graph = TOPOLOGIES[family](num_agents, **chosen)
    for policy in DIRECTED if graph.is_directed() else FROM_GRAPH:
        W = check_mixing_matrix(policy(graph), graph)
        np.testing.assert_allclose(W.sum(axis=1), 1, rtol=0, atol=1e-14)
        if policy in SYMMETRIC and not graph.is_directed():
            assert abs(W - W.T).max() == 0
        if policy in DOUBLY_STOCHASTIC:
            np.testing.assert_allclose(perron_vector(W), 1 / len(graph), rtol=1e-12)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(graph=graphs(), keep=st.floats(0, 0.99))
def test_lazy_by_definition(graph, keep):
    expected = keep * np.eye(len(graph)) + (1 - keep) * metropolis(graph).toarray()
    np.testing.assert_allclose(lazy(graph, keep=keep).toarray(), expected, rtol=0, atol=1e-15)
    assert smallest_eigenvalue(lazy(graph)) >= -1e-14


@settings(deadline=None, derandomize=True, max_examples=60)
@given(graph=graphs(), data=st.data())
def test_hastings_has_the_wanted_perron_vector(graph, data):
    wanted = data.draw(st.lists(st.floats(0.01, 100), min_size=len(graph), max_size=len(graph)))
    W = hastings(graph, perron=wanted)
    check_mixing_matrix(W, graph)
    pi = np.array(wanted) / sum(wanted)
    np.testing.assert_allclose(perron_vector(W), pi, rtol=1e-9)
    flow = pi[:, None] * W.toarray()
    np.testing.assert_allclose(flow, flow.T, rtol=0, atol=1e-15)
    nx.set_node_attributes(graph, dict(zip(graph, wanted, strict=True)), "people")
    np.testing.assert_array_equal(hastings(graph, perron="people").toarray(), W.toarray())
    np.testing.assert_array_equal(hastings(graph).toarray(), metropolis(graph).toarray())


@settings(deadline=None, derandomize=True, max_examples=60)
@given(graph=graphs(), data=st.data())
def test_relative_policies_by_definition(graph, data):
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    near = nx.to_numpy_array(graph) + np.eye(len(graph))
    variance = np.array(data.draw(st.lists(st.floats(0.1, 10), min_size=len(graph), max_size=len(graph))))
    for policy, trust in [
        (relative_degree, near.sum(axis=1)),
        (lambda graph: relative_variance(graph, variance=variance), 1 / variance),
    ]:
        W = policy(graph)
        total = near @ trust
        np.testing.assert_allclose(W.toarray(), near * trust / total[:, None], rtol=0, atol=1e-14)
        np.testing.assert_allclose(perron_vector(W), trust * total / (trust @ total), rtol=1e-9)


@pytest.mark.parametrize("directed", [False, True])
@settings(deadline=None, derandomize=True, max_examples=60)
@given(data=st.data())
def test_sinkhorn_is_doubly_stochastic(directed, data):
    W = sinkhorn(data.draw(graphs(directed=directed))).toarray()
    np.testing.assert_allclose(W.sum(axis=0), 1, rtol=0, atol=2e-12)
    np.testing.assert_allclose(W.sum(axis=1), 1, rtol=0, atol=2e-12)
    if not directed:
        np.testing.assert_array_equal(W, W.T)


@pytest.fixture(scope="module")
def large_ring():
    return ring(100_000)


@pytest.mark.parametrize("policy", [metropolis, lazy, hastings, max_degree, relative_degree, best_constant, sinkhorn])
def test_a_hundred_thousand_agents(policy, large_ring):
    W = policy(large_ring)
    assert W.nnz == 300_000
    np.testing.assert_allclose(W.sum(axis=1), 1, rtol=0, atol=1e-14)
