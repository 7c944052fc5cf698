"""Late messages: the recursion with delays, its limit, and what is kept meanwhile."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from basinet.sim.agents.messages.mixer import mix
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.worker import Worker
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.faults import LinkDelay
from basinet.sim.faults.outages import Outages

K = 6
POINT = {"task": "quadratic", "model": {"name": "point", "start": 2.0}, "replicas": 2}
STAR = {"topology": {"name": "star", "agents": K}}
RING = {"topology": {"name": "ring", "agents": K}}
FOUR = {"name": "link_delay", "steps": 4, "least": 0}


class Shrink:
    """Diffusion on ½ ‖x‖² without noise, with a second message of another width, and one without a sender's own."""

    def __init__(self, mu=0.0):
        self.mu = mu

    def step(self, block):
        block.x.mul_(1 - self.mu)
        with block.together():
            block.combine(block.x)
            block.combine(block.memory.setdefault("two", block.x[:, :2] ** 2))


class Heard:
    """Mixes by broadcasts, or by exchanges."""

    def __init__(self, verb):
        self.verb = verb

    def step(self, block):
        hood, size = block.neighbors, block.x.shape[1]
        if self.verb == "exchange":
            pieces = [(slice(0, size), block.exchange(block.x[:, None].expand(-1, hood.heard.shape[1], -1)))]
        else:
            pieces = block.broadcast(block.x)
        mixed = hood.own[:, None] * block.x
        for columns, heard in pieces:
            mixed[:, columns] += torch.einsum("nd,ndw->nw", hood.weights, heard)
        block.x.copy_(mixed)


def delayed(block, steps, x, mu=0.0):
    """The dense recursion: x_k ← W_kk ψ_k(n) + Σ W_kl ψ_l(m), m the last whose message has arrived, or the first."""
    replicas, P = block.placement.replicas, x.shape[1]
    weights = block.setup.weights.toarray()
    receivers, senders = np.nonzero(weights - np.diag(np.diag(weights)))
    x, past = x.view(replicas, K, P).numpy().copy(), []
    takes = [block.channel.links.outages.delays("graph", n) for n in range(steps)]
    for n in range(steps):
        psi = (1 - mu) * x
        past.append(psi)
        x = np.diag(weights)[:, None] * psi
        for r in range(replicas):
            for edge, (k, other) in enumerate(zip(receivers, senders, strict=True)):
                m = max(m for m in range(n + 1) if m == 0 or m + takes[m][r, edge] <= n)
                x[r, k] += weights[k, other] * past[m][r, other]
    return torch.from_numpy(x).view(-1, P)


def start(block):
    block.x.copy_(torch.arange(2.0 * K)[:, None] ** 2 + torch.arange(block.x.shape[1]))
    return block.x.clone()


@pytest.mark.parametrize(
    "faults", [{"name": "link_delay", "steps": 2}, FOUR, [FOUR, {"name": "link_delay", "steps": 1}]]
)
@pytest.mark.parametrize("strategy", [Shrink(0.1), Heard("exchange"), Heard("broadcast")])
def test_the_dense_recursion_with_delays(faults, strategy, make_block):
    block = make_block(**POINT, **STAR, strategy=strategy, faults=faults)
    block.channel.disturbances.piece = 7
    first = start(block)
    block.advance(9)
    expected = delayed(block, 9, first, getattr(strategy, "mu", 0.0))
    torch.testing.assert_close(block.x, expected, rtol=1e-13, atol=0)
    if "two" in block.memory:
        two = delayed(block, 9, (0.9 * first[:, :2]) ** 2)
        torch.testing.assert_close(block.memory["two"], two, rtol=1e-13, atol=0)
    sent = block.channel.bytes_sent
    assert sent == 9 * 2 * (K - 1) * 8 * (block.x.shape[1] + 2 * len(block.memory))


def test_delays_are_drawn_for_each_message():
    """Uniformly from the fewest to the most steps, independently of each other; a least of all steps is fixed."""
    keys = torch.arange(20_000).view(1, -1)
    takes = LinkDelay(steps=4, least=2).delays(keys)
    one, two = takes(3), takes(4)
    for steps in range(7):
        share = float((one == steps).double().mean())
        assert share == pytest.approx(1 / 3 if 2 <= steps <= 4 else 0, abs=4.5 * (2 / 9 / 20_000) ** 0.5)
    assert float((one == two).double().mean()) == pytest.approx(1 / 3, abs=4.5 * (2 / 9 / 20_000) ** 0.5)
    assert torch.equal(takes(3), one)
    outages = Outages(
        (LinkDelay(steps=3, least=1), LinkDelay(steps=5)), {"graph": [csr_array(np.ones((9, 9)))]}, agents=9
    )
    both = outages.delays("graph", 1)[0]
    assert (both.min(), both.max(), outages.longest) == (6, 8, 8)
    assert (np.bincount(both)[6:] > 8).all()  # of 72 links
    directions = np.zeros((9, 9), dtype=int)
    directions[~np.eye(9, dtype=bool)] = both
    assert (directions != directions.T).sum() > 20
    for fault in (LinkDelay(steps=3), LinkDelay(steps=3, least=3)):
        assert (fault.delays(keys)(5) == 3).all()


