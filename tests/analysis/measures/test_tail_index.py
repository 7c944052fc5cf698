"""Hill's estimator on laws of known index, and the gradients of tasks."""

import math

import pytest
import torch

from basinet.algorithms.draws import fold, key
from basinet.analysis.measures.tail_index import gradient_noise_norms, hill
from basinet.analysis.runs.measure_replica import measure_point
from basinet.analysis.studies.peak_memory import PeakMemory
from basinet.sim.models import MODELS, Point
from basinet.sim.tasks import Noise, digits, ripples

F64 = torch.float64


def keys(count, seed=0):
    return fold(torch.tensor(key(seed, "hill")), torch.arange(count))


@pytest.mark.parametrize("tail", [1.2, 1.6, 3.0])
def test_intervals_of_pareto_tails_cover_their_index_as_often_as_they_say(tail):
    law = Noise(law="pareto", tail=tail, p=1.0)
    drawn = law.numbers(keys(400), (1000,)).abs()
    found = [hill(row) for row in drawn]
    covered = sum(tail_index.low <= tail <= tail_index.high for tail_index in found)
    assert abs(covered - 380) < 4 * math.sqrt(400 * 0.95 * 0.05)
    values = torch.tensor([tail_index.value for tail_index in found])
    assert float(values.mean()) == pytest.approx(tail * 50 / 49, abs=4 * float(values.std()) / 20)
    assert found[0].largest == 50 and found[0].error == pytest.approx(found[0].value / math.sqrt(50))
    assert float(values.std()) == pytest.approx(tail / math.sqrt(50), rel=0.2)


def test_light_tails_have_a_large_index_and_equal_values_an_infinite_one():
    assert hill(Noise().numbers(keys(1), (20_000,))[0].abs(), fraction=0.01).value > 5
    assert hill(torch.ones(100)).value == math.inf
    with pytest.raises(ValueError, match="needs more than 5 positive values, of 100 here"):
        hill(torch.zeros(100))
    with pytest.raises(ValueError, match="needs more than 2 positive values"):
        hill(torch.ones(2))
    broken = torch.cat([torch.ones(97), torch.tensor([math.inf, math.inf, math.nan])])
    with pytest.raises(ValueError, match="needs finite values; 3 of 100 are infinite or not a number"):
        hill(broken)


def test_the_noise_of_a_task_has_the_index_of_its_law():
    noise = {"law": "pareto", "tail": 1.6, "p": 1.5, "shape": "radial"}
    task = ripples(noise=noise, heterogeneity=1.0, num_agents=3).to("cpu", F64)
    found = measure_point(Point(10, start=1.0).double(), task, ["tail_index"], seed=3)
    assert abs(found["tail_index"] - 1.6) < 3 * found["tail_index_error"]
    assert found["tail_index_error"] == pytest.approx(found["tail_index"] / 10)  # 100 of 2000 samples


def test_norms_are_those_of_single_samples():
    task = digits(train_size=40).to("cpu", F64)
    model = MODELS["mlp"](task.input_shape, 10, hidden=[4]).double()
    norms = gradient_noise_norms(model, task)
    gradients = []
    for n in range(40):
        model.zero_grad()
        task.objective(model, (task.train[0][n : n + 1], task.train[1][n : n + 1])).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    stacked = torch.stack(gradients)
    expected = (stacked - stacked.mean(0)).norm(dim=1)
    torch.testing.assert_close(norms.sort().values, expected.sort().values)
    assert len(gradient_noise_norms(model, task, samples=7)) == 7


def test_gradients_that_do_not_fit_are_computed_twice():
    task = digits(train_size=40).to("cpu", F64)
    model = MODELS["mlp"](task.input_shape, 10, hidden=[64]).double()
    size = sum(p.numel() for p in model.parameters())
    with PeakMemory() as kept:
        norms = gradient_noise_norms(model, task)
    with PeakMemory() as anew:
        again = gradient_noise_norms(model, task, memory=40 * size * 8 - 1)
    assert torch.equal(norms, again)
    # Beside the mean: the gradients of two samples, each also in parts, and the difference to the mean.
    assert anew.peak < 10 * size * 8 < 40 * size * 8 < kept.peak < 50 * size * 8
