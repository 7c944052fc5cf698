"""Combination policies: their properties on random graphs, their errors, and user's own weights."""

import inspect
import math
import sys

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from basinet.topologies import (
    POLICIES,
    TOPOLOGIES,
    GraphSequence,
    best_constant,
    check_mixing_matrix,
    complete,
    eigenvalues,
    equitopo,
    exponential,
    fastest,
    grid,
    hastings,
    hypercube,
    karate,
    laplacian,
    lazy,
    max_degree,
    metropolis,
    mixing_rate,
    neighborhoods,
    path,
    perron_vector,
    push,
    relative_degree,
    relative_variance,
    ring,
    sinkhorn,
    smallest_eigenvalue,
    spectral_gap,
    star,
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


@pytest.mark.parametrize("policy", SYMMETRIC)
@settings(deadline=None, derandomize=True, max_examples=60)
@given(graph=graphs())
def test_symmetric_policies_weigh_all_agents_alike(policy, graph):
    W = policy(graph)
    np.testing.assert_array_equal(W.toarray(), W.toarray().T)
    assert (perron_vector(W) == 1 / len(graph)).all()


@pytest.mark.parametrize("policy", DIRECTED)
@settings(deadline=None, derandomize=True, max_examples=60)
@given(graph=graphs(directed=True))
def test_directed_graphs(policy, graph):
    W = policy(graph)
    check_mixing_matrix(W, graph)
    sends = nx.to_numpy_array(graph, weight=None) > 0
    assert ((W.toarray() > 0) == (sends.T | np.eye(len(graph), dtype=bool))).all()


@pytest.mark.parametrize("policy", [*DOUBLY_STOCHASTIC, uniform, relative_degree])
@settings(deadline=None, derandomize=True, max_examples=30)
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


def test_complete_graph_averages_exactly():
    for policy in [metropolis, laplacian, max_degree, best_constant, hastings, sinkhorn, uniform, relative_degree]:
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
    W = policy(graph).toarray()
    np.testing.assert_array_equal(W > 0, [[True, True, False], [True, True, False], [False, False, True]])
    np.testing.assert_allclose(W.sum(axis=1), 1)


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
        (lambda: lazy(ring(5), keep=1), "the policy lazy has keep 1, but it must lie in [0, 1)"),
        (lambda: lazy(exponential(4)), "the policy lazy needs an undirected graph, but this one is directed;"),
        (lambda: hastings(exponential(4)), "the policy hastings needs an undirected graph, but"),
        (lambda: best_constant(exponential(4)), "the policy best_constant needs an undirected graph, but"),
        (lambda: fastest(exponential(4)), "the policy fastest needs an undirected graph, but"),
        (
            lambda: hastings(ring(3), perron=[1, 1]),
            "the policy hastings has perron of length 2, but needs 3, one an agent",
        ),
        (
            lambda: hastings(ring(3), perron=[1, 0, 1]),
            "the policy hastings finds 0 as perron of agent 1, but needs a positive number for every agent",
        ),
        (
            lambda: relative_variance(ring(3)),
            "the policy relative_variance finds None as the node attribute 'variance' of agent 0, but needs a",
        ),
        (
            lambda: relative_variance(ring(3), variance=[1, math.inf, 1]),
            "the policy relative_variance finds inf as variance of agent 1, but needs a positive number",
        ),
        (
            lambda: best_constant(star(6)),
            "the policy best_constant gives agent 0 the weight -0.429 for its own value, but no weight may be",
        ),
        (lambda: best_constant(nx.empty_graph(2)), "the graph has 2 connected components, but must have one"),
        (lambda: fastest(ring(300)), "the policy fastest has 300 agents, but is solved for at most 100;"),
        (
            lambda: sinkhorn(nx.DiGraph([("a", "b")])),
            "the policy sinkhorn needs a way back for every edge, but what agent 'a' sends to agent 'b' never returns;",
        ),
        (lambda: sinkhorn(path(900)), "the policy sinkhorn has column sums that are off by"),
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
SEQUENCES = {name for name in TOPOLOGIES if inspect.signature(TOPOLOGIES[name]).return_annotation is GraphSequence}
NOT_GENERATED = {"edge_list", "adjacency_list", "adjacency_matrix", "graphml", *SEQUENCES}


@pytest.mark.parametrize("family", sorted(TOPOLOGIES.keys() - NOT_GENERATED))
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


@pytest.mark.parametrize(
    ("policy", "gap", "lambda_min", "consensus"),
    [(lazy, 0.0254, 0.333, 68.4), (max_degree, 0.0095, 0.750, 174.0), (best_constant, 0.0733, -0.927, 42.8)],
)
def test_ring_of_sixteen(policy, gap, lambda_min, consensus):
    W = policy(ring(16))
    assert spectral_gap(W) == pytest.approx(gap, abs=5.1e-5)
    assert smallest_eigenvalue(W) == pytest.approx(lambda_min, abs=5.1e-4)
    assert (1 / (1 - eigenvalues(W)[1:] ** 2)).sum() == pytest.approx(consensus, abs=0.051)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(graph=graphs(), keep=st.floats(0, 0.99))
def test_lazy_by_definition(graph, keep):
    expected = keep * np.eye(len(graph)) + (1 - keep) * metropolis(graph).toarray()
    np.testing.assert_allclose(lazy(graph, keep=keep).toarray(), expected, rtol=0, atol=1e-15)
    assert smallest_eigenvalue(lazy(graph)) >= -1e-14


def test_max_degree_is_a_laplacian_policy():
    for graph in (star(9), ring(9), exponential(9)):
        np.testing.assert_allclose(
            max_degree(graph).toarray(), laplacian(graph, step=1 / 9).toarray(), rtol=0, atol=1e-15
        )


@settings(deadline=None, derandomize=True, max_examples=60)
@given(graph=graphs(), data=st.data())
def test_hastings_has_the_wanted_perron_vector(graph, data):
    wanted = data.draw(st.lists(st.floats(0.01, 100), min_size=len(graph), max_size=len(graph)))
    W = hastings(graph, perron=wanted)
    check_mixing_matrix(W, graph)
    pi = np.array(wanted) / sum(wanted)
    np.testing.assert_allclose(perron_vector(W), pi, rtol=1e-9)
    flow = pi[:, None] * W.toarray()
    np.testing.assert_allclose(flow, flow.T, rtol=0, atol=1e-16)
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


def test_sinkhorn_on_regular_graphs_is_uniform():
    for graph in (ring(9), hypercube(8), exponential(9), equitopo(9)):
        np.testing.assert_allclose(sinkhorn(graph).toarray(), uniform(graph).toarray(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("graph", [ring(16), path(9), path(2), hypercube(16), complete(5)])
def test_best_constant_beats_every_other_step(graph):
    values = nx.laplacian_spectrum(graph)
    W = best_constant(graph)
    check_mixing_matrix(W, graph)
    second, last = values[1], values[-1]
    assert mixing_rate(W) == pytest.approx((last - second) / (last + second), abs=1e-10)
    for step in np.linspace(0.01, 1 / max(dict(graph.degree).values()), 20):
        assert mixing_rate(laplacian(graph, step=step)) >= mixing_rate(W) - 1e-12


@pytest.mark.parametrize(
    "graph", [ring(9), ring(16), path(8), star(7), hypercube(8), grid(9), karate(None), path(2), path(1)]
)
def test_fastest_is_no_slower_than_any_other(graph):
    pytest.importorskip("cvxpy")
    W = fastest(graph)
    check_mixing_matrix(W, graph)
    np.testing.assert_array_equal(W.toarray(), W.toarray().T)
    assert mixing_rate(W) <= mixing_rate(metropolis(graph)) + 1e-6
    assert mixing_rate(W) <= mixing_rate(laplacian(graph)) + 1e-6


def test_fastest_in_closed_form():
    pytest.importorskip("cvxpy")
    # Edge-transitive graphs: a constant is optimal. A path: one half on every edge.
    for graph in (ring(9), hypercube(8)):
        np.testing.assert_allclose(fastest(graph).toarray(), best_constant(graph).toarray(), rtol=0, atol=1e-5)
    assert mixing_rate(fastest(path(8))) == pytest.approx(math.cos(math.pi / 8), abs=1e-6)


def test_fastest_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(ImportError, match=r"^the policy fastest needs cvxpy: install basinet\[convex\]$"):
        fastest(ring(5))


@pytest.mark.parametrize("policy", [metropolis, lazy, hastings, max_degree, relative_degree, best_constant, sinkhorn])
def test_a_hundred_thousand_agents(policy):
    W = policy(ring(100_000))
    assert W.nnz == 300_000
    np.testing.assert_allclose(W.sum(axis=1), 1, rtol=0, atol=1e-14)
