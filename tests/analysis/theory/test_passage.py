"""Leaving a basin: potentials and mean passage times against closed forms and a simulation of the library's own."""

import math

import numpy as np
import pytest
import torch

from basinet.analysis.statistics.survival import mean_time
from basinet.analysis.theory import (
    effective_potential,
    kramers_time,
    mean_passage_time,
    rule_of,
    smoothed,
    well_probability,
)
from basinet.topologies import metropolis, ring


def quartic(w):
    return w**4 / 4 - w**2 / 2


def bend(w):
    return 3 * w**2 - 1


def test_smoothing_a_polynomial_is_exact():
    w = np.linspace(-2, 2, 9)
    # E (w + δ)⁴ = w⁴ + 6 w² V + 3 V².
    wanted = (w**4 + 6 * w**2 * 0.3 + 3 * 0.09) / 4 - (w**2 + 0.3) / 2
    assert smoothed(quartic, 0.3)(w) == pytest.approx(wanted, abs=1e-12)
    assert smoothed(quartic, lambda w: 0.3 + 0 * w)(w) == pytest.approx(wanted, abs=1e-12)


def test_passage_of_a_linear_slope():
    """U = F w with a wall at 0, from 0 to c: E t = (D/F²)(e^{cF/D} − 1) − c/F (Gardiner)."""
    F, D, c = 0.7, 0.2, 1.0

    def slope(w):
        return np.where(w < 0, 1e7 * w**2, F * w)

    wanted = D / F**2 * (math.exp(c * F / D) - 1) - c / F
    assert mean_passage_time(slope, D, start=0.0, threshold=c, lr=0.1) == pytest.approx(wanted / 0.1, rel=2e-3)


def test_both_sides_are_alike():
    right = mean_passage_time(quartic, 0.1, start=-1.0, threshold=0.5, lr=0.01)
    left = mean_passage_time(quartic, 0.1, start=1.0, threshold=-0.5, lr=0.01)
    assert left == pytest.approx(right, rel=1e-9)


def test_high_barriers_follow_kramers():
    ratios = []
    for barrier in (10, 20, 40):
        D = 0.25 / barrier
        exact = mean_passage_time(quartic, D, start=-1.0, threshold=1.0, lr=1.0)
        # The crossing for good; the first passage beyond the far minimum takes as long, to the order D / ΔU.
        ratios.append(exact / kramers_time(0.25, 2.0, 1.0, diffusion=D, lr=1.0))
    errors = [abs(ratio - 1) for ratio in ratios]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.05


def test_a_potential_without_a_wall_is_refused():
    with pytest.raises(ValueError, match="does not grow"):
        mean_passage_time(lambda w: -w, 1.0, start=0.0, threshold=-1.0, lr=1.0)


def test_wells_of_equal_depth_share_by_their_widths():
    """Deep wells are Gaussian: P ∝ h^−1/2."""

    def wells(w):
        return np.where(w < 0, ((w / 0.5) ** 2 - 1) ** 2, ((w / 2) ** 2 - 1) ** 2)

    found = well_probability(wells, 0.01, barrier=0.0, low=-3.0, high=6.0)
    assert found == pytest.approx(2 / (2 + 0.5), abs=2e-3)


def test_the_felt_barrier_is_lower_where_agents_disagree_more():
    W = metropolis(ring(16))
    barriers = []
    for rule in ("centralized", "atc", "consensus"):
        felt = effective_potential(rule, W, quartic, bend, lr=0.02, noise=20.0, between=(-1.0, 0.5))
        values = felt(np.linspace(-1.5, 0.5, 401))
        barriers.append(values[200:].max() - values[:301].min())
    assert barriers[0] == pytest.approx(0.25, abs=1e-4)
    assert barriers[0] > barriers[1] > barriers[2]


RING = {
    "model": {"name": "point", "start": -1.0},
    "topology": {"name": "ring", "agents": 16},
    "batch_size": 1,
    "replicas": 256,
    "steps": 10**6,
    "runtime": {"dtype": "float32", "device": "cpu"},
}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["diffusion", "consensus"])
def test_exit_times_are_those_of_the_felt_potential(make_block, strategy):
    """On a ring of 16 with a barrier of 3 D: within three standard errors, √160 of the exponential's mean."""
    lr, diffusion = 0.04, 0.25 / 3
    noise = 2 * 16 * diffusion / lr
    block = make_block(
        **RING | {"strategy": strategy, "optimizer": {"name": "sgd", "lr": lr}},
        task={"name": "double_well", "sharp": 2.0, "flat": 2.0, "depth_sharp": 0.25, "depth_flat": 0.25,
              "noise": math.sqrt(noise)},
        escape={"name": "passes", "value": 0.5},
    )  # fmt: skip
    rule, _ = rule_of(block.strategy)
    felt = effective_potential(rule, block.setup.weights, quartic, bend, lr=lr, noise=noise, between=(-1.0, 0.5))
    predicted = mean_passage_time(felt, diffusion, start=-1.0, threshold=0.5, lr=lr)
    block.advance(round(predicted))  # 63 % are out, or 161 of 256
    steps = block.escape.steps.numpy()
    found = mean_time(np.where(steps > 0, steps, block.step), steps > 0)
    assert found.happened > 130
    assert abs(found.value - predicted) < 3 * found.error


@pytest.mark.slow
def test_the_flat_well_is_occupied_as_the_felt_potential_says(make_block):
    """Two wells of equal depth, 2.5 D below the barrier: the share of time is that of e^(−U/D), not of e^(−J/D)."""
    lr, diffusion = 0.02, 0.2
    noise = 2 * 16 * diffusion / lr
    block = make_block(
        **RING | {"model": {"name": "point", "start": -0.816}, "replicas": 128},
        task={"name": "double_well", "noise": math.sqrt(noise)},
        strategy="consensus",
        optimizer={"name": "sgd", "lr": lr},
    )
    (a, b), (sharp, flat) = block.task.minima.tolist(), block.task.curvatures.tolist()

    def potential(w):
        return block.task.value(torch.tensor(w, dtype=torch.float32)[..., None]).double().numpy()

    def curvature(w):
        return np.where(w <= 0, sharp * (3 * (w / a) ** 2 - 1) / 2, flat * (3 * (w / b) ** 2 - 1) / 2)

    felt = effective_potential(
        "consensus", block.setup.weights, potential, curvature, lr=lr, noise=noise, between=(a, b)
    )
    predicted, bare = (
        well_probability(u, diffusion, barrier=0.0, low=2 * a, high=2 * b) for u in (felt, potential)
    )  # fmt: skip
    block.advance(1250)  # nearly two relaxation times of the two wells
    looks = []
    for step in range(1250, 2001, 25):
        block.advance(step)
        looks.append((block.channel.replicas.centroid(block.x)[:, 0] > 0).double().numpy())
    shares = np.mean(looks, axis=0)
    error = shares.std(ddof=1) / 128**0.5
    assert abs(shares.mean() - predicted) < 3 * error < 0.1
    assert shares.mean() - bare > 3 * error
