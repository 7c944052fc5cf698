"""Models of time series: extrapolation in closed form, standardisation, engines, Hessians, in float64."""

import copy
import io

import numpy as np
import pytest
import torch

from basinet.sim.agents.state import StackedState, load_vector
from basinet.sim.engines import ENGINES
from basinet.sim.models import LinearForecaster, S3Forecaster
from basinet.sim.models.attention.forecaster import extrapolate
from basinet.sim.tasks import Forecast

LENGTH, HORIZON, CHANNELS, AGENTS, BATCH = 10, 13, 2, 3, 4
SHAPE, OUTPUTS = (LENGTH, CHANNELS), HORIZON * CHANNELS
SMALL = {"width": 8, "segments": 4, "rows": 4, "columns": 3}

MODELS = {
    "linear": lambda: LinearForecaster(SHAPE, OUTPUTS),
    "linear, mean": lambda: LinearForecaster(SHAPE, OUTPUTS, shift="mean"),
    "linear, none": lambda: LinearForecaster(SHAPE, OUTPUTS, shift="none"),
    "s3forecaster": lambda: S3Forecaster(SHAPE, OUTPUTS, seed=1, harmonics=3, **SMALL),
    "s3forecaster, unit": lambda: S3Forecaster(SHAPE, OUTPUTS, seed=1, standardize="unit", layers=1, **SMALL),
    "s3forecaster, none": lambda: S3Forecaster(SHAPE, OUTPUTS, seed=1, standardize="none", norm="position", **SMALL),
}


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def task():
    data = numbers(12, LENGTH, CHANNELS), numbers(12, HORIZON, CHANNELS, seed=1)
    return Forecast(train=data, num_outputs=OUTPUTS)


