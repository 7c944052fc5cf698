"""Noise and heterogeneity of finished runs, where they are known in closed form."""

import numpy as np
import pytest
import torch

from basinet import run
from basinet.analysis.advice.measured_problem import calibrated
from basinet.analysis.theory.rounds_to_accuracy import Problem, rounds_to_accuracy
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.folder import RunFolder, load_run
from basinet.sim.setup.build import build_setup
from basinet.topologies import metropolis, ring

RUN = {
    "topology": {"name": "ring", "agents": 8},
    "strategy": "diffusion",
    "batch_size": 4,
    "steps": 3,
    "replicas": 2,
    "analysis": [],
    "runtime": {"dtype": "float64", "device": "cpu"},
    "quiet": True,
}
QUADRATIC = {"name": "quadratic", "curvature": 2.0, "dimension": 20, "noise": 0.5, "heterogeneity": 0.3}
FROM_2 = {"task": QUADRATIC, "model": {"name": "point", "start": 2.0}}  # the minimum is 1 in each coordinate


def test_a_quadratic_says_what_it_was_made_of_and_a_run_gets_there_in_time(tmp_path):
    path = run(**RUN, **FROM_2, network={"latency": "1 ms"}, out=tmp_path / "measured").runs[0].path
    found = calibrated(path)
    shifts = build_setup(Config.parse(load_run(path).config), trial=False).task.shifts
    square = 20 * 2.0**2
    assert found.replicas == 2 and found.noise == pytest.approx(20 * 0.5 / 4 / square)
    assert found.heterogeneity == pytest.approx((shifts**2).sum(1).mean().item() / square)
    need = rounds_to_accuracy("atc", [metropolis(ring(8))], Problem(found.noise, found.heterogeneity, 0.001))
    steps = int(need.steps)
    lengths = {"steps": steps, "evaluate_every": steps // 2, "replicas": 16}
    rate = {"optimizer": {"name": "sgd", "lr": need.rate / 2.0}}
    states = load_checkpoint(
        RunFolder(run(**(RUN | lengths), **FROM_2, **rate, out=tmp_path / "checked").runs[0].path).checkpoint
    )
    risks = (states["rows"]["parameters"] - 1).square().sum(1).view(16, 8).mean(1) / 20  # relative to the start's
    error = float(risks.std() / 4)
    assert risks.mean() <= 0.001 + 4 * error and risks.mean() > 0.0005  # a bound, of which noise takes most


def test_agents_with_samples_of_their_own_are_measured_one_by_one(tmp_path):
    """A sample's gradient is (p − y) x; batches of all of an agent's samples have no noise."""
    task = {"name": "logistic", "samples": 40, "dimension": 3, "partition": {"name": "dirichlet", "alpha": 0.5}}
    path = run(**RUN, task=task, sampling="epochs", out=tmp_path / "out").runs[0].path
    setup = build_setup(Config.parse(load_run(path).config), trial=False)
    rows = load_checkpoint(RunFolder(path).checkpoint)["rows"]["parameters"].view(2, 8, -1).numpy()
    x, y = (part.numpy() for part in setup.task.train)

    def gradients(w):
        return (1 / (1 + np.exp(-x @ w)) - y)[:, None] * x

    noises, apart, squares = [], [], []
    for replica, held in enumerate(setup.holdings):
        first = torch.nn.utils.parameters_to_vector(setup.start(replica, {}).parameters()).detach().double().numpy()
        squares.append((gradients(first).mean(0) ** 2).sum())
        there = gradients(rows[replica].mean(0))
        means = np.stack([there[places].mean(0) for places in held])
        batches = [0 if 4 % len(places) == 0 else 1 / 4 for places in held]
        noises += [there[places].var(0).sum() * share for places, share in zip(held, batches, strict=True)]
        apart += [*((means - means.mean(0)) ** 2).sum(1)]
    found = calibrated(path)
    assert found.noise == pytest.approx(np.mean(noises) / np.mean(squares))
    assert found.heterogeneity == pytest.approx(np.mean(apart) / np.mean(squares))


@pytest.mark.parametrize(
    ("start", "rate", "said"),
    [(1.0, 0.1, "it started where the loss has no gradient"), (2.0, 1e38, "all of its replicas have diverged")],
)
def test_what_says_nothing_is_said(start, rate, said, tmp_path):
    keys = RUN | {"task": QUADRATIC, "model": {"name": "point", "start": start}, "steps": 20}
    keys["optimizer"] = {"name": "sgd", "lr": rate}
    path = run(**keys, out=tmp_path / "out").runs[0].path
    with pytest.raises(ExperimentError, match=f"^{said}$"):
        calibrated(path)
