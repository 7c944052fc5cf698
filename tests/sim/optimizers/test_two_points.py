"""Optimizers of two points in a network: the same samples at both, and what the strategies make of them."""

import numpy as np
import pytest
import torch

KEYS = {
    "task": {
        "name": "ripples",
        "dimension": 3,
        "heterogeneity": 0.5,
        "noise": {"law": "pareto", "tail": 1.6, "p": 1.5, "multiplicative": 0.3},
    },
    "model": {"name": "point", "start": 2.0},
    "topology": {"name": "ring", "agents": 5},
    "batch_size": 2,
}
LR, THETA, H = 0.1, 0.7, 2.0


def clip(g):
    return np.minimum(1, H / np.linalg.norm(g, axis=-1, keepdims=True)) * g


@pytest.mark.parametrize("strategy", ["diffusion", "centralized", "consensus"])
@pytest.mark.parametrize("name", ["nsgdc_vr", "a_nsgdc"])
def test_two_points_in_a_network_follow_their_recursion(make_block, name, strategy):
    block = make_block(**KEYS, strategy=strategy, optimizer={"name": name, "lr": LR, "momentum": THETA, "clip": H})
    w = block.setup.weights.toarray()
    samples = [block.oracle.sampler.batch(t)[1].clone().view(2, 5, 2, 4) for t in range(12)]

    def gradient(x, t):
        j, s = block.task.gradient(torch.from_numpy(x)), samples[t].mean(2)
        return ((1 + s[..., 3:]) * j + s[..., :3]).numpy()

    x = np.full((2, 5, 3), 2.0)
    previous, m = x, np.zeros_like(x)
    for t in range(12):
        if name == "nsgdc_vr":
            g = gradient(x, t)
            h = (1 - THETA) * clip(g) + THETA * (g - gradient(previous, t))
        else:
            h = gradient(x + THETA / (1 - THETA) * (x - previous), t)
        previous = x
        if strategy == "centralized":
            h = h.mean(1, keepdims=True) + 0 * h
        if strategy == "consensus":
            x = w @ x
        m = THETA * m + (h if name == "nsgdc_vr" else (1 - THETA) * clip(h))
        x = x - LR * m / np.linalg.norm(m, axis=-1, keepdims=True)
        if strategy == "diffusion":
            x = w @ x
    block.advance(12)
    np.testing.assert_allclose(block.x.numpy(), x.reshape(-1, 3), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["nsgdc_vr", "a_nsgdc"])
def test_a_run_of_two_points_goes_on_from_its_checkpoint(make_block, name):
    keys = {**KEYS, "strategy": "diffusion", "optimizer": {"name": name, "lr": LR}}
    whole, first, second = (make_block(**keys) for _ in range(3))
    whole.advance(10)
    first.advance(6)
    second.load_state_dict(first.state_dict())
    second.advance(10)
    assert torch.equal(second.x, whole.x)