def made(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS[name]().double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("length", [24, 25])
@pytest.mark.parametrize("horizon", [1, 24, 61])
def test_whole_periods_are_continued_exactly(length, horizon):
    times = torch.arange(length + horizon, dtype=torch.float64)
    series = torch.full_like(times, 2.5)
    for place, (amplitude, phase) in enumerate(((1.5, 0.3), (0.7, -1.1), (0.2, 2.0)), start=1):
        series = series + amplitude * torch.cos(2 * torch.pi * place * times / length + phase)
    both = torch.stack((series, -3 * series), -1)[None]
    torch.testing.assert_close(extrapolate(both[:, :length], horizon, 3), both[:, length:], rtol=0, atol=1e-13)
    # What is too high is left out.
    high = both + torch.cos(2 * torch.pi * 4 * times / length)[None, :, None]
    torch.testing.assert_close(extrapolate(high[:, :length], horizon, 3), both[:, length:], rtol=0, atol=1e-13)


@pytest.mark.parametrize("length", [6, 7])
def test_extrapolation_is_the_sum_of_cosines_of_the_two_sided_transform(length):
    """As it is written down: amplitudes and phases of the 1 + 2 · harmonics lowest frequencies."""
    x = numbers(1, length, 1)
    frequencies, spectrum = np.fft.fftfreq(length), np.fft.fft(x.flatten().numpy())
    times = np.arange(length, length + 9)
    for harmonics in (0, 1, 2):
        lowest = np.argsort(np.abs(frequencies), kind="stable")[: 1 + 2 * harmonics]
        waves = 2 * np.pi * frequencies[lowest, None] * times + np.angle(spectrum[lowest])[:, None]
        expected = (np.abs(spectrum[lowest, None]) / length * np.cos(waves)).sum(0)
        np.testing.assert_allclose(extrapolate(x, 9, harmonics).flatten(), expected, rtol=0, atol=1e-13)
    for harmonics in (length // 2, 100):  # all of them
        np.testing.assert_allclose(extrapolate(x, 9, harmonics)[0, :, 0], x.flatten()[times % length], atol=1e-13)
    assert extrapolate(x.bfloat16(), 9, 2).dtype == torch.float32


@pytest.mark.parametrize("name", MODELS)
def test_engines_equal_a_loop(name, task):
    model = made(name)
    state = StackedState(model, AGENTS, torch.device("cpu"), torch.float64)
    state.fill(slice(None), model)
    state.parameters += 0.1 * numbers(*state.parameters.shape)
    batch = numbers(AGENTS, BATCH, LENGTH, CHANNELS), numbers(AGENTS, BATCH, HORIZON, CHANNELS, seed=1)
    expected, losses = [], []
    for agent in range(AGENTS):
        twin = load_vector(
            copy.deepcopy(model).train(), state.parameters[agent], {n: b[agent] for n, b in state.buffers.items()}
        )
        loss = (twin(batch[0][agent]) - batch[1][agent]).square().mean()
        expected.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, [*twin.parameters()])]))
        losses.append(loss.detach())
    for kind in ENGINES.values():
        runner = kind(model, task, state)
        torch.testing.assert_close(
            runner.gradients(batch, torch.arange(AGENTS)), torch.stack(losses), rtol=1e-10, atol=0
        )
        torch.testing.assert_close(state.gradients, torch.stack(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_hessian_products_equal_differences_of_gradients(name, task):
    model = made(name).eval()
    parameters = [*model.parameters()]
    direction = [numbers(*p.shape, seed=2) for p in parameters]
    gradients = torch.autograd.grad(task.objective(model, task.train), parameters, create_graph=True)
    products = torch.autograd.grad(gradients, parameters, direction)
    step, ends = 1e-5, []
    for sign in (1, -1):
        twin = copy.deepcopy(model)
        with torch.no_grad():
            for parameter, part in zip(twin.parameters(), direction, strict=True):
                parameter.add_(sign * step * part)
        ends.append(torch.autograd.grad(task.objective(twin, task.train), [*twin.parameters()]))
    found = torch.cat([p.flatten() for p in products])
    expected = torch.cat([(plus - minus).flatten() for plus, minus in zip(*ends, strict=True)]) / (2 * step)
    assert (found - expected).norm() <= 1e-5 * expected.norm()


def test_states_and_copies_give_the_same_outputs():
    model, x = made("s3forecaster"), numbers(BATCH, *SHAPE)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = S3Forecaster(SHAPE, OUTPUTS, seed=5, harmonics=3, **SMALL).double()
    other.load_state_dict(torch.load(file))
    assert torch.equal(copy.deepcopy(model)(x), model(x)) and torch.equal(other(x), model(x))


def test_sampled_sets_are_those_of_the_seed():
    sets = [[*S3Forecaster(SHAPE, OUTPUTS, seed=seed, **SMALL).buffers()] for seed in (1, 1, 2)]
    assert all(map(torch.equal, sets[0], sets[1])) and not all(map(torch.equal, sets[0], sets[2]))


@pytest.mark.parametrize("standardize", ["soft", "unit", "none"])
def test_windows_are_standardised(standardize):
    model, x = (
        made(f"s3forecaster, {standardize}" if standardize != "soft" else "s3forecaster").eval(),
        numbers(4, *SHAPE),
    )
    with torch.no_grad():
        found, moved = model(x), model(x + torch.tensor([5.0, -3.0]))
        shifted = torch.allclose(moved, found + torch.tensor([5.0, -3.0]), atol=1e-9)
        scaled = torch.allclose(model(1e3 * x) / 1e3, model(1e4 * x) / 1e4, atol=1e-5)
    assert shifted == scaled == (standardize != "none")
    if standardize == "soft":  # a constant window is not divided by zero
        assert model(torch.zeros(1, *SHAPE).double()).isfinite().all()


@pytest.mark.parametrize("make", [LinearForecaster, lambda *given: S3Forecaster(*given, seed=0)])
@pytest.mark.parametrize("given", [((8, 8, 1), 4), ((8, 3), 4), ((8,), 4)])
def test_inputs_that_are_no_windows(make, given):
    with pytest.raises(ValueError, match=r"forecaster needs inputs of shape \(length, channels\)"):
        make(*given)
