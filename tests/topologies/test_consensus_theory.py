"""Connectivity, mixing times, effective neighbours and costs against closed forms and simulations."""

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basinet.topologies import (
    Cost,
    algebraic_connectivity,
    communication_cost,
    complete,
    consensus_factor,
    effective_neighbors,
    effective_resistance,
    eigenvalues,
    erdos_renyi,
    exponential,
    hypercube,
    kirchhoff_index,
    laplacian,
    metropolis,
    mixing_rate,
    mixing_time,
    path,
    perron_vector,
    random_regular,
    ring,
    spectral_gap,
    star,
    torus,
    tree,
    uniform,
)
from basinet.topologies.spectra.connectivity import largest_laplacian_eigenvalue


@pytest.mark.parametrize("K", [3, 4, 9, 16])
def test_algebraic_connectivity_in_closed_form(K):
    assert algebraic_connectivity(ring(K)) == pytest.approx(2 - 2 * math.cos(2 * math.pi / K), abs=1e-10)
    assert algebraic_connectivity(path(K)) == pytest.approx(2 - 2 * math.cos(math.pi / K), abs=1e-10)
    assert algebraic_connectivity(star(K)) == pytest.approx(1, abs=1e-10)
    assert algebraic_connectivity(complete(K)) == pytest.approx(K, abs=1e-10)
    assert largest_laplacian_eigenvalue(star(K)) == pytest.approx(K, abs=1e-10)


def test_algebraic_connectivity_at_the_edge():
    assert algebraic_connectivity(path(1)) == 0
    assert algebraic_connectivity(nx.empty_graph(3)) == 0
    assert algebraic_connectivity(path(2)) == pytest.approx(2, abs=1e-12)


@pytest.mark.parametrize(
    ("graph", "value"),
    [
        (ring(3000), 2 - 2 * math.cos(2 * math.pi / 3000)),
        (path(3001), 2 - 2 * math.cos(math.pi / 3001)),
        (star(1500), 1),
        (hypercube(2048), 2),
        (torus(1600), 2 - 2 * math.cos(2 * math.pi / 40)),
    ],
)
def test_algebraic_connectivity_of_more_agents_than_fit_a_dense_matrix(graph, value):
    assert algebraic_connectivity(graph) == pytest.approx(value, rel=1e-6)


def test_largest_laplacian_eigenvalue_of_many_agents():
    assert largest_laplacian_eigenvalue(hypercube(2048)) == pytest.approx(22, rel=1e-6)
    assert largest_laplacian_eigenvalue(ring(2000)) == pytest.approx(4, rel=1e-5)
    assert largest_laplacian_eigenvalue(star(1500)) == pytest.approx(1500, rel=1e-6)


def test_trees_are_solved_along_their_branches():
    graph = tree(1501)
    values = np.linalg.eigvalsh(nx.laplacian_matrix(graph).toarray().astype(float))
    assert algebraic_connectivity(graph) == pytest.approx(values[1], rel=1e-6)
    gap = 1 - np.linalg.eigvalsh(metropolis(graph).toarray())[-2]
    assert spectral_gap(metropolis(graph)) == pytest.approx(gap, rel=1e-6)


@pytest.mark.parametrize("K", [2, 3, 8, 15])
def test_kirchhoff_index_in_closed_form(K):
    rings = {2: 1}.get(K, K * (K**2 - 1) / 12)
    assert kirchhoff_index(ring(K)) == pytest.approx(rings, rel=1e-10)
    assert kirchhoff_index(path(K)) == pytest.approx((K**3 - K) / 6, rel=1e-10)
    assert kirchhoff_index(complete(K)) == pytest.approx(K - 1, rel=1e-10)
    assert kirchhoff_index(star(K)) == pytest.approx((K - 1) ** 2, rel=1e-10)
    assert effective_resistance(complete(K)) == pytest.approx(2 / K, rel=1e-10)


def test_effective_resistance_is_the_mean_over_pairs():
    graph = nx.krackhardt_kite_graph()
    pairs = [nx.resistance_distance(graph, u, v) for u in graph for v in graph if u < v]
    assert effective_resistance(graph) == pytest.approx(np.mean(pairs), rel=1e-10)


@pytest.mark.parametrize(
    ("graph", "value", "rel"),
    [
        (ring(6000), 6000 * (6000**2 - 1) / 12, 1e-2),
        (path(5000), (5000**3 - 5000) / 6, 1e-2),
        (star(5000), 4999**2, 1e-3),
        (hypercube(8192), 8192 * sum(math.comb(13, j) / (2 * j) for j in range(1, 14)), 1e-2),
    ],
)
def test_kirchhoff_index_by_probes(graph, value, rel):
    assert kirchhoff_index(graph) == pytest.approx(value, rel=rel)
    assert kirchhoff_index(graph) == kirchhoff_index(graph)


