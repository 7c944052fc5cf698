"""Links that fail: the moments of the random mixing matrices, what strategies tolerate, and what runs say."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import torch

from basinet.algorithms.strategies import STRATEGIES, StrategyTraits
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.worker import Worker
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.faults import FAULTS, LinkFault, LinkLoss
from basinet.topologies.networks import uniform_links

K, REPLICAS = 8, 150
POINT = {"task": "quadratic", "model": {"name": "point", "start": 2.0}}
RING = {"topology": {"name": "ring", "agents": K}}


def drawn(block, steps, kind="combine"):
    """Return the mixing matrices of some steps, [N, K, K]."""
    found = []
    for step in range(steps):
        x = torch.eye(K, dtype=torch.float64).repeat(block.placement.replicas, 1)
        getattr(block.channel, kind)(x, step)
        found.append(x.view(-1, K, K))
    return torch.cat(found)


def test_the_second_moment_of_symmetric_loss(make_block):
    """E W² = I − 2qwL + q²w²L² + 2q(1−q)w²L on the ring, whose factor is .732810 for w = 1/3 and q = .8."""
    loss = {"name": "link_loss", "probability": 0.2}
    W = drawn(make_block(**POINT, **RING, replicas=REPLICAS, faults=loss), 10)
    assert torch.equal(W, W.mT) and (W.sum(1) - 1).abs().max() < 1e-15
    ring = np.roll(np.eye(K), 1, 0)
    L, q, w = torch.from_numpy(2 * np.eye(K) - ring - ring.T), 0.8, 1 / 3
    expected = torch.eye(K) - 2 * q * w * L + q**2 * w**2 * L @ L + 2 * q * (1 - q) * w**2 * L
    assert float(torch.linalg.eigvalsh(expected - 1 / K)[-1]) == pytest.approx(0.732810, abs=1e-6)
    squares = W @ W
    error = squares.std(0) / len(W) ** 0.5
    assert ((squares.mean(0) - expected).abs() <= 4.5 * error + 1e-15).all()  # of 36 numbers
    assert W.flatten(1).unique(dim=0).shape[0] > 2 ** (K - 1)  # almost all of the 2^K, so that links are independent


def test_the_drift_of_asymmetric_loss(make_block):
    """Receivers keep the weight: the mean is unbiased, with the variance p q / K² Σ w² (x_l − x_k)² in a step."""
    block = make_block(**POINT, **RING, replicas=REPLICAS, faults=LinkLoss(probability=0.3, symmetric=False))
    W, x = drawn(block, 10), torch.arange(K, dtype=torch.float64) ** 2
    assert (W.sum(2) - 1).abs().max() < 1e-15 and (W.sum(1) - 1).abs().max() > 0.1
    drift = (W @ x).mean(1) - x.mean()
    steps = (x.roll(1) - x).square() + (x.roll(-1) - x).square()
    expected = 0.3 * 0.7 / K**2 * float(steps.sum()) / 9
    n = len(drift)
    assert abs(float(drift.mean())) < 4.5 * (expected / n) ** 0.5
    assert float(drift.square().mean()) == pytest.approx(expected, abs=4.5 * float(drift.square().std()) / n**0.5)


def test_links_lose_what_the_network_says(make_block):
    """All links alike, or the one from agent 0 to agent 1 half of its messages, and the way back a quarter."""
    alike = {"network": {"loss": "20 %"}, "faults": "network_loss"}
    known = make_block(**POINT, **RING, replicas=2, faults={"name": "link_loss", "probability": 0.2})
    assert torch.equal(drawn(make_block(**POINT, **RING, replicas=2, **alike), 5), drawn(known, 5))
    network = uniform_links(nx.cycle_graph(K), latency="1 ms")
    loss = np.zeros(2 * K)
    loss[network.links_between(np.array([0, 1]), np.array([1, 0]))] = 0.25, 0.5
    network = replace(network, loss=loss)
    for symmetric, back in ((True, 0.5), (False, 0.25)):
        fault = {"name": "network_loss", "symmetric": symmetric}
        lost = drawn(make_block(**POINT, **RING, replicas=REPLICAS, network=network, faults=fault), 10) == 0
        n = len(lost)
        for (receiver, sender), p in {(1, 0): 0.5, (0, 1): back}.items():
            assert float(lost[:, receiver, sender].double().mean()) == pytest.approx(
                p, abs=4.5 * (p * (1 - p) / n) ** 0.5
            )
        assert torch.equal(lost[:, 0, 1], lost[:, 1, 0]) == symmetric
        assert int(lost.sum()) == int(lost[:, 0, 1].sum() + lost[:, 1, 0].sum()) + n * K * (K - 3)
    assert network.loss_between(np.array([1, 0]), np.array([0, 4])).tolist() == [0.25, 0]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (None, "faults: network_loss needs a network that loses messages, such as network"),
        ({"latency": "1 ms"}, "faults: network_loss needs a network that loses messages, such as network"),
    ],
)
def test_a_network_that_loses_nothing_is_no_reason_for_losses(network, message, make_setup):
    with pytest.raises(ExperimentError, match=f"^{message}"):
        make_setup(**POINT, **RING, network=network, faults="network_loss", trial=False)


@pytest.mark.parametrize("topology", ["complete", "ring"])
def test_no_loss_is_no_fault(topology, make_block):
    """To the last bit, also where optimizer state is mixed, and products are dense."""
    keys = {
        "topology": {"name": topology, "agents": 6},
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
        "optimizer_state": "mix",
        "steps": 3,
    }
    plain, faulty = (make_block(**keys, faults=f) for f in (None, {"name": "link_loss", "probability": 0.0}))
    for block in (plain, faulty):
        block.advance(3)
    assert torch.equal(plain.x, faulty.x) and plain.channel.bytes_sent == faulty.channel.bytes_sent


@pytest.mark.parametrize("topology", ["complete", "ring"])
def test_without_any_message_agents_are_alone(topology, make_block):
    keys = {"topology": {"name": topology, "agents": 6}, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}}
    alone = make_block(**keys, strategy="isolated")
    lonely = make_block(**keys, optimizer_state="mix", faults={"name": "link_loss", "probability": 1.0})
    for block in (alone, lonely):
        block.advance(3)
    for one, other in zip([alone.x, *alone.optimizer.rows()], [lonely.x, *lonely.optimizer.rows()], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)
    assert (lonely.channel.messages[1] == lonely.channel.messages[0]).all() and lonely.channel.messages.all()


class First(LinkFault):
    """The first link of each replica always fails, from its sender to its receiver."""

    def failures(self, keys):
        lost = torch.zeros(keys.shape, dtype=torch.bool)
        lost[:, 0] = True
        return lambda step: lost


class Unsure(LinkFault):
    """Says how likely links fail, and not which."""

    def failures(self, keys):
        return lambda step: torch.zeros(keys.shape)


@pytest.mark.parametrize("topology", ["complete", "ring"])
def test_dense_and_sparse_products_and_neighbours_lose_the_same(topology, make_block):
    """One message, from agent 1 to agent 0, in each replica."""
    block = make_block(
        **POINT, topology={"name": topology, "agents": K, "policy": "uniform"}, faults=First(symmetric=False)
    )
    (W, *_), weights = drawn(block, 1), torch.from_numpy(block.setup.weights.toarray())
    expected = weights.clone()
    expected[0, 1], expected[0, 0] = 0, weights[0, 0] + weights[0, 1]
    torch.testing.assert_close(W, expected, rtol=0, atol=1e-15)
    here = block.neighbors
    assert here.heard.sum() == 2 * len(block.setup.weights.data) - 2 * K - 2
    torch.testing.assert_close(here.own[:K] + here.weights[:K].sum(1), torch.ones(K, dtype=torch.float64))
    told = torch.ones(2 * K, here.heard.shape[1], 1, dtype=torch.float64)
    assert block.exchange(told)[0, 0] == 0 and block.exchange(told)[1, 0] == 1
    ((_, heard),) = block.broadcast(torch.ones(2 * K, 3, dtype=torch.float64))
    assert not heard[0, 0].any() and heard[1, 0].all()


def test_robust_rules_tolerate_no_more_than_half_of_what_they_hear(make_block):
    faults = {"name": "link_loss", "probability": 0.7}
    for rule in ("median", "trimmed_mean", "krum", "geometric_median", "self_centered_clipping", "ios"):
        strategy = {"name": "robust", "rule": rule, "tolerated": 1}
        block = make_block(**POINT, topology={"name": "complete", "agents": 6}, strategy=strategy, faults=faults)
        block.advance(6)
        assert block.x.isfinite().all() and block.x.abs().max() < 10, rule


def test_tracking_stays_exact(make_block):
    """Under symmetric loss, all agents still converge to the minimum of the mean loss; diffusion is .3 off."""
    keys = {
        "model": {"name": "point", "start": 2.0},
        "task": {"name": "quadratic", "heterogeneity": 0.7, "noise": 0.0},
        "topology": {"name": "ring", "agents": 5},
        "optimizer": {"name": "sgd", "lr": 0.15},
    }
    exact, lossy = (
        make_block(**keys, strategy="gradient_tracking", replicas=1, faults=faults)
        for faults in (None, {"name": "link_loss", "probability": 0.2})
    )
    for block in (exact, lossy):
        block.advance(200)
    torch.testing.assert_close(lossy.x, exact.x, rtol=0, atol=1e-6)


def test_every_strategy_declares_what_it_tolerates():
    """Those that keep copies, or wait for answers, tolerate none; those that keep a sum, what both ends know of."""
    found = {name: StrategyTraits.of(STRATEGIES[name]()).tolerates for name in STRATEGIES}
    assert {name for name, level in found.items() if level == "none"} == {
        *("async_server", "beer", "choco", "dcd", "lead", "powergossip", "relay")
    }
    assert {name for name, level in found.items() if level == "symmetric"} == {
        *("d2", "exact_diffusion", "extra", "gradient_tracking", "gt_hsgd", "gt_sarah", "k_gt", "nids")
    }


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"strategy": "choco"}, "^faults: link_loss disturbs messages, but choco needs all of them; allowed are"),
        ({"strategy": "centralized"}, "^faults: link_loss .* but centralized averages over all agents; allowed"),
        (
            {"strategy": "gradient_tracking", "faults": {"name": "link_loss", "probability": 0.1, "symmetric": False}},
            "^faults: link_loss .* but gradient_tracking needs symmetric: true to keep the agents' sum$",
        ),
        (
            {"strategy": "async_server", "compute": {"name": "constant", "mean": "1 s"}},
            "^faults: link_loss disturbs messages, but async_server needs all",
        ),
        ({"faults": "link_loss"}, "^faults.probability: link_loss needs the setting 'probability'$"),
        ({"faults": {"name": "link_loss", "probability": 1.2}}, "^faults.probability: .*1.2"),
        ({"faults": Unsure()}, "^faults: .*Unsure must return a bool tensor of the shape of its keys"),
        ({"faults": ["gremlins"]}, "^faults: there is no fault 'gremlins'"),
    ],
)
def test_mistakes_are_one_sentence(keys, sentence, make_setup):
    given = POINT | {"faults": {"name": "link_loss", "probability": 0.1}, "trial": False} | keys
    with pytest.raises(ExperimentError, match=sentence):
        make_setup(**given)


def test_evaluations_say_what_was_lost_and_a_resumed_run_goes_on(make_setup):
    """Also beside attackers, and where neighbours are heard one by one."""
    keys = (
        POINT | RING | {"strategy": {"name": "robust", "rule": "median"}, "attack": {"name": "gaussian", "share": 0.2}}
    )
    setup = make_setup(**keys, faults={"name": "link_loss", "probability": 0.25}, trial=True)
    whole, resumed = (Worker(setup, Placement.split(2, K), "stacked") for _ in range(2))
    assert "lost_messages" not in whole.measure()[0][0]
    whole.advance(4)
    resumed.load(whole.state())
    rows = []
    for worker in (whole, resumed):
        worker.advance(9)
        rows.append(worker.measure()[0])
        assert worker.block.x.isfinite().all()
    assert rows[0] == rows[1]
    lost, sent = whole.block.channel.messages[1], 9 * 2 * K
    assert [row["lost_messages"] for row in rows[0]] == (lost / sent).tolist()
    assert all(0.1 < share < 0.4 for share in lost / sent)
    assert "lost_messages" in setup.quantities and {*FAULTS} >= {"link_loss"}
