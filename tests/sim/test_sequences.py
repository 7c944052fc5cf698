"""Graphs that change from step to step."""

import networkx as nx
import numpy as np
import pytest
import torch

from basinet.sim.component import ExperimentError
from basinet.topologies import (
    GraphSequence,
    one_peer_exponential,
    one_peer_hypercube,
    random_matchings,
    random_subsets,
)

K, M, LR = 8, 3, 0.2
PATHS = GraphSequence([nx.path_graph(4), nx.Graph([(0, 1), (2, 3)]), nx.star_graph(3)])


def make(make_block, topology, policy="metropolis", **keys):
    return make_block(
        task={"name": "quadratic", "heterogeneity": 0.7},
        model={"name": "point", "start": 2.0},
        topology={"name": topology, "policy": policy},
        optimizer={"name": "sgd", "lr": LR},
        **keys,
    )


@pytest.mark.parametrize(
    ("sequence", "policy"), [(one_peer_exponential(K), "uniform"), (one_peer_hypercube(K), "metropolis")]
)
def test_one_peer_a_step_averages_exactly_in_finite_time(make_block, sequence, policy):
    block = make(make_block, sequence, policy, strategy="diffusion")
    x = torch.randn(block.x.shape, dtype=torch.float64)
    mean = x.view(2, K, M).mean(1, keepdim=True).expand(2, K, M).reshape(-1, M)
    for step in range(3):
        assert (x - mean).norm() > 1e-3
        block.step = step
        block.combine(x)
    torch.testing.assert_close(x, mean, rtol=1e-13, atol=1e-14)
    assert block.bytes_sent == 3 * K * M * 8  # one message an agent and step


@pytest.mark.parametrize("strategy", ["diffusion", "consensus", "gradient_tracking"])
def test_the_steps_take_turns(make_block, strategy):
    block = make(make_block, PATHS, strategy=strategy)
    h, w_star = block.task.hessian.numpy(), block.task.minimum.numpy()
    matrices = [w.toarray() for w in block.setup.sequence]
    assert len(matrices) == 3
    x, y, old = np.full((2, 4, M), 2.0), 0, 0
    for t in range(30):
        w = matrices[t % 3]
        g = (x - w_star) @ h + block.sampler.batch(t)[1].numpy().mean(1).reshape(2, 4, M)
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
        (PATHS, "uniform", "topology.policy: a sequence of graphs needs weights whose columns sum to one, .*step 0"),
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