def test_kirchhoff_index_by_conjugate_gradients(monkeypatch):
    graph = random_regular(600)
    exact = kirchhoff_index(graph)
    monkeypatch.setattr("basinet.topologies.spectra.connectivity.RESISTANCE_AGENTS", 0)
    # As many probes as agents find the whole trace.
    assert kirchhoff_index(graph, num_probes=600) == pytest.approx(exact, rel=1e-8)
    monkeypatch.setattr("basinet.topologies.spectra.connectivity.SOLVER_ROUNDS", 3)
    with pytest.raises(
        RuntimeError, match=r"^the resistances of this graph of 600 agents were not found within 3 rounds"
    ):
        kirchhoff_index(graph)


@pytest.mark.parametrize("policy", [uniform, metropolis])
def test_mixing_time_by_powers(policy):
    W = policy(nx.krackhardt_kite_graph())
    root = np.sqrt(perron_vector(W))
    rest = root[:, None] * W.toarray() / root - np.outer(root, root)
    for eps in (0.5, 0.25, 1e-3):
        time = mixing_time(W, eps=eps)
        assert np.linalg.norm(np.linalg.matrix_power(rest, int(time)), 2) <= eps
        assert np.linalg.norm(np.linalg.matrix_power(rest, int(time) - 1), 2) > eps


def test_mixing_time_at_the_edge():
    assert mixing_time(metropolis(complete(9))) == 1
    assert mixing_time(metropolis(path(1))) == 1
    assert mixing_time([[0, 1], [1, 0]]) > 1e12  # never, to rounding
    assert mixing_time([[0.75, 0.25], [0.25, 0.75]], eps=0.125) == 3
    gap = 4 / 3 * math.sin(math.pi / 20_000) ** 2
    assert mixing_time(metropolis(ring(20_000)), eps=0.01) == pytest.approx(math.log(100) / gap, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.99])
def test_effective_neighbors_in_closed_form(gamma):
    assert effective_neighbors(metropolis(complete(12)), gamma=gamma) == pytest.approx(12, rel=1e-10)
    assert effective_neighbors(np.eye(5), gamma=gamma) == pytest.approx(1, rel=1e-10)
    squares = ((1 + 2 * np.cos(2 * np.pi * np.arange(16) / 16)) / 3) ** 2
    expected = 1 / (1 - gamma) / np.mean(squares / (1 - gamma * squares))
    assert effective_neighbors(metropolis(ring(16)), gamma=gamma) == pytest.approx(expected, rel=1e-10)
    # A circulant matrix is normal: the moduli of its eigenvalues take the place of the eigenvalues.
    squares = np.abs(eigenvalues(uniform(exponential(16)))) ** 2
    expected = 1 / (1 - gamma) / np.mean(squares / (1 - gamma * squares))
    assert effective_neighbors(uniform(exponential(16)), gamma=gamma) == pytest.approx(expected, rel=1e-9)


def test_effective_neighbors_of_a_matrix_that_is_not_normal():
    W = uniform(nx.lollipop_graph(4, 3)).toarray()
    covariance = np.zeros((7, 7))
    for _ in range(400):
        covariance = W @ (0.9 * covariance + np.eye(7)) @ W.T
    expected = 1 / (1 - 0.9) / (np.trace(covariance) / 7)
    assert effective_neighbors(W, gamma=0.9) == pytest.approx(expected, rel=1e-10)


@given(gamma=st.floats(0, 0.999), seed=st.integers(0, 50))
def test_effective_neighbors_lie_between_none_and_all(gamma, seed):
    W = metropolis(erdos_renyi(12, seed=seed))
    assert 1 - 1e-9 <= effective_neighbors(W, gamma=gamma) <= 12 + 1e-9


def test_effective_neighbors_of_many_agents(monkeypatch):
    regular, around = metropolis(random_regular(1002)), metropolis(ring(8_000))
    known = [
        (regular, np.linalg.eigvalsh(regular.toarray()) ** 2),
        (around, ((1 + 2 * np.cos(2 * np.pi * np.arange(8_000) / 8_000)) / 3) ** 2),
    ]
    for gamma in (0.5, 0.99):
        for W, squares in known:
            expected = 1 / (1 - gamma) / np.mean(squares / (1 - gamma * squares))
            assert effective_neighbors(W, gamma=gamma) == pytest.approx(expected, rel=0.02)
    monkeypatch.setattr("basinet.topologies.spectra.consensus_theory.DENSE_AGENTS", 0)
    for gamma in (0.5, 0.99):
        assert effective_neighbors(metropolis(complete(201)), gamma=gamma) == pytest.approx(201, rel=1e-9)


@pytest.fixture(scope="module")
def many_directed():
    return uniform(exponential(8_000))


