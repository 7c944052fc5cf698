import numpy as np
import pytest
from scipy.stats import binom, t
from torch import nn, ones

from basinet.analysis.hessian import HessianOperator
from basinet.analysis.lanczos import lanczos
from basinet.analysis.trace import Estimate, deflated_trace, hutchinson

SEEDS = 200


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
    found = [hutchinson(h, num_probes=40, seed=seed) for seed in range(SEEDS)]
    assert misses(found, np.trace(h)) <= most_misses(40)
    # The spread over seeds is the one that theory gives, and the one that is stated.
    exact = np.sqrt(2 * (np.linalg.norm(h) ** 2 - np.sum(np.diag(h) ** 2)) / 40)
    assert np.std([e.value for e in found]) == pytest.approx(exact, rel=0.15)  # 3 / √(2 · 200)
    assert np.sqrt(np.mean([e.error**2 for e in found])) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("min_steps", [1, 20])
def test_deflated_trace_is_within_its_error(min_steps: int) -> None:
    h = matrix()
    ritz = lanczos(h, min_steps=min_steps)
    found = [deflated_trace(h, ritz, num_probes=40, rtol=1, seed=seed) for seed in range(SEEDS)]
    assert misses(found, np.trace(h)) <= most_misses(40)
    mean = np.mean([e.value for e in found])
    assert abs(mean - np.trace(h)) <= 4 * np.std([e.value for e in found]) / np.sqrt(SEEDS)
    plain = hutchinson(h, num_probes=40)
    assert np.mean([e.error for e in found]) < plain.error / 10


def test_the_first_term_costs_no_product_and_a_full_basis_is_exact() -> None:
    model = nn.Linear(3, 1, bias=False).double()
    x = ones(2, 3).double().cumsum(1)
    operator = HessianOperator(model, lambda model, batch: (model(batch[0]) ** 2).mean(), (x,))
    ritz = lanczos(operator, min_steps=3)
    before = operator.num_products
    found = deflated_trace(operator, ritz)
    assert (found.error, found.num_products, operator.num_products) == (0.0, 0, before)
    assert found.value == pytest.approx(2 * (1 + 4 + 9), rel=1e-12)


def test_probes_go_on_until_the_error_is_small_enough() -> None:
    h = matrix()
    ritz = lanczos(h, max_steps=2)
    few = deflated_trace(h, ritz, num_probes=4, rtol=10)
    many = deflated_trace(h, ritz, num_probes=4, rtol=0.05, max_probes=2000)
    capped = deflated_trace(h, ritz, num_probes=4, rtol=0, max_probes=30)
    assert few.num_products == 4
    assert 4 < many.num_products < 2000
    assert many.error <= 0.05 * many.value
    assert capped.num_products == 32


def test_products_are_counted() -> None:
    model = nn.Linear(3, 1).double()
    operator = HessianOperator(model, lambda model, batch: (model(batch[0]) ** 4).mean(), (ones(2, 3).double(),))
    assert hutchinson(operator, num_probes=70).num_products == operator.num_products == 70


def test_signs_see_a_diagonal_exactly() -> None:
    assert hutchinson(np.diag(np.arange(5.0)), num_probes=2) == Estimate(10.0, 0.0, 2)


def test_the_seed_decides() -> None:
    h = matrix()
    assert hutchinson(h, num_probes=5, seed=1) == hutchinson(h, num_probes=5, seed=1)
    assert hutchinson(h, num_probes=5, seed=1) != hutchinson(h, num_probes=5, seed=2)


def test_one_probe_has_no_error() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        hutchinson(np.eye(2), num_probes=1)
    with pytest.raises(ValueError, match="at least 2"):
        deflated_trace(np.eye(2), lanczos(np.eye(2)), num_probes=1)
