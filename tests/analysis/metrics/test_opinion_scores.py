"""Correlations of mean opinion scores, against scipy."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import curve_fit
from torch import nn

from basinet.analysis.challenges.logistic_fit import krocc, logistic, plcc_fitted
from basinet.analysis.metrics import METRICS, default_metrics
from basinet.sim.tasks import ImageScoring

NAMES = ["srocc", "plcc", "krocc", "plcc_fitted"]


def curve(x, high, low, centre, width):
    return low + (high - low) / (1 + np.exp(-(x - centre) / width))


@pytest.fixture(scope="module")
def given():
    """Predictions, and scores that saturate at both ends; [n]."""
    random = np.random.default_rng(0)
    x = random.normal(0, 1, 60)
    return x, curve(x, 4.5, 1.5, 0.2, 0.3) + random.normal(0, 0.2, 60)


def made(x, y):
    test = tuple(torch.from_numpy(part)[:, None] for part in (x, y))
    return ImageScoring(train=test, test=test, model="linear")


@pytest.mark.parametrize("chunk", [7, 100])
def test_numbers_are_those_of_scipy(given, chunk):
    x, y = given
    task = made(np.round(x, 1), y)  # with ties
    assert [metric.name for metric in default_metrics(task)] == NAMES
    found = task.evaluate(nn.Identity(), chunk=chunk)
    assert [*found][-4:] == [f"test_{name}" for name in NAMES]
    x = np.round(x, 1)
    wanted = {"srocc": stats.spearmanr(x, y), "plcc": stats.pearsonr(x, y), "krocc": stats.kendalltau(x, y)}
    for name, value in wanted.items():
        assert found[f"test_{name}"] == pytest.approx(value.statistic, rel=1e-12)
    assert found["test_plcc_fitted"] == plcc_fitted(x, y) > found["test_plcc"]


def test_the_fit_is_that_of_least_squares_over_four_parameters(given):
    x, y = given
    best = curve_fit(curve, x, y, p0=[y.max(), y.min(), x.mean(), x.std() / 4], ftol=1e-14, xtol=1e-14)[0]
    wanted = curve(x, *best)
    np.testing.assert_allclose(logistic(x, y), wanted, atol=1e-4)  # at the minimum, its value is known better
    assert ((logistic(x, y) - y) ** 2).sum() == pytest.approx(((wanted - y) ** 2).sum(), rel=1e-9)
    assert plcc_fitted(x, y) == pytest.approx(stats.pearsonr(wanted, y).statistic, abs=1e-9)


def test_the_fit_finds_a_logistic_function_whatever_the_scale(given):
    x, _ = given
    y = curve(x, 5, 1, -0.4, 0.25)
    for factor, shift in ((1, 0), (1e-200, 0), (50, 1e4)):
        assert plcc_fitted(factor * x + shift, y) == pytest.approx(1, abs=1e-9)
    assert plcc_fitted(x, 3 * x - 1) == pytest.approx(1, abs=1e-6)  # a line is the limit


def test_the_wrong_order_is_not_turned_round(given):
    x, y = given
    assert plcc_fitted(-x, y) < 0.3 < 0.8 < plcc_fitted(x, y)
    assert plcc_fitted(-x, x) == 0  # whose correlation with all that rises is negative
    turned = curve_fit(curve, -x, y, p0=[y.min(), y.max(), 0, 1], maxfev=10_000)[0]
    assert stats.pearsonr(curve(-x, *turned), y).statistic > 0.9  # as a fit of any sign would


def test_constants_count_as_nothing_and_nan_as_nan(given):
    x, y = given
    assert krocc(0 * x, y) == plcc_fitted(0 * x, y) == plcc_fitted(x, 0 * y) == krocc(x, 0 * y) == 0
    assert all(made(x, y).evaluate(lambda p: 0 * p)[f"test_{name}"] == 0 for name in NAMES)
    assert all(math.isnan(made(x, y).evaluate(lambda p: p * math.nan)[f"test_{name}"]) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_headings_say_whether_there_is_a_fit(name):
    about = METRICS[name]().quantity("test").about
    assert ("fit" in about) == ("plcc" in name) and ("without a logistic fit" in about) == (name == "plcc")