@pytest.mark.parametrize("gamma", [0.0, 0.9, 0.99])
def test_effective_neighbors_of_many_agents_on_directed_graphs(monkeypatch, many_directed, gamma):
    eigen = np.fft.fft(many_directed[:, [0]].toarray().ravel())
    squares = np.abs(eigen) ** 2
    expected = 1 / (1 - gamma) / np.mean(squares / (1 - gamma * squares))
    assert effective_neighbors(many_directed, gamma=gamma) == pytest.approx(expected, rel=0.03)
    # Where agents differ in how much they count, too.
    graph = erdos_renyi(300, seed=2).to_directed()
    graph.remove_edges_from([(u, v) for u, v in graph.edges if (u * v + u) % 3 == 0 and (v - u) % 300 not in (1, 299)])
    graph.add_edges_from((k, (k + 1) % 300) for k in range(300))
    expected = effective_neighbors(uniform(graph), gamma=gamma)
    monkeypatch.setattr("basinet.topologies.spectra.consensus_theory.DENSE_AGENTS", 0)
    assert effective_neighbors(uniform(graph), gamma=gamma, num_probes=400) == pytest.approx(expected, rel=0.03)


def one_peer(K):
    """The matrices of the one-peer exponential graph, whose product averages exactly for a power of two."""
    return [(np.eye(K) + np.roll(np.eye(K), 2**j, axis=1)) / 2 for j in range((K - 1).bit_length())]


def test_consensus_factor_of_one_matrix_is_its_mixing_rate():
    for W in (metropolis(ring(9)), laplacian(star(9)), metropolis(hypercube(16))):
        assert consensus_factor([W]) == pytest.approx(mixing_rate(W), abs=1e-10)
        assert consensus_factor([W] * 3) == pytest.approx(mixing_rate(W) ** 3, abs=1e-10)


def test_consensus_factor_of_rounds():
    assert consensus_factor(one_peer(16)) < 1e-14
    assert 0.1 < consensus_factor(one_peer(12)) < 1
    assert consensus_factor([np.eye(4)]) == pytest.approx(1)
    W, V = uniform(star(7)).toarray(), uniform(path(7)).toarray()
    assert consensus_factor([W, V]) == pytest.approx(np.linalg.norm((np.eye(7) - 1 / 7) @ V @ W, 2), abs=1e-12)


def test_consensus_factor_of_many_agents():
    assert consensus_factor([metropolis(ring(20_000))]) == pytest.approx(1 - 4 / 3 * math.sin(math.pi / 20_000) ** 2)
    assert consensus_factor([np.eye(3)]) == pytest.approx(1, abs=1e-12)
    assert consensus_factor([metropolis(hypercube(2048))] * 2) == pytest.approx((1 - 2 / 12) ** 2, abs=1e-9)
    # Exact averaging leaves nothing.
    assert consensus_factor(one_peer(1024)) < 1e-6


def test_costs():
    assert communication_cost(metropolis(star(9)), num_parameters=10) == Cost(8, 16 / 9, 320, 640 / 9)
    assert communication_cost(uniform(exponential(16)), num_parameters=5, itemsize=8) == Cost(4, 4.0, 160, 160.0)
    assert communication_cost(np.eye(3), num_parameters=5) == Cost(0, 0.0, 0, 0.0)
    # Agent 0 sends to two, and receives from one.
    graph = nx.DiGraph([(0, 1), (0, 2), (1, 2), (2, 0)])
    assert communication_cost(uniform(graph), num_parameters=1).max_degree == 2


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: algebraic_connectivity(exponential(4)), "the Laplacian needs an undirected graph, but this one is"),
        (lambda: kirchhoff_index(nx.empty_graph(2)), "the graph has 2 connected components, but must have one"),
        (lambda: effective_resistance(path(1)), "the graph has one agent, but a resistance needs two"),
        (lambda: mixing_time(np.eye(1), eps=1), "eps is 1, but must lie in (0, 1)"),
        (lambda: effective_neighbors(np.eye(1), gamma=1), "gamma is 1, but must lie in [0, 1)"),
        (lambda: consensus_factor([]), "the sequence of mixing matrices is empty, but must have at least one"),
        (lambda: consensus_factor([np.eye(2), np.eye(3)]), "the mixing matrices have [2, 3] agents, but must all have"),
        (lambda: communication_cost(np.eye(2), num_parameters=0), "num_parameters is 0, but must be at least 1"),
    ],
)
def test_mistakes_are_one_sentence(build, sentence):
    with pytest.raises(ValueError) as caught:
        build()
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_resistances_of_large_graphs_in_the_plane():
    # The eigenvalues of the Laplacian of a torus are 4 − 2 cos − 2 cos.
    side = 70
    angles = 2 - 2 * np.cos(2 * np.pi * np.arange(side) / side)
    eigenvalues = np.add.outer(angles, angles).ravel()[1:]
    assert kirchhoff_index(torus(side**2, shape=(side, side))) == pytest.approx(
        side**2 * (1 / eigenvalues).sum(), rel=0.02
    )
