"""Graphs that change from step to step."""

import networkx as nx
import numpy as np
import pytest
import torch

from basinet.sim.experiment.component import ExperimentError
from basinet.topologies import (
    GraphSequence,
    base_graph,
    hyper_hypercube,
    metropolis,
    one_peer_exponential,
    one_peer_hypercube,
    random_matchings,
    random_subsets,
    weights,
)

K, M, LR = 8, 3, 0.2
PATHS = GraphSequence([nx.path_graph(4), nx.Graph([(0, 1), (2, 3)]), nx.star_graph(3)])


def make(make_block, topology, policy=None, **keys):
    return make_block(
        task={"name": "quadratic", "heterogeneity": 0.7},
        model={"name": "point", "start": 2.0},
        topology={"name": topology} | ({"policy": policy} if policy else {}),
        optimizer={"name": "sgd", "lr": LR},
        **keys,
    )


@pytest.mark.parametrize(
    "sequence",
    [one_peer_exponential(K), one_peer_hypercube(K), hyper_hypercube(K), base_graph(K)],
    ids=["exponential", "hypercube", "hyper_hypercube", "base_graph"],
)
def test_one_peer_a_step_averages_exactly_in_finite_time(make_block, sequence):
    block = make(make_block, sequence, strategy="diffusion")
    x = torch.randn(block.x.shape, dtype=torch.float64)
    mean = x.view(2, K, M).mean(1, keepdim=True).expand(2, K, M).reshape(-1, M)
    for step in range(3):
        assert (x - mean).norm() > 1e-3
        block.step = step
        block.combine(x)
    torch.testing.assert_close(x, mean, rtol=1e-13, atol=1e-14)
    assert block.channel.bytes_sent == 3 * K * M * 8  # one message an agent and step


def test_graphs_name_their_own_policy_until_another_is_chosen(make_block):
    sequence = base_graph(7)
    own, chosen = make(make_block, sequence), make(make_block, sequence, "metropolis")
    named = make_block(topology={"name": "base_graph", "agents": 7})
    for graph, w, again, other in zip(
        sequence, own.setup.sequence, named.setup.sequence, chosen.setup.sequence, strict=True
    ):
        np.testing.assert_array_equal(w.toarray(), weights(graph).toarray())
        np.testing.assert_array_equal(w.toarray(), again.toarray())
        np.testing.assert_array_equal(other.toarray(), metropolis(graph).toarray())
    assert "policy" not in named.setup.config.describe()["topology"]
    graph = nx.path_graph(3)
    graph.graph["policy"] = "metropole"
    with pytest.raises(
        ExperimentError, match=r"^topology.policy: there is no .*'metropole'; .*did you mean 'metropolis'"
    ):
        make(make_block, graph)


def test_push_sum_averages_over_directed_graphs_that_change(make_block):
    """Kempe, Dobra and Gehrke: shares and their mass go the same ways, so that every quotient tends to the mean."""
    rng = np.random.default_rng(4)
    steps = []
    for _ in range(7):
        graph = nx.empty_graph(K, create_using=nx.DiGraph)
        graph.add_edges_from((k, int(rng.choice(np.delete(np.arange(K), k)))) for k in range(K))
        steps.append(graph)
    block = make(make_block, GraphSequence(steps), "push", strategy="push_sum")
    assert max(abs(w.sum(1) - 1).max() for w in block.setup.sequence) > 0.3
    u = torch.randn(block.x.shape, dtype=torch.float64)
    mean = u.view(2, K, M).mean(1, keepdim=True).expand(2, K, M).reshape(-1, M)
    v = torch.ones(len(u), 1, dtype=torch.float64)
    for step in range(400):
        block.step = step
        block.combine(u)
        block.combine(v)
    torch.testing.assert_close(u / v, mean, rtol=0, atol=1e-12)
    block = make(make_block, GraphSequence(steps), "push", strategy="push_sum")
    h, w_star = block.task.hessian.numpy(), block.task.minimum.numpy()
    matrices = [w.toarray() for w in block.setup.sequence]
    u, v = np.full((2, K, M), 2.0), np.ones((2, K, 1))
    for t in range(20):
        z = u / v
        g = (z - w_star) @ h + block.oracle.sampler.batch(t)[1].numpy().mean(1).reshape(2, K, M)
        u, v = matrices[t % 7] @ (u - LR * g), matrices[t % 7] @ v
    block.advance(20)
    np.testing.assert_allclose(block.x.numpy(), (u / v).reshape(-1, M), rtol=1e-11, atol=1e-11)


