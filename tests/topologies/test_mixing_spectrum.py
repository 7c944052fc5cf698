"""Spectra against closed forms, published values and dense references."""

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
    eigenvalues,
    erdos_renyi,
    exponential,
    grid,
    hypercube,
    laplacian,
    metropolis,
    mixing_rate,
    path,
    perron_vector,
    random_regular,
    ring,
    smallest_eigenvalue,
    spectral_gap,
    star,
    torus,
    uniform,
)

ALL = np.arange


def ring_values(K):
    return (1 + 2 * np.cos(2 * np.pi * ALL(K) / K)) / 3


def path_values(K):
    return (1 + 2 * np.cos(np.pi * ALL(K) / K)) / 3


def star_values(K):
    return np.array([1.0, 0.0, *[1 - 1 / K] * (K - 2)])


def torus_values(*shape):
    rings = np.meshgrid(*[2 * np.cos(2 * np.pi * ALL(side) / side) for side in shape])
    return ((1 + sum(rings)) / (1 + 2 * len(shape))).ravel()


def hypercube_values(K):
    ones = np.array([k.bit_count() for k in range(K)])
    return 1 - 2 * ones / (1 + math.log2(K))


def exponential_values(K):
    hops = 2 ** ALL(math.ceil(math.log2(K)))
    return (1 + np.exp(2j * np.pi * np.outer(ALL(K), hops) / K).sum(axis=1)) / (1 + len(hops))


@pytest.mark.parametrize("num_agents", range(2, 34))
def test_gaps_are_those_that_the_families_state(num_agents):
    stated = 2 / (1 + math.ceil(math.log2(num_agents)))
    gap = spectral_gap(uniform(exponential(num_agents)))
    assert gap == pytest.approx(stated, abs=1e-12) if num_agents % 2 == 0 else gap > stated
    if math.log2(num_agents).is_integer():
        assert spectral_gap(metropolis(hypercube(num_agents))) == pytest.approx(stated, abs=1e-12)
    if num_agents >= 3:
        values = np.sort(eigenvalues(metropolis(ring(num_agents))))
        np.testing.assert_allclose(values, np.sort(ring_values(num_agents)), rtol=0, atol=1e-12)


def test_the_gap_of_a_ring_shrinks_as_stated():
    # 2 (1 - cos(x)) / 3 = x^2 / 3 - x^4 / 36 + ... with x = 2 pi / K
    for num_agents in (50, 200):
        gap = spectral_gap(metropolis(ring(num_agents)))
        assert gap == pytest.approx(4 * np.pi**2 / (3 * num_agents**2), rel=(2 * np.pi / num_agents) ** 2 / 12 * 1.01)


@pytest.mark.parametrize("graph", [ring(16), hypercube(16), path(5), star(9), nx.complete_bipartite_graph(4, 4)])
def test_lazy_weights_bring_the_second_eigenvalue_half_way_to_one(graph):
    eager, patient = (np.sort(eigenvalues(POLICIES[name](graph))) for name in ("metropolis", "lazy"))
    assert 1 - patient[-2] == pytest.approx((1 - eager[-2]) / 2, abs=1e-12)
    assert patient[0] >= 0
    slower = (1 - np.abs(patient[:-1]).max()) / (1 - np.abs(eager[:-1]).max())
    assert slower == pytest.approx(0.5 if eager[-2] >= -eager[0] else (1 - eager[-2]) / 2 / (1 + eager[0]), abs=1e-12)


@pytest.mark.parametrize(
    ("W", "expected"),
    [
        (metropolis(ring(3)), ring_values(3)),
        (metropolis(ring(17)), ring_values(17)),
        (uniform(ring(16)), ring_values(16)),
        (metropolis(path(16)), path_values(16)),
        (metropolis(star(16)), star_values(16)),
        (metropolis(complete(16)), np.eye(16)[0]),
        (metropolis(torus(20)), torus_values(4, 5)),
        (metropolis(torus(60, shape=(3, 4, 5))), torus_values(3, 4, 5)),
        (metropolis(hypercube(32)), hypercube_values(32)),
        (laplacian(ring(16), step=0.5), np.cos(2 * np.pi * ALL(16) / 16)),
        (metropolis(path(2)), np.array([1.0, 0.0])),
        (metropolis(path(1)), np.array([1.0])),
    ],
)
def test_real_spectra_in_closed_form(W, expected):
    values = eigenvalues(W)
    assert values.dtype == np.float64
    assert (np.diff(np.abs(values)) <= 1e-12).all()
    np.testing.assert_allclose(np.sort(values), np.sort(expected), rtol=0, atol=1e-10)
    rate = np.sort(np.abs(expected))[-2] if len(expected) > 1 else 0
    assert mixing_rate(W) == pytest.approx(rate, abs=1e-10)
    assert spectral_gap(W) == pytest.approx(1 - rate, abs=1e-10)
    assert smallest_eigenvalue(W) == pytest.approx(expected.min(), abs=1e-10)


