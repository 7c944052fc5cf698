"""Links that carry numbers with few bits: unbiased, with the variance of rounding, and in shorter messages."""

import numpy as np
import pytest
import torch

from basinet.sim.agents.placement import Placement
from basinet.sim.agents.worker import Worker
from basinet.sim.faults import LinkRounding

REPLICAS = 1500
PATH = {
    "task": "quadratic",
    "model": {"name": "point", "start": 0.0},
    "topology": {"name": "path", "agents": 3},
    "replicas": REPLICAS,
}


@pytest.mark.parametrize("compressor", ["quantize", "qsgd"])
def test_mixing_is_unbiased_with_the_variance_of_rounding(compressor, make_block):
    """Neighbours hear the same of a row: Cov(x_k, x_l) = Σ_j w_kj w_lj Var Q(x_j), where j is neither k nor l."""
    faults = LinkRounding(levels=3, compressor=compressor)
    block = make_block(**PATH, strategy="isolated", faults=faults)
    P, weights = block.x.shape[1], torch.from_numpy(block.setup.weights.toarray())
    rows = torch.linspace(-1, 2, 3 * P, dtype=torch.float64).view(3, P).sin()
    block.x.copy_(rows.repeat(REPLICAS, 1))
    x = block.x
    block.combine(x)
    scale = rows.abs().amax(1) if compressor == "quantize" else rows.norm(dim=1)
    part = (3 * rows.abs() / scale[:, None]) % 1
    variance = (scale / 3).square()[:, None] * part * (1 - part)
    outside = weights - weights.diagonal().diag()
    found = x.view(REPLICAS, 3, P) - weights @ rows
    products = found[:, :, None] * found[:, None]  # [R, 3, 3, P]
    expected = torch.einsum("kj,lj,jp->klp", outside, outside, variance)
    for sample, mean in ((found, torch.zeros(3, P)), (products, expected)):
        assert ((sample.mean(0) - mean).abs() <= 5 * sample.std(0) / REPLICAS**0.5 + 1e-14).all()
    assert block.channel.bytes_sent == 4 * (-(-P * 3 // 8) + 8)  # a sign and 0 … 3 in three bits, and the scale


def test_many_levels_are_no_fault_and_protocols_are_exact(make_block):
    plain, fine, coarse = (
        make_block(strategy="push_sum", faults=f) for f in (None, LinkRounding(levels=2**40), LinkRounding(levels=4))
    )
    for block in (plain, fine, coarse):
        block.advance(2)
    torch.testing.assert_close(plain.x, fine.x, rtol=0, atol=1e-10)
    assert (plain.x - coarse.x).abs().max() > 1e-3
    assert torch.equal(plain.memory["mass"], coarse.memory["mass"])


def test_each_message_is_rounded_by_draws_of_its_own(make_block):
    """Of the agent, the step, the message, and the neighbour if each hears another; what is short already stays so."""
    block = make_block(**PATH | {"replicas": 1}, strategy="isolated", faults="link_rounding")
    rows, found = torch.linspace(0.1, 0.7, 40, dtype=torch.float64).expand(3, -1), []
    for step in (0, 0, 1):
        x = rows.clone()
        block.channel.combine(x, step)
        found.append(x[0])
    heard = block.channel.exchange(rows[:, None].expand(-1, 2, -1), 2)
    found += [heard[0, 0], heard[2, 0]]
    assert len(torch.stack(found).unique(dim=0)) == 5
    exact = rows.clone()
    block.channel.combine(exact, 2, truly=True)
    torch.testing.assert_close(exact, rows, rtol=1e-14, atol=0)
    before = block.channel.bytes_sent
    block.channel.combine(rows.clone(), 3, sent=5)
    assert block.channel.bytes_sent - before == 4 * 5


@pytest.mark.parametrize("strategy", ["diffusion", {"name": "robust", "rule": "median"}])
def test_personal_parameters_are_not_sent(strategy, make_block):
    keys = {"personal": ["*bias"], "topology": {"name": "complete", "agents": 4}, "strategy": strategy}
    plain, fine = (make_block(**keys, faults=f) for f in (None, LinkRounding(levels=2**40)))
    for block in (plain, fine):
        block.advance(2)
    torch.testing.assert_close(plain.x, fine.x, rtol=0, atol=1e-9)
    numbers = plain.channel.bytes_sent // 24 // 8  # of 2 · 12 messages
    assert numbers < plain.x.shape[1] and fine.channel.bytes_sent == 24 * (-(-numbers * 42 // 8) + 8)


def test_simulated_time_and_budgets_know_the_shorter_messages(make_setup):
    """A path of one parameter row: latency 0, 1 kB/s, so that a step takes as many milliseconds as bytes."""
    keys = PATH | {"replicas": 1, "strategy": "diffusion", "network": {"name": "uniform", "bandwidth": "1 kB/s"}}
    setup = make_setup(**keys, faults=LinkRounding(levels=1))
    worker = Worker(setup, Placement.split(1, 3), "stacked")
    worker.advance(2)
    row = worker.measure()[0][0]
    size = -(-worker.block.x.shape[1] * 2 // 8) + 8
    assert row["communicated_bytes"] == 2 * 4 * size
    assert row["simulated_time"] == pytest.approx(2 * size / 1e3, rel=1e-9)
    assert np.isfinite(row["train_loss"])