def test_a_sequence_may_share_a_perron_vector(make_block):
    people = [1.0, 2.0, 3.0, 4.0]
    block = make(make_block, PATHS, {"name": "hastings", "perron": people})
    pi = np.array(people) / 10
    np.testing.assert_allclose(block.setup.centroid_weights, pi, rtol=1e-12)
    for w in block.setup.sequence:
        np.testing.assert_allclose(pi @ w, pi, rtol=0, atol=1e-15)


@pytest.mark.parametrize("strategy", ["diffusion", "consensus", "gradient_tracking"])
def test_the_steps_take_turns(make_block, strategy):
    block = make(make_block, PATHS, strategy=strategy)
    h, w_star = block.task.hessian.numpy(), block.task.minimum.numpy()
    matrices = [w.toarray() for w in block.setup.sequence]
    assert len(matrices) == 3
    x, y, old = np.full((2, 4, M), 2.0), 0, 0
    for t in range(30):
        w = matrices[t % 3]
        g = (x - w_star) @ h + block.oracle.sampler.batch(t)[1].numpy().mean(1).reshape(2, 4, M)
        if strategy == "diffusion":
            x = w @ (x - LR * g)
        elif strategy == "consensus":
            x = w @ x - LR * g
        else:
            y, old = w @ (y + g - old), g
            x = w @ (x - LR * y)
    block.advance(30)
    np.testing.assert_allclose(block.x.numpy(), x.reshape(-1, M), rtol=1e-11, atol=1e-11)


def test_random_sequences_are_keyed_by_their_seed():
    for make_sequence in (random_matchings, random_subsets):
        one, again, other = (make_sequence(9 if make_sequence is random_matchings else 8, seed=s) for s in (1, 1, 2))
        assert all(set(a.edges) == set(b.edges) for a, b in zip(one, again, strict=True))
        assert any(set(a.edges) != set(b.edges) for a, b in zip(one, other, strict=True))
        assert nx.is_connected(one.union())
    assert all(max(dict(graph.degree).values()) == 1 for graph in random_matchings(9, period=20))


@pytest.mark.parametrize(
    ("topology", "policy", "sentence"),
    [
        (GraphSequence([nx.Graph([(0, 1), (2, 3)])] * 2), "metropolis", "topology: .*2 connected components"),
        (PATHS, "uniform", "topology.policy: the weights of the sequence conserve no centroid, .*step 0 .*push_sum"),
    ],
)
def test_sequences_are_checked(make_block, topology, policy, sentence):
    with pytest.raises(ExperimentError, match=sentence):
        make(make_block, topology, policy)
    with pytest.raises(ValueError, match="graph 1 of the sequence has other nodes"):
        GraphSequence([nx.path_graph(3), nx.path_graph(4)])
    with pytest.raises(ValueError, match="at least one"):
        GraphSequence([])


@pytest.mark.parametrize(
    ("family", "settings", "sentence"),
    [
        (one_peer_hypercube, {"num_agents": 6}, "power of two"),
        (one_peer_exponential, {"num_agents": 1}, "at least 2"),
        (random_matchings, {"num_agents": 4, "period": 0}, "period is 0"),
        (random_subsets, {"num_agents": 8, "probability": 0.0}, "probability is 0.0"),
    ],
)
def test_impossible_sequences_are_refused(family, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        family(**settings)


def test_strategies_that_push_have_weights_to_push_by_default(make_setup):
    graph = nx.DiGraph([(0, 1), (1, 2), (2, 0), (0, 2)])
    weights = make_setup(topology=graph, strategy="push_sum").weights.toarray()
    np.testing.assert_allclose(weights.sum(0), 1)
    matrix = np.array([[0.5, 0, 0.5], [1, 0, 0], [0.25, 0.75, 0]])
    with pytest.raises(ExperimentError, match="push_pull mixes along the edges and against them"):
        make_setup(topology={"name": graph, "policy": matrix}, strategy="push_pull")


def test_rounds_at_intervals_need_one_graph(make_setup):
    with pytest.raises(ExperimentError, match="k_gt needs the same graph at every step"):
        make_setup(topology={"name": "one_peer_exponential", "agents": 4}, strategy="k_gt")