@pytest.mark.parametrize("num_agents", [5, 16, 24, 33])
def test_exponential_graph_is_circulant(num_agents):
    values = eigenvalues(uniform(exponential(num_agents)))
    expected = exponential_values(num_agents)
    nearest = np.abs(values[:, None] - expected[None, :])
    assert nearest.min(axis=0).max() < 1e-10
    assert nearest.min(axis=1).max() < 1e-10
    if num_agents % 2 == 0:
        gap = 2 / (1 + math.ceil(math.log2(num_agents)))
        assert spectral_gap(uniform(exponential(num_agents))) == pytest.approx(gap, abs=1e-10)


def lazy(W):
    return (W + np.eye(W.shape[0])) / 2


@pytest.mark.parametrize(
    ("W", "gap", "lambda_min"),
    [
        (metropolis(ring(16)), 0.0507, -0.333),
        (lazy(metropolis(ring(16))), 0.0254, 0.333),
        (laplacian(ring(16), step=1 / 16), 0.0095, 0.750),
        (metropolis(path(16)), 0.0128, -0.321),
        (metropolis(star(16)), 0.0625, 0),
        (metropolis(grid(16)), 0.1314, -0.431),
        (metropolis(nx.erdos_renyi_graph(16, 0.4, seed=1)), 0.2280, -0.262),
        (metropolis(hypercube(16)), 0.4, -0.6),
    ],
)
def test_spectral_gaps_of_sixteen_agents(W, gap, lambda_min):
    assert spectral_gap(W) == pytest.approx(gap, abs=5.1e-5)
    assert smallest_eigenvalue(W) == pytest.approx(lambda_min, abs=5.1e-4)


@pytest.mark.parametrize(
    ("W", "rate", "lambda_min"),
    [
        (metropolis(ring(3001)), max(ring_values(3001)[1:]), min(ring_values(3001))),
        (metropolis(path(3000)), path_values(3000)[1], path_values(3000)[-1]),
        (metropolis(star(1500)), 1 - 1 / 1500, 0),
        (metropolis(torus(1600)), np.sort(torus_values(40, 40))[-2], min(torus_values(40, 40))),
        # The two ends of these spectra are equally far from zero.
        (metropolis(hypercube(2048)), 1 - 2 / 12, 2 / 12 - 1),
        (laplacian(ring(2000), step=0.5), 1, -1),
        # Here the lower end decides.
        (laplacian(hypercube(2048), step=0.09), 22 * 0.09 - 1, 1 - 22 * 0.09),
        (lazy(metropolis(ring(1200))), (1 + ring_values(1200)[1]) / 2, 1 / 3),
    ],
)
def test_more_agents_than_fit_a_dense_matrix(W, rate, lambda_min):
    assert 1 - mixing_rate(W) == pytest.approx(1 - rate, rel=1e-6, abs=1e-12)
    assert smallest_eigenvalue(W) == pytest.approx(lambda_min, abs=1e-10)


def test_large_graphs_without_closed_form_agree_with_dense_values():
    for graph, policy in [(random_regular(1100), metropolis), (erdos_renyi(1100, probability=0.02), uniform)]:
        # With closed neighbourhoods N and sizes n, either is similar to n^(-1/2) N n^(-1/2).
        root = np.sqrt([1 + degree for _, degree in graph.degree])
        values = np.linalg.eigvalsh((nx.to_numpy_array(graph) + np.eye(1100)) / np.outer(root, root))
        W = policy(graph)
        assert mixing_rate(W) == pytest.approx(max(values[-2], -values[0]), abs=1e-9)
        assert smallest_eigenvalue(W) == pytest.approx(values[0], abs=1e-9)


def test_large_directed_graph():
    W = uniform(exponential(2048))
    assert mixing_rate(W) == pytest.approx(1 - 2 / 12, abs=1e-9)


def test_slow_directed_graph_says_that_it_was_not_solved():
    with pytest.raises(RuntimeError, match=r"of 1500 agents was not found within .* mixes too slowly"):
        mixing_rate(uniform(nx.cycle_graph(1500, create_using=nx.DiGraph)))


