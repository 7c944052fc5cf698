"""Spectra from one Krylov run: against spectra that are known, and within the errors that are stated."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import binom, t
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from basinet.algorithms import draws
from basinet.analysis.curvature.krylov import krylov
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.spectral import spectra

SIZE = 120
SEEDS = 60


def keys(count: int, seed: int = 0) -> Tensor:
    return draws.fold(torch.tensor(draws.key(seed, "test")), torch.arange(count))


def symmetric(values: np.ndarray, seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))
    return (q * values) @ q.T


def three() -> np.ndarray:
    """Three matrices, [3, P, P]: outliers above, outliers on both sides, and one of rank 5."""
    rng = np.random.default_rng(0)
    bulk = 0.1 * rng.standard_normal(SIZE - 5) + 0.05
    spectra = [[30, 20, 10, 8, 5, *bulk], [9, 4, -7, -3, 2, *bulk], [6, 5, 4, 2, 1, *np.zeros(SIZE - 5)]]
    return np.stack([symmetric(np.array(values, dtype=float), seed) for seed, values in enumerate(spectra)])


def product(matrices: np.ndarray) -> Callable[[Tensor], Tensor]:
    stacked = torch.from_numpy(matrices)
    return lambda vectors: torch.einsum("nij,nj->ni", stacked, vectors)


def test_operators_side_by_side_are_what_they_are_alone() -> None:
    matrices = three()
    together = krylov(product(matrices), keys(3), SIZE, min_steps=25, max_steps=25)
    for row in range(3):
        alone = krylov(product(matrices[row : row + 1]), keys(3)[row : row + 1], SIZE, min_steps=25, max_steps=25)
        np.testing.assert_allclose(together.alpha[row, :6], alone.alpha[0, :6], rtol=0, atol=1e-12)
        np.testing.assert_allclose(together.ritz(row)[0][-1], alone.ritz(0)[0][-1], rtol=1e-12)
        q = together.basis[row].numpy()
        np.testing.assert_allclose(q @ q.T, np.eye(25), rtol=0, atol=1e-12)
        t_ = np.diag(together.alpha[row]) + np.diag(together.beta[row, :-1], 1) + np.diag(together.beta[row, :-1], -1)
        left = matrices[row] @ q.T - q.T @ t_
        left[:, -1] -= together.beta[row, -1] * together.following[row].numpy()
        np.testing.assert_allclose(left, 0, rtol=0, atol=1e-11)


def test_both_ends_with_residuals() -> None:
    matrices = three()
    space, found = spectra(product(matrices), keys(3), SIZE, top=3, bottom=2, tol=1e-6)
    for row, spectrum in enumerate(found):
        exact = np.linalg.eigvalsh(matrices[row])
        assert spectrum.converged
        scale = np.abs(exact).max()
        np.testing.assert_allclose(spectrum.top, exact[::-1][:3], rtol=0, atol=1e-6 * scale)
        np.testing.assert_allclose(spectrum.bottom, exact[:2], rtol=0, atol=1e-6 * scale)
        values, weights, residuals = space.ritz(row)
        vector = space.vectors(row, weights[:, -1:])[0].numpy()
        assert np.linalg.norm(matrices[row] @ vector - values[-1] * vector) <= residuals[-1] + 1e-12 * scale


def test_what_has_not_converged_says_so() -> None:
    matrices = np.stack([np.diag(np.arange(200.0)), np.diag(np.r_[1e3, np.zeros(199)])])
    _, (hard, easy) = spectra(product(matrices), keys(2), 200, top=1, bottom=1, max_steps=8)
    assert not hard.converged and easy.converged
    assert hard.top_residuals[0] > 1e-3 * hard.top[0]
    assert 199 - hard.top[0] <= hard.top_residuals[0]  # the bound holds all the same
    assert hard.condition_number is None


def test_trace_norm_rank_and_readings_are_within_their_errors() -> None:
    matrices = three()
    cut = torch.ones(2, SIZE, dtype=torch.float64)
    cut[0, 50:] = 0

    def readings(diagonals: Tensor) -> Tensor:
        return diagonals @ cut.T

    runs = [
        spectra(product(matrices), keys(3, seed), SIZE, steps=12, rtol=1, num_probes=20, readings=readings)[1]
        for seed in range(SEEDS)
    ]
    allowed = int(binom.isf(1e-6, SEEDS, 2 * t.sf(3, 19)))  # skew samples: a little wider than exact
    for row in range(2):
        h = matrices[row]
        exact = {
            "trace": np.trace(h),
            "norm": np.linalg.norm(h) ** 2,
            "rank": np.trace(h) ** 2 / np.linalg.norm(h) ** 2,
            "first": np.trace(h[:50, :50]),
        }
        for name, value in exact.items():
            found = []
            for run in runs:
                s = run[row]
                found.append(
                    {
                        "trace": (s.trace.value, s.trace.error),
                        "norm": (s.squared_norm.value, s.squared_norm.error),
                        "rank": (s.effective_rank, s.rank_error),
                        "first": (s.readings[0], s.reading_errors[0]),
                    }[name]
                )
            values, errors = np.array(found).T
            assert (np.abs(values - value) > 3 * errors + 1e-12).sum() <= allowed, name
            assert abs(values.mean() - value) <= 4 * values.std() / np.sqrt(SEEDS) + 0.05 * errors.mean(), name
    for run in runs[:5]:
        for spectrum in run:
            assert spectrum.readings[1] == pytest.approx(spectrum.trace.value, abs=1e-9)


def test_a_matrix_of_low_rank_is_exact() -> None:
    _, found = spectra(product(three()), keys(3), SIZE)
    assert found[2].trace.value == pytest.approx(18, rel=1e-10)
    assert found[2].trace.error < 1e-9
    assert found[2].frobenius_norm == pytest.approx(np.sqrt(36 + 25 + 16 + 4 + 1), rel=1e-10)


def test_a_basis_of_the_whole_space_is_exact() -> None:
    values = np.array([5.0, 3.0, 2.0, 0.5])
    h = symmetric(values, 0)[None]
    _, (found,) = spectra(product(h), keys(1), 4, top=2, bottom=1, readings=lambda d: d)
    assert found.trace.error == found.frobenius_norm_error == found.rank_error == 0.0
    np.testing.assert_allclose(found.readings, np.diag(h[0]), rtol=0, atol=1e-13)
    assert found.condition_number == pytest.approx(10, rel=1e-10)
    assert found.effective_rank == pytest.approx(10.5**2 / (values**2).sum(), rel=1e-10)
    np.testing.assert_allclose(found.density.nodes, values[::-1], rtol=1e-10)
    np.testing.assert_allclose(found.density.weights, 0.25, rtol=1e-10)
    assert found.num_products == 4


def test_density_has_the_outliers_and_the_moments_of_the_spectrum() -> None:
    matrices = three()
    _, found = spectra(product(matrices), keys(3), SIZE, top=5, bottom=2, steps=40)
    for row in range(2):
        exact, density = np.linalg.eigvalsh(matrices[row]), found[row].density
        assert density.weights.sum() == pytest.approx(1)
        assert (density.weights >= 0).all()
        outliers = np.abs(exact) > 1
        near = np.abs(density.nodes) > 1
        np.testing.assert_allclose(density.nodes[near], exact[outliers], rtol=1e-6)
        np.testing.assert_allclose(density.weights[near], 1 / SIZE, rtol=1e-12)
        # Wasserstein distance of the distributions, within a part of the bulk's width.
        grid = np.linspace(-0.6, 0.6, 2001)
        cdf = (density.weights * (density.nodes <= grid[:, None])).sum(1)
        true = (exact <= grid[:, None]).mean(1)
        assert np.abs(cdf - true).sum() * (grid[1] - grid[0]) < 0.03
    zeros = found[2].density  # a multiple eigenvalue is no single one
    assert zeros.weights[np.abs(zeros.nodes) < 1e-9].sum() == pytest.approx(115 / 120, rel=1e-6)


def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


def network() -> tuple[Objective, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 4)).double()
        data = torch.randn(80, 12, dtype=torch.float64), torch.randint(4, (80,))
        objective = Objective(model, loss, data)
        points = objective.point + 0.2 * torch.randn(3, objective.num_parameters, dtype=torch.float64)
    for _ in range(150):
        points -= 0.5 * Curvature(objective, points).gradients()
    return objective, points


def test_a_snapshot_of_a_network_costs_forty_products_an_agent() -> None:
    objective, points = network()
    curvature = Curvature(objective, points)
    _, found = spectra(curvature.products, keys(3), objective.num_parameters, max_probes=10)
    assert curvature.num_products == found[0].num_products == 40
    for row, spectrum in enumerate(found):
        one = Curvature(objective, points[row : row + 1])
        size = objective.num_parameters
        h = one.products(torch.eye(size, dtype=torch.float64)[:, None])[:, 0].numpy()
        exact = np.linalg.eigvalsh(h)
        assert spectrum.converged
        assert spectrum.top[0] == pytest.approx(exact[-1], rel=1e-5)
        assert abs(spectrum.trace.value - exact.sum()) < 5 * spectrum.trace.error
        assert spectrum.trace.error < 0.04 * exact.sum()
        assert abs(spectrum.frobenius_norm - np.linalg.norm(h)) < 5 * spectrum.frobenius_norm_error


def test_keys_decide() -> None:
    matrices = three()
    first, again, other = (spectra(product(matrices), keys(3, s), SIZE, steps=5)[1][0] for s in (1, 1, 2))
    assert first.trace == again.trace != other.trace
    alone = spectra(product(matrices[1:2]), keys(3, 1)[1:2], SIZE, steps=5)[1][0]
    beside = spectra(product(matrices), keys(3, 1), SIZE, steps=5, max_steps=5, max_probes=10)[1][1]
    assert alone.top[0] == pytest.approx(beside.top[0], rel=1e-3)


def test_a_matrix_does_not_depend_on_those_beside_it() -> None:
    values = np.stack([np.r_[50.0, np.linspace(0, 0.1, 59)], np.linspace(1, 20, 60), np.full(60, 3.0)])
    matrices = np.stack([symmetric(v, seed) for seed, v in enumerate(values)])
    settings = {
        "tol": 1e-3,
        "steps": 4,
        "rtol": 0.02,
        "num_probes": 5,
        "max_probes": 40,
        "readings": lambda d: d[:, :3],
    }
    space, together = spectra(product(matrices), keys(3), 60, **settings)
    assert len({spectrum.num_products for spectrum in together}) == 3
    for row in range(3):
        only = slice(row, row + 1)
        one, (alone,) = spectra(product(matrices[only]), keys(3)[only], 60, **settings)
        beside = together[row]
        assert (space.sizes[row], beside.num_products) == (one.sizes[0], alone.num_products)
        for name in ("top", "top_residuals", "readings", "reading_errors", "frobenius_norm", "effective_rank"):
            np.testing.assert_allclose(getattr(beside, name), getattr(alone, name), rtol=1e-6, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(beside.density.weights, alone.density.weights, rtol=1e-6, atol=1e-9)
        assert (beside.trace.value, beside.trace.error) == pytest.approx((alone.trace.value, alone.trace.error), 1e-6)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 to have a spread"):
        spectra(product(three()), keys(3), SIZE, num_probes=1)
    with pytest.raises(ValueError, match="non-finite"):
        krylov(lambda v: v * torch.nan, keys(2), 5)
