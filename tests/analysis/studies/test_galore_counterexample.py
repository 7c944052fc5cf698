"""GaLore's counterexample: where each method ends is known before it runs."""

from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import optim

from basinet.algorithms.optimizers import GaLore, GoLore
from basinet.analysis.studies.galore_counterexample import Counterexample, descend, galore_counterexample

SEEDS = (42, 0, 1, 2)
SETTINGS = {"lr": 5e-3, "rank": 4, "period": 20, "agents": len(SEEDS)}


@pytest.fixture(scope="module")
def problem():
    return Counterexample.draw(SEEDS)


def test_it_is_the_problem_of_the_paper(problem):
    x, d = problem.start.clone().requires_grad_(), problem.signal
    a, b = torch.eye(6, 10).double(), torch.zeros(4, 10, 10).double()
    b[:, :6, :6] = d
    value = 0.5 * (a @ x).square().sum((1, 2)) + (b * x).sum((1, 2))
    least = -0.5 * d.square().sum((1, 2))
    assert [value[0].item(), least[0].item()] == pytest.approx([0.8107, -23.2174], abs=1e-4)
    torch.testing.assert_close(problem.gap(x), value - least, rtol=1e-12, atol=1e-12)
    (g,) = torch.autograd.grad(value.sum(), x)
    noise = torch.tensor([1.0, -1.0, 0.0, 0.5]).double()
    g[:, 6:, 6:] += noise.view(-1, 1, 1) * torch.eye(4).double()
    torch.testing.assert_close(problem.gradient(x.detach(), noise), g, rtol=1e-12, atol=1e-12)
    signs = problem.noise(torch.arange(2000))
    assert torch.equal(problem.noise(7), signs[:, 7]) and set(signs.unique().tolist()) == {-1.0, 1.0}
    assert float(signs.mean(1).abs().max()) < 4 / 2000**0.5


def test_the_prediction_has_its_limit(problem):
    limit = problem.stall()
    assert limit.tolist() == pytest.approx([2.4413, 2.1290, 2.7217, 1.9130], abs=1e-4)
    assert problem.stall(5e-3, 20)[0].item() == pytest.approx(2.2232, abs=1e-4)
    for batch in (1, 3):
        torch.testing.assert_close(problem.stall(1e-7, 1, batch), problem.stall(batch=batch), rtol=1e-6, atol=0)
    assert (problem.stall(5e-3, 20) <= limit).all()


def test_galore_stops_where_the_theory_says(problem):
    gap = descend(problem, partial(GaLore, **SETTINGS), 2000)[-1]
    torch.testing.assert_close(gap, problem.stall(5e-3, 20), rtol=1e-9, atol=0)


def test_golore_with_momentum_gets_there(problem):
    settings = SETTINGS | {"lr": 5e-4, "momentum": 0.9, "random_from": 1000}
    assert float(descend(problem, partial(GoLore, **settings), 4000)[-1].max()) < 5e-3


def test_momentum_does_not_help_galore(problem):
    settings = SETTINGS | {"lr": 5e-4, "momentum": 0.9}
    gap = descend(problem, partial(GaLore, **settings), 2000)[-1]
    d = problem.signal[0].numpy()
    x, m, p = problem.start[0].numpy().copy(), np.zeros((4, 10)), None
    for step in range(2000):
        g = np.zeros((10, 10))
        g[:6], g[6:, 6:] = x[:6] + np.pad(d, ((0, 0), (0, 4))), problem.noise(step)[0].item() * np.eye(4)
        if step % 20 == 0:
            new = np.linalg.svd(g)[0][:, :4]
            m, p = (m if p is None else new.T @ p @ m), new
        m = 0.9 * m + p.T @ g
        x -= 5e-4 * p @ m
    assert gap[0].item() == pytest.approx(0.5 * ((x[:6] + np.pad(d, ((0, 0), (0, 4)))) ** 2).sum(), rel=1e-9)
    assert float(gap.min()) > 1.5


@pytest.mark.slow
def test_the_study_finds_what_the_theory_says(monkeypatch):
    module = import_module("basinet.analysis.studies.galore_counterexample")
    monkeypatch.setattr(module, "_STEPS", 3000)  # all have ended by then
    told = []
    findings = galore_counterexample(lambda share, text: told.append(share), steps=2000)
    assert all(check.agrees for check in findings.checks), [c for c in findings.checks if not c.agrees]
    assert len(findings.checks) == 18 and told == sorted(told)
    assert {drawing.name for drawing in findings.drawings} == {"gap", "refresh_batch"}
    gaps = {row["batch"]: row for row in findings.drawings[1].rows}
    for batch in (1, 3, 5, 9, 25):  # odd ones stop where the theory says
        assert gaps[batch]["gap"] == pytest.approx(gaps[batch]["predicted"], rel=1e-9)
    assert gaps[2]["gap"] < 1e-3  # the noise of an even one cancels
    optimum = descend(Counterexample.draw([42]), partial(optim.SGD, lr=5e-3), 2000)
    assert float(optimum) == pytest.approx(0.995**4000 * 24.0281, rel=1e-4)
