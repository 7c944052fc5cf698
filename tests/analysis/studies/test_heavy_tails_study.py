"""The rates of normalised SGD: short versions of the study, and values that are exact."""

import math

import pytest
import torch

from basinet.algorithms.draws import fold, key
from basinet.algorithms.optimizers import ANSGDC, NSGD, NSGDC, NSGDCVR, NSGDm, heavy_tail_rate
from basinet.analysis.studies.descents import Descent, mean_gradient_norms
from basinet.analysis.studies.heavy_tails import edge_noise_of, heavy_tails, noise_of, slope, tuned
from basinet.sim.tasks import Noise, ripples

HORIZONS = (500, 2000)


@pytest.mark.parametrize("p", [1.2, 2.0])
def test_slopes_are_those_of_the_theory(p):
    # Each mean is good to 0.5 % and better (checked below), a slope over log 4 then to 0.005; the rest of the tolerance
    # of 0.03 is for terms of the bounds that fall faster.
    kinds = {"nsgdc": NSGDC, "nsgdc_vr": NSGDCVR, "a_nsgdc": ANSGDC}
    rows = {name: [] for name in kinds}
    for steps in HORIZONS:
        descents = {name: tuned(kind, steps, p) for name, kind in kinds.items()}
        for name, values in mean_gradient_norms([ripples(noise=noise_of(p))], descents, steps).items():
            assert float(values.std()) / 4 < 0.01 * float(values.mean())
            rows[name].append({"steps": steps, "gradient_norm": float(values.mean())})
    for name, found in rows.items():
        assert slope(found) == pytest.approx(heavy_tail_rate(name, p), abs=0.03), name


def test_without_noise_the_rate_is_that_of_gradient_descent():
    exact = {316: 0.5296, 1000: 0.3043, 3162: 0.1732}
    rows = []
    for steps, norm in exact.items():
        task, descent = ripples(noise=0.0), tuned(NSGD, steps, 2.0, sigma=0.0)
        (values,) = mean_gradient_norms([task], {"": descent}, steps, repeats=1, looks=steps).values()
        assert float(values) == pytest.approx(norm, rel=3e-4)  # half a unit of the last of four digits
        rows.append({"steps": steps, "gradient_norm": float(values)})
    assert slope(rows[1:]) == pytest.approx(-0.5, abs=0.015)


def test_without_noise_all_methods_are_one():
    kinds = {"nsgd": NSGD, "nsgdm": NSGDm, "nsgdc": NSGDC, "nsgdc_vr": NSGDCVR, "a_nsgdc": ANSGDC}
    descents = {name: tuned(kind, 316, 1.5, sigma=0.0) for name, kind in kinds.items()}
    found = mean_gradient_norms([ripples(noise=0.0)], descents, 316, repeats=1, looks=316)
    assert len({float(values) for values in found.values()}) == 1
    assert float(found["nsgd"]) == pytest.approx(0.5296, abs=5e-5)


def test_descents_see_the_samples_of_the_task():
    laws = [{"law": "pareto", "tail": 1.6, "p": 1.5, "multiplicative": 0.5}, {"law": "student", "tail": 3.0}]
    tasks = [ripples(dimension=2, noise=law) for law in laws]
    (found,) = mean_gradient_norms(tasks, {"": Descent(NSGD, {"lr": 0.3})}, 3, repeats=2, skip=0.5).values()
    assert found.shape == (2, 2)
    for place, n in ((0, 0), (0, 1), (1, 0), (1, 1)):
        task = tasks[place]
        x, norms = torch.full((2,), 3.0, dtype=torch.float64), []
        for t in range(3):
            keys = fold(fold(torch.tensor(key(0, "descents", 3)), torch.tensor([n])), t)
            batch = tuple(part[0] for part in task.draw(keys, torch.tensor([0]), 1, torch.float64))
            norms.append(float(task.gradient(x).norm()))
            point = x.clone().requires_grad_()
            (g,) = torch.autograd.grad(task.objective(lambda _, point=point: point.expand(1, 2), batch), point)
            x = x - 0.3 * g / g.norm()
        assert float(found[place, n]) == pytest.approx(sum(norms[1:]) / 2, rel=1e-12)


def test_the_study_runs_from_end_to_end():
    told = []
    findings = heavy_tails(lambda *so_far: told.append(so_far), horizons=(50, 100), repeats=2, processes=1)
    assert told[-1][0] == pytest.approx(1) and told == sorted(told, key=lambda pair: pair[0])
    assert len(findings.checks) == 1 + 4 * 4 + 3 * 4 + 3
    assert all(math.isfinite(check.measured) and math.isfinite(check.predicted) for check in findings.checks)
    assert [drawing.name for drawing in findings.drawings] == ["rates", "edge", "floors", "tail_index"]
    assert all(drawing.rows for drawing in findings.drawings)


@pytest.mark.slow
def test_processes_change_no_result():
    alone, together = (heavy_tails(lambda *_: None, horizons=(20, 40), repeats=2, processes=count) for count in (1, 2))
    assert [check.measured for check in alone.checks] == [check.measured for check in together.checks]


def test_noise_at_the_edge_has_the_tail_of_its_index():
    law = Noise.parse(edge_noise_of(1.5))
    norms = (
        law.size * law.vectors(fold(torch.tensor(key(0, "edge")), torch.arange(400)), 500, 10).norm(dim=-1).flatten()
    )
    assert float(norms.min()) >= 1 - 1e-12
    share = float((norms > 10).double().mean())
    assert abs(share - 10**-1.5) < 4 * math.sqrt(10**-1.5 / len(norms))
    assert law.raw_moment(1.5) == math.inf and math.isfinite(law.raw_moment(1.49))
