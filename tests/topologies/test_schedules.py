"""Sequences of graphs: exact averaging in finite time, consensus rates, and who sends to whom."""

import math

import networkx as nx
import numpy as np
import pytest

from basinet.topologies import (
    POLICIES,
    SEQUENCES,
    base_graph,
    consensus_factor,
    hyper_hypercube,
    inner_outer_exponential,
    inner_outer_ring,
    one_peer_equitopo,
    one_peer_exponential,
    one_peer_hypercube,
    random_matchings,
    simple_base_graph,
    weights,
)


def own_matrices(sequence):
    """The mixing matrices of the graphs' own policy."""
    return [POLICIES[graph.graph.get("policy", "metropolis")](graph).toarray() for graph in sequence]


def smooth(num_agents, most):
    """Whether no prime factor is above `most`, by trial."""
    for factor in range(2, most + 1):
        while num_agents % factor == 0:
            num_agents //= factor
    return num_agents == 1


@pytest.mark.parametrize("peers", [1, 2, 3, 4])
@pytest.mark.parametrize("family", [hyper_hypercube, simple_base_graph, base_graph])
def test_finite_time_schedules_average_exactly(family, peers):
    for num_agents in range(1, 41):
        if family is hyper_hypercube and not smooth(num_agents, peers + 1):
            continue
        sequence = family(num_agents, peers=peers)
        product = np.eye(num_agents)
        for graph, W in zip(sequence, own_matrices(sequence), strict=True):
            assert list(graph) == list(range(num_agents))
            assert max(dict(graph.degree).values()) <= peers
            np.testing.assert_array_equal(W, W.T)
            product = W @ product
        np.testing.assert_allclose(product, 1 / num_agents, rtol=0, atol=1e-14)
        # Theorem 1 of Takezawa et al.; one step where there is nothing to do.
        assert len(sequence) <= max(1, 2 * math.log(num_agents, peers + 1) + 2 + 1e-9)


def test_steps_of_finite_time_schedules():
    assert [len(base_graph(2**p)) for p in range(1, 8)] == list(range(1, 8))
    assert [len(base_graph(K)) for K in (3, 5, 6, 7)] == [3, 5, 4, 5]
    assert [len(simple_base_graph(K)) for K in (3, 5, 6, 7)] == [3, 5, 5, 5]
    assert len(base_graph(40, peers=39)) == 1
    # 216 = 6 * 6 * 6, where starting with the largest factor, 8, needs three more.
    assert (len(hyper_hypercube(216, peers=7)), len(hyper_hypercube(216, peers=2))) == (3, 6)
    for K in range(1, 41):
        assert len(base_graph(K)) <= len(simple_base_graph(K))


