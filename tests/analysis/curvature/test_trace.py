from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, t
from torch import nn, ones

from basinet.analysis.curvature.hessian import HessianOperator
from basinet.analysis.curvature.trace import Estimate, hutch_plus_plus, hutchinson, xtrace

SEEDS = 300


def matrix(size: int = 150) -> np.ndarray:
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((size, size)))
    values = np.concatenate([rng.standard_normal(size - 5) * 0.1 + 0.05, [30, 20, 10, 8, 5]])
    return (q * values) @ q.T


def misses(estimates: list[Estimate], exact: float) -> int:
    return sum(abs(e.value - exact) > 3 * e.error for e in estimates)


def most_misses(num_probes: int) -> int:
    """How many of SEEDS estimates may lie outside 3 standard errors: exceeded once in 10⁵ by Student's t.

    The samples are skew and not quite normal, which their mean and spread over tens of probes forget.
    """
    return int(binom.isf(1e-5, SEEDS, 2 * t.sf(3, num_probes - 1)))


def test_hutchinson_is_within_its_error() -> None:
    h = matrix()
    found = [hutchinson(h, num_products=40, seed=seed) for seed in range(SEEDS)]
    assert misses(found, np.trace(h)) <= most_misses(40)
    # The spread over seeds is the one that theory gives, and the one that is stated.
    exact = np.sqrt(2 * (np.linalg.norm(h) ** 2 - np.sum(np.diag(h) ** 2)) / 40)
    assert np.std([e.value for e in found]) == pytest.approx(exact, rel=0.15)  # 3.7 / √(2 · 300)
    assert np.sqrt(np.mean([e.error**2 for e in found])) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("estimator", [hutch_plus_plus, xtrace])
def test_sketches_are_unbiased_within_their_error_and_better_than_plain_probes(estimator: Callable) -> None:
    h = matrix()
    found = [estimator(h, num_products=60, seed=seed) for seed in range(SEEDS)]
    assert misses(found, np.trace(h)) <= most_misses(20)
    values = np.array([e.value for e in found])
    assert abs(values.mean() - np.trace(h)) <= 4 * values.std() / np.sqrt(SEEDS)
    assert values.std() < hutchinson(h, num_products=60).error / 5
    assert all(e.num_products <= 60 for e in found)


def test_xtrace_by_its_definition() -> None:
    h = matrix(30)
    probes = np.random.default_rng(3).standard_normal((30, 6))
    estimates = []
    for i in range(6):
        others = np.delete(probes, i, 1)
        q, _ = np.linalg.qr(h @ others)
        left = probes[:, i] - q @ (q.T @ probes[:, i])
        estimates.append(np.trace(q.T @ h @ q) + left @ h @ left)
    found = xtrace(h, num_products=12, seed=3)
    assert found.value == pytest.approx(np.mean(estimates), rel=1e-10)
    assert found.error == pytest.approx(np.std(estimates, ddof=1) / np.sqrt(6), rel=1e-9)


@pytest.mark.parametrize("estimator", [hutch_plus_plus, xtrace])
def test_low_rank_is_exact(estimator: Callable) -> None:
    q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 3)))
    found = estimator((q * [4.0, -2.0, 1.0]) @ q.T, num_products=30)
    assert found.value == pytest.approx(3.0, abs=1e-12)
    assert found.error == pytest.approx(0.0, abs=1e-12)


def test_products_are_counted() -> None:
    model = nn.Linear(3, 1).double()
    operator = HessianOperator(model, lambda model, batch: (model(batch[0]) ** 4).mean(), (ones(2, 3).double(),))
    assert hutchinson(operator, num_products=70).num_products == operator.num_products == 70
    for estimator in (hutch_plus_plus, xtrace):
        before = operator.num_products
        assert estimator(operator, num_products=12).num_products == operator.num_products - before


def test_signs_see_a_diagonal_exactly() -> None:
    assert hutchinson(np.diag(np.arange(5.0)), num_products=2) == Estimate(10.0, 0.0, 2)


def test_the_seed_decides() -> None:
    h = matrix()
    for estimate in (
        lambda seed: hutchinson(h, num_products=5, seed=seed),
        lambda seed: hutch_plus_plus(h, seed=seed),
        lambda seed: xtrace(h, seed=seed),
    ):
        assert estimate(1) == estimate(1)
        assert estimate(1) != estimate(2)


def test_too_few_products_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        hutchinson(np.eye(2), num_products=1)
    with pytest.raises(ValueError, match="at least 6"):
        hutch_plus_plus(np.eye(9), num_products=5)
    with pytest.raises(ValueError, match="at least 4"):
        xtrace(np.eye(9), num_products=3)