def test_the_limit_is_a_weighted_mean(make_block):
    """With weights 1 + d (1 − W[k, k]), as the sum over agents and what is under way is kept."""
    block = make_block(**POINT, **STAR, strategy=Shrink(), faults=LinkDelay(steps=3))
    first = start(block).view(2, K, -1)
    block.advance(300)
    weights = 1 + 3 * (1 - torch.from_numpy(block.setup.weights.diagonal()))
    assert weights.max() / weights.min() > 2
    limit = torch.einsum("k,rkp->rp", weights / weights.sum(), first)
    torch.testing.assert_close(block.x.view(2, K, -1), limit[:, None].expand_as(first), rtol=1e-12, atol=0)


def test_what_follows_the_parameters_is_as_late(make_block):
    """And what is not negative stays so."""
    block = make_block(**POINT, **STAR, strategy="isolated", faults=FOUR)
    first = x = start(block)
    for step in range(9):
        mixer, mixed = block.channel.disturbances.mixing_of_follower(x, step, 0), torch.empty_like(x)
        mix([(mixer, x, mixed)], block.channel.wire)
        x = mixed
    torch.testing.assert_close(x, delayed(block, 9, first), rtol=1e-13, atol=0)
    assert (x >= 0).all()


def test_agents_that_agree_stay_and_no_delay_is_no_fault(make_block):
    keys = POINT | {"topology": {"name": "star", "agents": 8}, "strategy": "diffusion", "steps": 4}
    plain, none, late = (make_block(**keys, faults=f) for f in (None, LinkDelay(steps=0), FOUR))
    for block in (plain, none):
        block.advance(4)
    assert torch.equal(plain.x, none.x)
    late.x.copy_(torch.linspace(0.1, 0.7, late.x.shape[1]))
    before = late.x.clone()
    for step in range(7):
        late.channel.combine(late.x, step)
    assert torch.equal(late.x, before)
    noisy = make_block(**keys, faults=[FOUR, {"name": "link_noise", "size": 1.0}])
    for truly in (True, False):
        x = before.clone()
        noisy.combine(x, truly=truly)
        assert torch.equal(x, before) == truly


@pytest.mark.parametrize(
    "beside", [[], [{"name": "link_loss", "probability": 0.3}, {"name": "link_noise", "size": 0.1}]]
)
def test_a_resumed_run_goes_on_with_what_is_under_way(beside, make_setup):
    """With momentum, which is as late as the parameters, attackers, and messages in only some steps."""
    keys = (
        POINT | RING | {"optimizer": {"name": "adam", "lr": 0.1}, "optimizer_state": "mix", "faults": [FOUR, *beside]}
    )
    if beside:
        keys |= {"attack": {"name": "gaussian", "share": 0.2}}
    setup = make_setup(**keys, trial=not beside)
    whole, resumed = (Worker(setup, Placement.split(2, K), "stacked") for _ in range(2))
    whole.advance(5)
    state = whole.state()
    assert state["late_steps"]["graph 0"] == state["late_steps"]["follower 1"] == [4, 3, 2, 1, 0]
    resumed.load(state)
    for worker in (whole, resumed):
        worker.advance(11)
    assert torch.equal(whole.block.x, resumed.block.x) and whole.block.x.isfinite().all()
    assert len(whole.block.channel.disturbances.late_rows.sent["graph 0"]) == 5
    assert whole.measure() == resumed.measure()


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            {"strategy": "gradient_tracking"},
            "^faults: link_delay delivers messages late, but gradient_tracking keeps a",
        ),
        ({"strategy": "push_sum"}, "^faults: link_delay delivers messages late, but push_sum keeps a sum"),
        ({"strategy": "choco"}, "^faults: link_delay disturbs messages, but choco needs all of them"),
        ({"topology": {"name": "one_peer_exponential", "agents": 4}}, "but diffusion then needs the same graph"),
        ({"faults": [FOUR, {"name": "crashes", "probability": 0.1}]}, "^faults: got agents that are absent beside"),
        (
            {"faults": {"name": "link_delay", "steps": 1, "least": 2}},
            "^faults: .*least: got 2; at most steps: 1 can be",
        ),
    ],
)
def test_mistakes_are_one_sentence(keys, sentence, make_setup):
    with pytest.raises(ExperimentError, match=sentence):
        make_setup(**POINT | RING | {"strategy": "diffusion", "faults": FOUR, "trial": False} | keys)
