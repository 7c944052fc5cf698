"""Times of which some are censored."""

import math
from fractions import Fraction

import numpy as np
import pytest

from basinet.analysis.statistics.survival import kaplan_meier, mean_time, speed_up


def test_a_known_curve():
    """Remission of leukaemia under 6-MP (Freireich et al., Blood 21, 1963), as every textbook prints it."""
    times = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    happened = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    curve = kaplan_meier(times, happened)
    assert curve.times.tolist() == [6, 7, 10, 13, 16, 22, 23]
    assert curve.at_risk.tolist() == [21, 17, 15, 12, 11, 7, 6]
    assert curve.survival.round(3).tolist() == [0.857, 0.807, 0.753, 0.69, 0.627, 0.538, 0.448]
    # Greenwood's standard errors there are printed as well; on the scale log(−log S) they make these intervals.
    greenwood = np.array([0.0764, 0.0869, 0.0963, 0.1068, 0.1141, 0.1282, 0.1346])
    spread = 1.959964 * greenwood / (curve.survival * np.abs(np.log(curve.survival)))
    assert curve.lower == pytest.approx(curve.survival ** np.exp(spread), abs=1e-3)
    assert curve.upper == pytest.approx(curve.survival ** np.exp(-spread), abs=1e-3)
    assert curve.median == 23
    assert curve.median_interval == (13, math.inf)


def test_the_median_is_exact_for_every_size():
    """No more than half of n times are left after the ⌈n/2⌉-th, whether or not the later ones are cut off."""
    for n in (*range(2, 400), 1023, 2048):  # rounded products miss the half for a quarter of them
        times = np.arange(1, n + 1)
        assert kaplan_meier(times, times <= n // 2 + 1).median == (n + 1) // 2, n


@pytest.mark.parametrize("ties", [1, 3])
@pytest.mark.parametrize("share", [0.2, 0.6])
def test_the_curve_is_that_of_exact_fractions(share, ties):
    """With censoring and ties."""
    rng = np.random.default_rng(0)
    for n in [*range(2, 60), 256, 600, 1023, 2048]:
        times, happened = rng.integers(1, 2 + n // ties, n), rng.random(n) >= share
        exact, median = Fraction(1), math.inf
        curve = kaplan_meier(times, happened)
        for time, value in zip(curve.times, curve.survival, strict=True):
            exact *= 1 - Fraction(int((happened & (times == time)).sum()), int((times >= time).sum()))
            assert value == float(exact)
            if exact <= Fraction(1, 2):
                median = min(median, time)
        assert curve.median == median
    for n in range(2, 300, 2):  # one half of those who are left when the censored have gone
        times = np.concatenate([np.zeros(7), np.arange(1, n + 1)])
        assert kaplan_meier(times, times > 0).median == n // 2


def test_without_censoring_it_is_the_share_that_is_left():
    times = np.random.default_rng(0).exponential(size=200)
    curve = kaplan_meier(times, np.ones(200, dtype=bool))
    assert curve.survival == pytest.approx(1 - np.arange(1, 201) / 200)
    assert curve.median == np.sort(times)[99]
    assert np.isfinite(curve.lower).all() and np.isfinite(curve.upper).all()
    assert (curve.lower <= curve.survival).all() and (curve.survival <= curve.upper).all()


def test_nothing_happened():
    curve, mean = kaplan_meier([5.0, 5.0], [False, False]), mean_time([5.0, 5.0], [False, False])
    assert curve.median == math.inf and len(curve.times) == 0
    assert mean.value == math.inf and mean.upper == math.inf
    # At most −log(0.05/2) events were to be expected in ten units of time.
    assert mean.lower == pytest.approx(10 / -math.log(0.025))
    with pytest.raises(ValueError, match="no ratio"):
        speed_up(mean, mean)


@pytest.mark.parametrize("end", [0.5, 3.0, math.inf])
def test_intervals_cover(end):
    """600 samples of 30 exponential times, censored at `end`: 95 % intervals cover in 95 % ± 4 standard errors."""
    rng = np.random.default_rng(1)
    drawn = rng.exponential(size=(600, 30))
    happened, times = drawn <= end, np.minimum(drawn, end)
    slack = 4 * math.sqrt(0.95 * 0.05 / 600)
    at, inside, medians = 0.4, [], []
    for t, d in zip(times, happened, strict=True):
        curve = kaplan_meier(t, d)
        place = np.searchsorted(curve.times, at, side="right") - 1
        inside.append(place >= 0 and curve.lower[place] <= math.exp(-at) <= curve.upper[place])
        medians.append(curve.median_interval[0] <= math.log(2) <= curve.median_interval[1])
    # The normal approximation of 30 times is short by less than 1 %.
    assert np.mean(inside) > 0.95 - slack - 0.01
    assert end < math.log(2) or np.mean(medians) > 0.95 - slack - 0.01


@pytest.mark.parametrize(("end", "most"), [(0.3, 1.0), (3.0, 0.965), (math.inf, 0.95)])
def test_the_interval_of_the_mean_has_the_coverage_that_it_is_said_to_have(end, most):
    """Ten times: exactly 95 % if all are waited for, else at least that."""
    samples = 4000
    drawn = np.random.default_rng(2).exponential(size=(samples, 10))
    found = [mean_time(np.minimum(row, end), row <= end) for row in drawn]
    covered = np.mean([m.lower <= 1 <= m.upper for m in found])
    slack = 4 * math.sqrt(0.95 * 0.05 / samples)
    assert 0.95 - slack < covered < most + slack


def test_the_ratio_covers_for_few_times():
    rng, samples = np.random.default_rng(3), 1000
    slow, fast = 3 * rng.exponential(size=(samples, 3)), rng.exponential(size=(samples, 5))
    found = [speed_up(mean_time(s, [True] * 3), mean_time(f, [True] * 5)) for s, f in zip(slow, fast, strict=True)]
    covered = np.mean([s.lower <= 3 <= s.upper for s in found])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / samples)


def test_the_ratio_of_two_means():
    found = speed_up(mean_time([4.0] * 25, [True] * 25), mean_time([2.0] * 25, [True] * 25))
    # Of 25 times the logarithm is nearly normal, with the variance 2 / 25.
    error = math.sqrt(2 / 25)
    assert found.ratio == pytest.approx(2)
    assert (found.lower, found.upper) == pytest.approx(
        (2 * math.exp(-1.959964 * error), 2 * math.exp(1.959964 * error)), rel=0.02
    )
    assert found.z == pytest.approx(math.log(2) / error, rel=0.02)


def test_times_and_events_have_to_match():
    with pytest.raises(ValueError, match="same length"):
        kaplan_meier([1.0, 2.0], [True])
    with pytest.raises(ValueError, match="same length"):
        kaplan_meier([], [])
