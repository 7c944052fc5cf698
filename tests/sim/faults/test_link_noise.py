"""Noise of links: its covariance, by the recursion of the errors."""

import numpy as np
import pytest
import torch

REPLICAS = 1500


class Shrink:
    """Diffusion on ½ ‖x‖² without gradient noise: x ← A (1 − μ) x."""

    def __init__(self, mu, robust=False):
        self.mu = mu

    def step(self, block):
        block.x.mul_(1 - self.mu)
        block.combine(block.x)


def covariance(weights, mu, variance, steps, gradients=0.0):
    """Of x_n = A ((1 − μ) x_{n−1} + μ g_n) + v_n, where v_k = Σ_{l≠k} a_kl n_kl."""
    B, noise = (1 - mu) * weights, variance * np.diag(((weights - np.diag(np.diag(weights))) ** 2).sum(1))
    noise += mu**2 * gradients * weights @ weights.T
    sigma = np.zeros_like(noise)
    for _ in range(steps):
        sigma = B @ sigma @ B.T + noise
    return sigma


def test_the_noise_of_mixed_rows_adds_up(make_block):
    """On a path of three agents, whose mean squared deviation is 2.6502e-3 for μ = .001, σ² = 1e-4, E g² = 1."""
    block = make_block(
        task="quadratic",
        model={"name": "point", "start": 0.0},
        topology={"name": "path", "agents": 3},
        strategy=Shrink(0.1),
        replicas=REPLICAS,
        faults={"name": "link_noise", "size": 0.5},
    )
    block.advance(15)
    weights = block.setup.weights.toarray()
    assert np.trace(covariance(weights, 1e-3, 1e-4, 8000, 1.0)) / 3 == pytest.approx(2.6502e-3, rel=2e-5)
    x = block.x.view(REPLICAS, 3, -1)[:, :, 0].numpy()
    products = x[:, :, None] * x[:, None, :]
    expected, error = covariance(weights, 0.1, 0.25, 15), products.std(0) / REPLICAS**0.5
    assert (abs(products.mean(0) - expected) <= 4.5 * error).all()


def test_the_noise_of_single_messages(make_block):
    """Of its own in each number, the same whenever a broadcast is read, and however it is cut."""
    keys = {
        "task": "quadratic",
        "model": {"name": "point", "start": 0.0},
        "topology": {"name": "star", "agents": 4},
        "faults": [{"name": "link_noise", "size": 3.0}, {"name": "link_noise", "size": 4.0}],
    }
    block, other = make_block(**keys), make_block(**keys)
    other.channel.disturbances.piece = 7
    x = torch.zeros(8, 700, dtype=torch.float64)
    told, again = block.broadcast(x), other.broadcast(x)
    heard = torch.cat([rows for _, rows in told], 2)
    assert torch.equal(heard, torch.cat([rows for _, rows in told], 2))
    torch.testing.assert_close(heard, torch.cat([rows for _, rows in again], 2), rtol=0, atol=0)
    assert not heard[~block.neighbors.heard].any()
    noise = heard[block.neighbors.heard]  # 12 rows
    assert float(noise.square().mean()) == pytest.approx(25, rel=4.5 * (2 / noise.numel()) ** 0.5)
    correlated = torch.corrcoef(noise) - torch.eye(12)
    assert correlated.abs().max() < 6 / 700**0.5
    received = block.exchange(x[:, None, :5].expand(-1, 3, -1))
    assert received[block.neighbors.heard].all() and not torch.equal(received, heard[..., :5])


def test_no_noise_is_no_fault_and_protocols_have_none(make_block):
    plain, quiet = (make_block(strategy="push_sum", faults=f) for f in (None, {"name": "link_noise", "size": 0.0}))
    loud = make_block(strategy="push_sum", faults={"name": "link_noise", "size": 0.1})
    for block in (plain, quiet, loud):
        block.advance(2)
    assert torch.equal(plain.x, quiet.x) and not torch.equal(plain.x, loud.x)
    assert torch.equal(plain.memory["mass"], loud.memory["mass"])
