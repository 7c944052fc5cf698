"""Normalised SGD in a network and under skewed noise: where it goes, and what takes it elsewhere."""

import numpy as np
import pytest
import torch

from basinet.algorithms.optimizers import heavy_tail_settings
from basinet.sim.experiment.component import ExperimentError

RING = {"name": "ring", "agents": 9}


@pytest.mark.parametrize("momentum", ["tracked", "of the tracker"])
def test_tracking_and_normalisation_are_gt_nsgdm(make_block, momentum):
    lr, theta, steps = 0.05, 0.8, 60
    tracked = momentum == "tracked"
    block = make_block(
        task={"name": "quadratic", "heterogeneity": 1.0, "noise": {"law": "pareto", "tail": 1.6, "p": 1.5}},
        model={"name": "point", "start": 2.0},
        topology=RING,
        strategy={"name": "gradient_tracking", "momentum": theta if tracked else 0.0},
        optimizer={"name": "nsgd", "lr": lr, "momentum": 0.0 if tracked else theta},
    )
    w, h, minimum = block.setup.weights.toarray(), block.task.hessian.numpy(), block.task.minimum.numpy()
    x = np.full((2, 9, 3), 2.0)
    v, y = np.zeros_like(x), np.zeros_like(x)
    for t in range(steps):
        g = (x - minimum) @ h + block.oracle.sampler.batch(t)[1].numpy().mean(1).reshape(x.shape)
        before, v = v, theta * v + (1 - theta) * g
        y = w @ (y + v - before)
        x = w @ (x - lr * y / np.linalg.norm(y, axis=-1, keepdims=True))
    block.advance(steps)
    np.testing.assert_allclose(block.x.numpy(), x.reshape(-1, 3), rtol=1e-10, atol=1e-10)


def geometric_median(points):
    """Minimise the sum of distances by Weiszfeld's iteration."""
    x = points.mean(0)
    for _ in range(5000):
        weights = 1 / (points - x).norm(dim=1, keepdim=True)
        x = (weights * points).sum(0) / weights.sum()
    return x


def test_who_normalises_before_agreeing_goes_to_the_geometric_median(make_block):
    keys = {
        "task": {"name": "quadratic", "curvature": [1.0, 1.0], "noise": 0.0, "heterogeneity": 3.0, "minimum": 0.0},
        "model": {"name": "point", "start": 1.0},
        "topology": {"name": "complete", "agents": 9},  # where diffusion steps by the mean direction exactly
        "optimizer": {"name": "nsgd", "lr": 0.5},
        "schedule": "cosine",
        "steps": 500,
        "replicas": 1,
    }
    ends = {}
    for strategy in ("diffusion", "gradient_tracking"):
        block = make_block(strategy=strategy, **keys)
        block.advance(500)
        ends[strategy] = block.x.mean(0)
    minima = -block.task.shifts  # of the agents' own losses ½‖x‖² + bᵀx; their mean is the minimum of the mean loss
    median = geometric_median(minima)
    apart = float(median.norm())
    assert apart > 0.2
    # The rate falls to zero: the last steps are shorter than this.
    assert float((ends["diffusion"] - median).norm()) < 1e-3 * apart
    assert float(ends["gradient_tracking"].norm()) < 1e-3 * apart


def resting_place(make_block, tail, optimizer, steps=1600, repeats=64):
    """Run one coordinate under skewed noise: the noise, and the mean place of the second half with its error."""
    block = make_block(
        task={
            "name": "quadratic",
            "curvature": [1.0],
            "minimum": 0.0,
            "noise": {"law": "skewed_pareto", "tail": tail, "p": tail - 0.3},
        },
        model={"name": "point", "start": 0.0},
        topology={"name": "ring", "agents": repeats},
        strategy="isolated",
        optimizer={"lr": 0.02, **optimizer},
        batch_size=1,
        steps=steps,
        replicas=1,
    )
    block.advance(steps // 2)
    total = torch.zeros_like(block.x)
    for step in range(steps // 2, steps):
        block.advance(step + 1)
        total += block.x
    places = total / (steps // 2)
    return block.task.law, float(places.mean()), float(places.std()) / repeats**0.5


def test_without_momentum_agents_stop_where_the_median_of_the_gradient_is_zero(make_block):
    # Along one coordinate the steps are signs: as many up as down where x = ∇J is minus the median of the noise.
    law, place, error = resting_place(make_block, 1.5, {"name": "nsgd"})
    floor = -law.median
    assert place == pytest.approx(floor, abs=4 * error + 0.02)  # and a bias of the order of a step
    assert floor > 10 * (4 * error + 0.02)  # far from the minimum, which is at 0


def test_momentum_lowers_the_floor_of_skewed_noise(make_block):
    # A mean of 1/α samples has the noise α^(1 − 1/tail) times as large, 0.21 for α = 0.01 and tail 1.5.
    law, place, error = resting_place(make_block, 1.5, {"name": "nsgdm", "momentum": 0.99})
    assert abs(place) + 4 * error < -0.4 * law.median


@pytest.mark.parametrize("tuned", ["known_p", {"name": "known_p"}, {"name": "known_p", "steps": 40}])
def test_a_tuning_is_for_the_steps_of_the_run(make_block, tuned):
    block = make_block(optimizer={"name": "nsgdc", "tuned": tuned})
    group = block.optimizer.optimizers[0].param_groups[0]
    expected = heavy_tail_settings("nsgdc", steps=40)  # as many as the run has
    assert {name: group[name] for name in expected} == expected
    with pytest.raises(ExperimentError, match=r"nsgdc refuses its settings: tuned must be one of known_p"):
        make_block(optimizer={"name": "nsgdc", "tuned": "knwon_p"})
