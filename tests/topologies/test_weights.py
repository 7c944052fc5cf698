"""Combination policies: closed forms, optimality, own weights, and the mistakes one can make."""

import math
import sys

import networkx as nx
import numpy as np
import pytest

from basinet.topologies import (
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
    path,
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


def test_complete_graph_averages_exactly():
    for policy in [metropolis, laplacian, max_degree, best_constant, hastings, sinkhorn, uniform, relative_degree]:
        np.testing.assert_allclose(policy(complete(7)).toarray(), 1 / 7, rtol=1e-13)


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
            "the policy hastings has perron of length 2, but needs 3, one per agent",
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
            "the policy sinkhorn needs a directed cycle through every edge, but what agent 'a' sends to agent 'b'",
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


@pytest.mark.parametrize(
    ("policy", "gap", "lambda_min", "consensus"),
    [(lazy, 0.0254, 0.333, 68.4), (max_degree, 0.0095, 0.750, 174.0), (best_constant, 0.0733, -0.927, 42.8)],
)
def test_ring_of_sixteen(policy, gap, lambda_min, consensus):
    W = policy(ring(16))
    assert spectral_gap(W) == pytest.approx(gap, abs=5.1e-5)
    assert smallest_eigenvalue(W) == pytest.approx(lambda_min, abs=5.1e-4)
    assert (1 / (1 - eigenvalues(W)[1:] ** 2)).sum() == pytest.approx(consensus, abs=0.051)


def test_max_degree_is_a_laplacian_policy():
    for graph in (star(9), ring(9), exponential(9)):
        np.testing.assert_allclose(
            max_degree(graph).toarray(), laplacian(graph, step=1 / 9).toarray(), rtol=0, atol=1e-15
        )


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
