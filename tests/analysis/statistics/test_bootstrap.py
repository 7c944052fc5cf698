import numpy as np
import pytest

from basinet.analysis.statistics.bootstrap import bootstrap_interval, bootstrap_p, resamples


def test_intervals_cover_and_tests_err_as_often_as_they_say():
    """Of 400 samples of 30 values: five standard errors of a fraction of 5 % are 5.4 %."""
    values = np.random.default_rng(1).exponential(size=(400, 30)) - 1
    picked = resamples(30, seed=0, number=600)
    draws = [sample[picked].mean(1) for sample in values]
    covered = np.mean([low < 0 < high for low, high in (bootstrap_interval(found, 30) for found in draws)])
    wrong = np.mean([bootstrap_p(found, 30) < 0.05 for found in draws])
    assert 0.87 < covered < 0.99 and 0.01 < wrong < 0.13  # percentile intervals of skewed means are a little short


def test_p_values_and_intervals_agree():
    values = np.random.default_rng(2).normal(0.35, 1, (60, 40))
    picked = resamples(40, seed=0, number=2001)
    for sample in values:
        draws = sample[picked].mean(1)
        low, high = bootstrap_interval(draws, 40)
        p = bootstrap_p(draws, 40)
        if abs(p - 0.05) > 0.005:
            assert (p < 0.05) == (not low <= 0 <= high)


def test_resamples_without_the_estimate_are_left_out():
    assert bootstrap_interval(np.array([np.nan, 1.0, 1.0]), 9) == (1, 1)
    assert bootstrap_p(np.array([np.nan, 1.0, -1.0]), 9) == 1
    assert np.isnan(bootstrap_interval(np.array([np.nan]), 9)).all() and np.isnan(bootstrap_p(np.array([np.nan]), 9))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_items_show_nothing(count):
    assert bootstrap_p(np.ones(4000), count) == 2.0 ** (1 - count) > 0.05
    assert np.isnan(bootstrap_interval(np.ones(4000), count)).all() == (count == 1)


def test_infinite_estimates_are_possible():
    assert bootstrap_interval(np.array([np.inf, np.inf, 1.0]), 9) == (1, np.inf)


def test_resamples_depend_on_the_seed_alone():
    assert (resamples(7, seed=3, number=5) == resamples(7, seed=3, number=5)).all()
    assert (resamples(7, seed=3, number=5) != resamples(7, seed=4, number=5)).any()