def test_mixing_matrix_that_swaps_never_mixes():
    assert mixing_rate([[0, 1], [1, 0]]) == pytest.approx(1, abs=1e-12)
    assert spectral_gap([[0, 1], [1, 0]]) == pytest.approx(0, abs=1e-12)


def test_powers_shrink_at_the_mixing_rate():
    W = uniform(nx.lollipop_graph(5, 4))
    rest = W.toarray() - perron_vector(W)
    norms = [np.linalg.norm(np.linalg.matrix_power(rest, n), 2) for n in (200, 201)]
    assert norms[1] / norms[0] == pytest.approx(mixing_rate(W), rel=1e-6)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(num_agents=st.integers(1, 12), seed=st.integers(0, 1000))
def test_perron_vector_is_conserved(num_agents, seed):
    rng = np.random.default_rng(seed)
    W = rng.random((num_agents, num_agents)) * (rng.random((num_agents, num_agents)) < 0.4)
    W += np.roll(np.eye(num_agents), 1, axis=1)
    W /= W.sum(axis=1, keepdims=True)
    pi = perron_vector(W)
    assert (pi > 0).all()
    assert pi.sum() == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(pi @ W, pi, rtol=0, atol=1e-14)


@pytest.mark.parametrize("num_hops", [1, 10])
def test_perron_vector_of_a_large_directed_graph(num_hops):
    rng = np.random.default_rng(0)
    K = 3000
    rows = np.repeat(ALL(K), num_hops + 1)
    # Long and thin with one hop; mixing fast, with ten at random.
    hops = np.ones((K, 1), dtype=int) if num_hops == 1 else rng.integers(1, K, (K, num_hops))
    columns = (np.hstack([np.zeros((K, 1), dtype=int), hops]) + ALL(K)[:, None]).ravel() % K
    W = csr_array((rng.random(len(rows)) + 0.1, (rows, columns)), shape=(K, K))
    W = check_mixing_matrix(csr_array(W.multiply(1 / W.sum(axis=1)[:, None])))
    pi = perron_vector(W)
    assert (pi > 0).all()
    np.testing.assert_allclose(W.T @ pi, pi, rtol=0, atol=1e-13)
    if num_hops == 1:
        # What each agent passes on is the same all round.
        passed = pi * (1 - W.diagonal())
        np.testing.assert_allclose(passed / passed[0], 1, rtol=1e-9)


def test_perron_vector_of_directed_star():
    graph = nx.DiGraph([(0, 1), (0, 2), (1, 2), (2, 0)])
    pi = perron_vector(uniform(graph))
    np.testing.assert_allclose(uniform(graph).T @ pi, pi, atol=1e-15)


def test_reversible_chain_with_steep_weights():
    up, down = 0.9, 0.1
    W = np.diag([up] * 299, 1) + np.diag([down] * 299, -1)
    W += np.diag(1 - W.sum(axis=1))
    pi = perron_vector(W)
    np.testing.assert_allclose(pi[1:] / pi[:-1], up / down, rtol=1e-9)
    assert eigenvalues(W).dtype == np.float64


@pytest.mark.parametrize("build", [ring, torus])
def test_a_hundred_thousand_agents(build):
    graph = build(100_000)
    W = metropolis(graph)
    assert W.shape == (100_000, 100_000)
    check_mixing_matrix(W, graph)
    assert (perron_vector(W) == 1e-5).all()
    sizes = 1 + np.array([degree for _, degree in graph.degree])
    np.testing.assert_allclose(perron_vector(uniform(graph)), sizes / sizes.sum(), rtol=1e-9)


def test_spectral_gap_that_is_nearly_zero():
    gap = 4 / 3 * math.sin(math.pi / 20_000) ** 2
    assert spectral_gap(metropolis(ring(20_000))) == pytest.approx(gap, rel=1e-6)


def test_mistakes_are_one_sentence():
    with pytest.raises(
        ValueError,
        match=r"^the mixing matrix has 5000 agents, but all eigenvalues are found for at most 4096;",
    ):
        eigenvalues(metropolis(ring(5000)))
    with pytest.raises(ValueError, match=r"^the mixing matrix is not reversible, so its eigenvalues may be complex;"):
        smallest_eigenvalue(uniform(exponential(8)))
    with pytest.raises(ValueError, match=r"^the mixing matrix has 2 strongly connected components, but must have one"):
        spectral_gap(np.eye(2))
