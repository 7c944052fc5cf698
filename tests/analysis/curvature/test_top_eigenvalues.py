import numpy as np
import pytest
import torch
from scipy.sparse import diags_array
from scipy.sparse.linalg import LinearOperator
from torch import nn
from torch.nn.functional import cross_entropy

from basinet.analysis.curvature.hessian import HessianOperator, hessian_matrix
from basinet.analysis.curvature.top_eigenvalues import top_eigenvalues


def symmetric(values: np.ndarray, seed: int = 0) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))
    matrix = (q * values) @ q.T
    return (matrix + matrix.T) / 2


def outliers(size: int = 300) -> np.ndarray:
    bulk = np.random.default_rng(1).standard_normal(size - 10) * 0.01
    return symmetric(np.concatenate([bulk, np.arange(1.0, 11.0) ** 2]))


def test_every_outlier_is_found_once_after_many_steps() -> None:
    matrix = outliers()
    found = top_eigenvalues(matrix, num_eigenvalues=12, min_steps=150, max_steps=150, tol=1e-8)
    expected = np.linalg.eigvalsh(matrix)[::-1]
    assert found.num_products == 150
    np.testing.assert_allclose(found.values[:10], expected[:10], rtol=1e-12)
    assert found.values[10] == pytest.approx(expected[10], rel=1e-8)
    ritz = np.linalg.eigvalsh(found.projection)
    assert (ritz > 0.5).sum() == 10
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(150), rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.basis.T @ matrix @ found.basis, found.projection, rtol=0, atol=1e-11)


@pytest.mark.parametrize("num_eigenvalues", [1, 5, 10])
def test_the_search_stops_by_itself_at_the_accuracy_asked_for(num_eigenvalues: int) -> None:
    matrix = outliers()
    found = top_eigenvalues(matrix, num_eigenvalues=num_eigenvalues, tol=1e-8)
    expected = np.linalg.eigvalsh(matrix)[::-1][:num_eigenvalues]
    assert found.converged
    assert found.num_products < 60
    assert found.basis.shape == (300, found.num_products)
    np.testing.assert_allclose(found.values, expected, rtol=1e-8)


def test_hessian_eigenvalues() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)).double()
    data = torch.randn(40, 6, dtype=torch.float64), torch.randint(3, (40,))
    loss = lambda model, batch: cross_entropy(model(batch[0]), batch[1])  # noqa: E731
    expected, vectors = np.linalg.eigh(hessian_matrix(model, loss, data))
    operator = HessianOperator(model, loss, data)
    found = top_eigenvalues(operator, num_eigenvalues=3, tol=1e-8)
    np.testing.assert_allclose(found.values, expected[:-4:-1], rtol=1e-8)
    np.testing.assert_allclose(np.abs(np.sum(found.vectors * vectors[:, :-4:-1], 0)), 1, rtol=1e-8)
    assert found.num_products == operator.num_products


def test_the_residual_bounds_the_error() -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        matrix = symmetric(rng.standard_normal(40) * 10 ** rng.uniform(-3, 1, 40), seed)
        exact = np.linalg.eigvalsh(matrix)
        found = top_eigenvalues(matrix, num_eigenvalues=3, max_steps=12, tol=1e-12, seed=seed)
        true = np.linalg.norm(matrix @ found.vectors - found.vectors * found.values, axis=0)
        scale = np.abs(exact).max()
        np.testing.assert_allclose(found.residuals, true, rtol=1e-6, atol=1e-13 * scale)
        distance = np.abs(exact[:, None] - found.values).min(0)
        assert (distance <= found.residuals + 1e-13 * scale).all()
        assert (found.values <= exact[:-4:-1] + 1e-13 * scale).all()


def test_a_search_that_has_not_converged_says_so() -> None:
    found = top_eigenvalues(np.diag(np.arange(200.0)), num_eigenvalues=2, max_steps=5)
    assert not found.converged
    assert (found.residuals > 1e-6 * found.values).any()
    assert found.num_products == 5


@pytest.mark.parametrize(
    ("values", "num_eigenvalues"),
    [
        ([3, 3, 2, 1], 2),
        ([3, 3, 2, 1], 3),
        ([3, 3, 3, 3], 4),
        ([-1, -1, -2, -5], 3),
        ([0, 0, 0, -1, 5, -7], 4),
        ([0, 0, 0, 0], 1),
        ([0, 0, 0, 0], 3),
        ([1] * 30 + [-2] * 30, 20),
        ([7, 7] + [0] * 50, 3),
        ([-5, -4, -3, -2, -1], 1),
        ([1e-9, -1e3], 1),
        ([4], 1),
        ([-4], 1),
        ([0], 1),
    ],
)
def test_degenerate_and_indefinite_spectra(values: list[float], num_eigenvalues: int) -> None:
    matrix = symmetric(np.array(values, dtype=np.float64))
    found = top_eigenvalues(matrix, num_eigenvalues=num_eigenvalues)
    expected = np.sort(values)[::-1][:num_eigenvalues]
    assert found.converged
    np.testing.assert_allclose(found.values, expected, rtol=1e-9, atol=1e-12 * np.abs(values).max())
    gram = found.basis.T @ found.basis
    np.testing.assert_allclose(gram, np.eye(len(gram)), rtol=0, atol=1e-12)


def test_the_largest_eigenvalue_of_a_low_rank_matrix_needs_no_restart() -> None:
    matrix = symmetric(np.array([5.0, 2.0] + [0.0] * 60))
    assert top_eigenvalues(matrix).num_products <= 3


def test_steps_go_on_after_breakdown_when_they_are_asked_for() -> None:
    matrix = symmetric(np.array([5.0, 2.0] + [0.0] * 10))
    found = top_eigenvalues(matrix, min_steps=12)
    assert found.num_products == 12
    assert found.converged
    np.testing.assert_allclose(found.basis @ found.projection @ found.basis.T, matrix, rtol=0, atol=1e-13)


def test_the_seed_decides() -> None:
    matrix = outliers()
    first, again, other = (top_eigenvalues(matrix, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.basis, again.basis)
    assert not np.array_equal(first.basis[:, 0], other.basis[:, 0])
    assert first.values[0] == pytest.approx(other.values[0], rel=1e-9)


def test_any_form_of_operator() -> None:
    values = np.linspace(-1, 4, 50)
    sparse = diags_array(values)
    free = LinearOperator((50, 50), matvec=lambda v: values * v, dtype=np.float64)
    for operator in (np.diag(values), sparse, free):
        assert top_eigenvalues(operator).values[0] == pytest.approx(4, rel=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="square"):
        top_eigenvalues(np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"from 1 to 3 .* got 4"):
        top_eigenvalues(np.eye(3), num_eigenvalues=4)
    with pytest.raises(ValueError, match="got 0"):
        top_eigenvalues(np.eye(3), num_eigenvalues=0)
    with pytest.raises(ValueError, match=r"min_steps \(9\)"):
        top_eigenvalues(np.eye(3), min_steps=9, max_steps=4)
    with pytest.raises(ValueError, match="non-finite"):
        top_eigenvalues(np.full((3, 3), np.nan))
