"""Noise of any law on the gradients of any task."""

import math

import numpy as np
import pytest
import torch

from basinet.sim.agents.block import Block
from basinet.sim.agents.placement import Placement
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.tasks import Noise

LAWS = {
    "gaussian": {},
    "student": {"law": "student", "tail": 2.5, "p": 1.5},
    "pareto": {"law": "pareto", "tail": 1.9, "p": 1.2, "shape": "radial"},
    "skewed_pareto": {"law": "skewed_pareto", "tail": 1.9, "p": 1.2, "shape": "line"},
    "stable": {"law": "stable", "tail": 1.9, "p": 1.2},
}


@pytest.mark.parametrize("engine", ["stacked", "vectorized", "loop"])
@pytest.mark.parametrize("law", LAWS)
def test_gradients_have_the_noise_that_is_asked_for(make_block, law, engine):
    settings = {"size": 0.3, "multiplicative": 0.2, **LAWS[law]}
    runtime = {"dtype": "float64", "engine": engine}
    noisy, plain = make_block(gradient_noise=settings, runtime=runtime), make_block(runtime=runtime)
    added = Noise.parse(settings)
    for step in range(2):
        noisy.step = plain.step = step
        keys = noisy.keys("gradient noise")
        g = plain.gradients()
        s = added.vectors(keys, 1, g.shape[1])[:, 0]
        torch.testing.assert_close(noisy.gradients(), (1 + added.factors(keys, 1)[:, 0]) * g + 0.3 * s)
        assert len(s.unique(dim=0)) == len(s)  # one draw an agent of each replica, ...
        assert torch.equal(noisy.gradients(), noisy.gradients())  # ... and step
    noisy.step = 0
    first = noisy.gradients().clone()
    noisy.step = 1
    assert not torch.equal(first, noisy.gradients())


@pytest.mark.parametrize("law", ["gaussian", "pareto"])
def test_the_moment_of_order_p_is_its_size(make_block, law):
    p = 1.2
    settings = {"gaussian": {}, "pareto": {"law": "pareto", "tail": 4.0}}[law] | {"p": p, "shape": "radial"}
    block = make_block(gradient_noise={"size": 0.3, **settings}, topology={"name": "ring", "agents": 50})
    plain = make_block(topology={"name": "ring", "agents": 50}).gradients()
    powers = []
    for step in range(20):
        block.step = step
        keys = block.keys("gradient noise")
        drawn = plain.clone()
        block.setup.config.gradient_noise.disturb(drawn, keys)
        powers.append((drawn - plain).norm(dim=1) ** p)
    powers = torch.cat(powers)
    assert abs(float(powers.mean()) - 0.3**p) < 4 * float(powers.std()) / math.sqrt(len(powers))


def test_noise_of_no_size_changes_nothing(make_block):
    blocks = [make_block(gradient_noise=given) for given in ({"size": 0.0}, "none", None)]
    for block in blocks:
        block.advance(5)
    assert torch.equal(blocks[0].x, blocks[1].x) and torch.equal(blocks[1].x, blocks[2].x)


@pytest.mark.parametrize("size", [40, 2**19])  # all agents at once, or two at a time
def test_many_parameters_are_made_noisy_some_agents_at_a_time(size):
    keys, law = torch.arange(3), Noise(multiplicative=0.1)
    together, alone = torch.ones(3, size), torch.ones(3, size)
    law.disturb(together, keys)
    for n in range(3):
        law.disturb(alone[n : n + 1], keys[n : n + 1])
    assert torch.equal(together, alone) and together.dtype == torch.float32


def test_placement_and_interruption_change_nothing(make_setup):
    setup = make_setup(
        gradient_noise={"size": 0.05, **LAWS["pareto"]},
        strategy="isolated",
        optimizer={"name": "nsgdc_vr", "lr": 0.1},
        runtime={"dtype": "float64", "engine": "stacked"},
    )
    placements = [Placement.split(2, 4), Placement(4, np.repeat([0, 1], [3, 5]), 2, 1)]
    whole, part = (Block(setup, placement, torch.device("cpu"), "stacked") for placement in placements)
    for block in (whole, part):
        for _ in range(4):
            block.adapt(block.gradients())
            block.step += 1
    torch.testing.assert_close(part.x, whole.x[3:], rtol=1e-9, atol=1e-12)
    again = Block(setup, placements[0], torch.device("cpu"), "stacked")
    again.load_state_dict(whole.state_dict())
    for block in (whole, again):
        block.advance(7)
    assert torch.equal(whole.x, again.x)


def test_variance_reduction_has_the_same_noise_at_both_points(make_block):
    """Where it only adds, it cancels in the differences: with θ near 1 little is left of it."""
    block, quiet = (
        make_block(
            task={"name": "quadratic", "curvature": [1.0, 0.5], "noise": 0.0},
            model={"name": "point", "start": 2.0},
            strategy="isolated",
            optimizer={"name": "nsgdc_vr", "lr": 0.01, "momentum": 0.9, "clip": 1e9},
            gradient_noise=given,
        )
        for given in ({"size": 3.0, **LAWS["stable"]}, None)
    )
    seen = []
    for b in (block, quiet):
        for _ in range(3):
            b.gradients()
            b.adapt(b.state.gradients)
            b.step += 1
        place = b.x.clone()
        prepared = b.gradients().clone()  # θ (g(x) − g(x')) + (1 − θ) g(x)
        seen.append((place, prepared, block.keys("gradient noise")))
    added = block.setup.config.gradient_noise
    (x, prepared, keys), h = seen[0], block.task.hessian
    optimizer = block.optimizer.optimizers[0]
    previous = optimizer.state[optimizer.param_groups[0]["params"][0]]["previous"]
    s = 3.0 * added.vectors(keys, 1, 2)[:, 0]
    g = (x - block.task.minimum) @ h
    torch.testing.assert_close(prepared, 0.9 * (x - previous) @ h + 0.1 * (g + s))
    assert not torch.equal(seen[0][0], seen[1][0])


def test_an_experiment_can_name_it_and_is_read_back():
    e = Experiment(
        task="digits",
        topology={"name": "ring", "agents": 4},
        strategy="diffusion",
        gradient_noise={"law": "student", "tail": [3, 5.0], "size": 0.1},
    )
    assert list(e.runs) == ["diffusion-atc_tail=3", "diffusion-atc_tail=5.0"]
    for config in e.runs.values():
        assert Config.parse(config.describe()).gradient_noise == config.gradient_noise
        assert config.describe()["gradient_noise"]["law"] == "student"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"gradient_noise": {"law": "cauchy"}}, "gradient_noise.law is 'cauchy'; allowed are gaussian"),
        ({"gradient_noise": {"tails": 3}}, "gradient_noise has no setting 'tails'"),
        ({"gradient_noise": 0.1}, "gradient_noise: got 0.1; allowed are none, or a mapping such as"),
        ({"gradient_noise": {}, "optimizer": "mezo"}, "gradient_noise: mezo computes no gradients"),
    ],
)
def test_what_is_refused(make_setup, keys, sentence):
    with pytest.raises(ExperimentError, match=sentence):
        make_setup(**keys)