def test_the_hypercube_is_the_hyper_hypercube_of_one_peer():
    for one, other in zip(own_matrices(one_peer_hypercube(16)), own_matrices(hyper_hypercube(16))[::-1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("peers", [1, 3])
def test_finite_time_with_many_agents(peers):
    sequence = base_graph(5000, peers=peers)
    x = np.random.default_rng(1).standard_normal((5000, 3))
    mean = x.mean(axis=0)
    for graph in sequence:
        x = weights(graph) @ x
    np.testing.assert_allclose(x, np.broadcast_to(mean, x.shape), rtol=0, atol=1e-14)


@pytest.mark.parametrize("num_agents", [2, 7, 12, 64])
@pytest.mark.parametrize("step", [0.5, 0.8])
def test_one_peer_equitopo_halves_the_disagreement_whatever_the_number_of_agents(num_agents, step):
    x = np.random.default_rng(num_agents).standard_normal(num_agents)
    x -= x.mean()
    sequence = one_peer_equitopo(num_agents, step=step, period=200, seed=3)
    left = np.array([np.sum((weights(graph) @ x) ** 2) for graph in sequence]) / np.sum(x**2)
    expected = (1 - step) ** 2 + step**2 * (1 - 2 / num_agents)
    assert abs(left.mean() - expected) <= 4 * left.std() / math.sqrt(200) + 1e-12


@pytest.mark.parametrize("num_agents", [2, 3, 8, 15])
@pytest.mark.parametrize("step", [0.3, 0.5, 0.8])
def test_one_peer_equitopo_leaves_the_stated_part_of_any_disagreement(num_agents, step):
    """The mean over all shifts, as a quadratic form of how the agents differ from their mean."""
    sequence = one_peer_equitopo(num_agents, step=step, period=200, seed=3)
    matrices = {next(graph.successors(0)): weights(graph).toarray() for graph in sequence}
    assert matrices.keys() == set(range(1, num_agents))
    apart = np.eye(num_agents) - 1 / num_agents
    left = np.mean([apart @ W.T @ W @ apart for W in matrices.values()], axis=0)
    stated = (1 - step) ** 2 + step**2 * (1 - 2 / num_agents) if step != 0.5 else 1 / 2 - 1 / (2 * num_agents)
    np.testing.assert_allclose(np.linalg.eigvalsh(left)[1:], stated, rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_agents", [2, 3, 9, 12, 64])
def test_one_peer_equitopo_undirected(num_agents):
    x = np.random.default_rng(num_agents).standard_normal(num_agents)
    x -= x.mean()
    sequence = one_peer_equitopo(num_agents, directed=False, period=600, seed=3)
    left = np.array([np.sum((weights(graph) @ x) ** 2) for graph in sequence]) / np.sum(x**2)
    error = 4 * left.std() / math.sqrt(600) + 1e-12
    # A meeting takes 2 w (1 - w) (x_k - x_l)^2 away; all pairs k, k + u are as likely to meet, given u.
    w = 0.5 * (num_agents - 1) / num_agents
    expected = 1 - np.mean([
        2 * w * (1 - w) * len(scan(num_agents, u)) / num_agents * np.sum((x - np.roll(x, u)) ** 2) / np.sum(x**2)
        for u in range(1, num_agents)
    ])  # fmt: skip
    assert abs(left.mean() - expected) <= error
    assert expected <= 1 - 4 / 3 * 0.5 * 0.5 + 1e-12
    for graph in sequence:
        assert max(dict(graph.degree).values()) == 1 and 3 * graph.number_of_edges() >= num_agents


def scan(num_agents, shift):
    """Go through the agents; k meets k + shift if both are still alone."""
    alone, pairs = set(range(num_agents)), []
    for k in range(num_agents):
        other = (k + shift) % num_agents
        if {k, other} <= alone:
            alone -= {k, other}
            pairs.append((k, other))
    return pairs


def test_one_peer_equitopo_by_definition():
    for graph in one_peer_equitopo(9, period=20, seed=5):
        shift = next(graph.successors(0))
        expected = 0.5 * np.eye(9) + 0.5 * (8 / 9 * np.roll(np.eye(9), shift, axis=0) + np.eye(9) / 9)
        np.testing.assert_allclose(weights(graph).toarray(), expected, rtol=0, atol=1e-15)
    for graph in one_peer_equitopo(12, directed=False, period=20, seed=5):
        ends = {(v - u) % 12 for u, v in graph.edges}
        shift = min(*ends, *(12 - end for end in ends))
        meetings = [{frozenset(((u + s) % 12, (v + s) % 12)) for u, v in scan(12, shift)} for s in range(12)]
        assert {frozenset(edge) for edge in graph.edges} in meetings


def test_random_sequences_follow_their_seed():
    for directed in (True, False):
        one, again, other = (one_peer_equitopo(9, directed=directed, seed=seed) for seed in (1, 1, 2))
        assert all(set(a.edges) == set(b.edges) for a, b in zip(one, again, strict=True))
        assert any(set(a.edges) != set(b.edges) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("num_agents", "local_size"), [(6, 3), (8, 4), (20, 4), (20, 5), (56, 8), (33, 11)])
@pytest.mark.parametrize("exponential", [False, True])
def test_inner_and_outer_messages(num_agents, local_size, exponential):
    machines = num_agents // local_size
    inside, outside = int(math.log2(local_size - 2)) + 1, int(math.log2(machines - 1)) + 1
    sequence = (inner_outer_exponential if exponential else inner_outer_ring)(num_agents, local_size=local_size)
    assert len(sequence) == (math.lcm(local_size, inside, outside) if exponential else local_size)
    for t, graph in enumerate(sequence):
        for agent in range(num_agents):
            machine, place = divmod(agent, local_size)
            out = t % local_size
            if place == out:
                hop = 2 ** (t % outside) if exponential else 1
                receiver = (machine + hop) % machines * local_size + place
            else:
                ring = [(place + ahead) % local_size for ahead in range(local_size)]
                ring.remove(out)
                receiver = machine * local_size + ring[2 ** (t % inside) if exponential else 1]
            assert list(graph[agent]) == [receiver]
    assert nx.is_strongly_connected(sequence.union())
    matrices = own_matrices(sequence)
    for W in matrices:
        np.testing.assert_array_equal(W.sum(axis=0), 1)
        assert set(W[W > 0]) == {0.5}
    assert consensus_factor(matrices) < 1


@pytest.mark.parametrize("name", sorted(SEQUENCES))
def test_every_sequence_is_doubly_stochastic_under_its_own_policy(name):
    sequence = SEQUENCES[name](16)
    for W in own_matrices(sequence):
        np.testing.assert_allclose(W.sum(axis=0), 1, rtol=0, atol=1e-14)
        np.testing.assert_allclose(W.sum(axis=1), 1, rtol=0, atol=1e-14)
    assert consensus_factor(own_matrices(sequence)) < 1


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: hyper_hypercube(14, peers=4), "hyper_hypercube: num_agents is 14, but must have no prime factor ab"),
        (lambda: base_graph(9, peers=0), "base_graph: peers is 0, but must be at least 1"),
        (lambda: simple_base_graph(0), "simple_base_graph: num_agents is 0, but must be at least 1"),
        (lambda: one_peer_equitopo(1), "one_peer_equitopo: num_agents is 1, but must be at least 2"),
        (lambda: one_peer_equitopo(9, step=1.0), "one_peer_equitopo: step is 1.0, but must lie in (0, 1)"),
        (lambda: one_peer_equitopo(9, period=0), "one_peer_equitopo: period is 0, but must be at least 1"),
        (lambda: one_peer_equitopo(9, seed=-1), "the seed of a random graph is -1, but must not be negative"),
        (lambda: inner_outer_ring(8, local_size=2), "inner_outer_ring: local_size is 2, but must be at least 3"),
        (
            lambda: inner_outer_exponential(10),
            "inner_outer_exponential: num_agents is 10, but must be a multiple of local_size, 4, and at least 8, two",
        ),
        (lambda: inner_outer_ring(4), "inner_outer_ring: num_agents is 4, but must be a multiple of local_size, 4"),
        (lambda: one_peer_hypercube(6), "one_peer_hypercube: num_agents is 6, but must be a power of two"),
        (lambda: one_peer_exponential(1), "one_peer_exponential: num_agents is 1, but must be at least 2"),
        (lambda: random_matchings(4, period=0), "random_matchings: period is 0, but must be at least 1"),
    ],
)
def test_mistakes_are_one_sentence(build, sentence):
    with pytest.raises(ValueError) as caught:
        build()
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)
