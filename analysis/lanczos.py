"""The largest eigenvalues of a symmetric operator, and the Krylov basis that they were found in."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import aslinearoperator

__all__ = ["Ritz", "lanczos"]

Array = NDArray[np.float64]

_ROUNDING = 1e-13
"""What is smaller than this part of the operator's norm counts as zero."""


@dataclass(frozen=True, eq=False)
class Ritz:
    """Approximate eigenpairs of a symmetric operator H from a Krylov basis.

    Attributes:
        values: The largest Ritz values θᵢ in descending order, [k].
        vectors: Their Ritz vectors yᵢ of norm one, in columns [P, k].
        residuals: Norms ‖H yᵢ − θᵢ yᵢ‖, [k]: within this distance of θᵢ there is an eigenvalue of H, up to
            the rounding errors of the products.
        basis: Orthonormal basis Q, in columns [P, m].
        projection: The tridiagonal matrix Qᵀ H Q, [m, m].
        converged: Whether all residuals are as small as was asked for.
        num_products: How many products with H this took.
    """

    values: Array
    vectors: Array
    residuals: Array
    basis: Array
    projection: Array
    converged: bool
    num_products: int


def lanczos(
    operator: Any,
    *,
    num_eigenvalues: int = 1,
    tol: float = 1e-6,
    min_steps: int = 1,
    max_steps: int = 300,
    seed: int = 0,
) -> Ritz:
    r"""Find the algebraically largest eigenvalues of a symmetric operator H by the Lanczos iteration.

    From a random unit vector q₁ and with β₀ = 0,

    $$
    β_j q_{j+1} = H q_j - α_j q_j - β_{j-1} q_{j-1}, \quad α_j = q_jᵀ H q_j, \qquad
    T = Qᵀ H Q = \mathrm{tridiag}(β, α, β), \quad T s = θ s, \quad ‖H Q s - θ Q s‖ = β_m |s_m| ,
    $$

    where every new vector is orthogonalised against all earlier ones, twice, so that no eigenvalue shows up
    a second time as a ghost. The iteration ends when the residual of each wanted eigenvalue is at most
    `tol` times its modulus (or at the level of rounding), which bounds its relative error by `tol`; the
    error is mostly near the square of that. Where an invariant subspace is exhausted, the search goes on
    from a random direction orthogonal to it if it can hold a further copy of a wanted eigenvalue.

    A multiple eigenvalue is found once by a single starting vector. Its copies come with the restarts, so
    they are only complete if the operator has few distinct eigenvalues.

    Args:
        operator: A symmetric matrix or `scipy.sparse.linalg.LinearOperator`, [P, P].
        num_eigenvalues: How many eigenvalues k to find, at most P.
        tol: Residual that is small enough, as a part of the eigenvalue.
        min_steps: Least number of steps, for a larger basis than the eigenvalues need.
        max_steps: Largest number of steps; each costs one product and 8 P bytes.
        seed: Seed of the starting vector.

    Returns:
        The eigenpairs, with the basis.

    Raises:
        ValueError: If the operator is not square or returns numbers that are not finite, or if the numbers of
            eigenvalues and steps do not fit together.

    Example:
        >>> found = lanczos(np.diag([3.0, 2.0, -5.0]), num_eigenvalues=2)
        >>> found.values.round(9), found.converged
        (array([3., 2.]), True)

    References:
        Lanczos: An iteration method for the solution of the eigenvalue problem of linear differential and
        integral operators, J. Res. Natl. Bur. Stand. 45, 1950, doi:10.6028/jres.045.026.
        Parlett: The symmetric eigenvalue problem, SIAM, 1998, doi:10.1137/1.9781611971163.
    """
    operator = aslinearoperator(operator)
    size = operator.shape[1]
    limit = min(max_steps, size)
    if operator.shape != (size, size):
        raise ValueError(f"The operator must be square, got shape {operator.shape}.")
    if not 1 <= num_eigenvalues <= limit:
        raise ValueError(f"num_eigenvalues must be from 1 to {limit} (size, max_steps), got {num_eigenvalues}.")
    if min_steps > max_steps:
        raise ValueError(f"min_steps ({min_steps}) must not exceed max_steps ({max_steps}).")

    rng = np.random.default_rng(seed)
    rows = np.empty((limit, size))  # memory is only taken as rows are written
    alpha, beta = np.empty(limit), np.zeros(limit)
    norm = 0.0  # largest row sum of T so far
    first = 0  # where the search last (re)started
    new = _random_direction(rng, rows[:0])
    for step in range(limit):
        m = step + 1
        rows[step] = new
        image = operator.matvec(new)
        if not np.isfinite(image).all():
            raise ValueError(f"The operator returned numbers that are not finite, in step {m} of Lanczos.")
        alpha[step] = new @ image
        new = _orthogonalized(image, rows[:m])
        beta[step] = np.linalg.norm(new)
        norm = max(norm, beta[step - 1] * (step > first) + abs(alpha[step]) + beta[step])
        exhausted = beta[step] <= _ROUNDING * norm
        if exhausted:
            beta[step] = 0.0

        values, weights, residuals = _largest(alpha[:m], beta[:m], num_eigenvalues)
        converged = m >= num_eigenvalues and _small(residuals, values, tol, norm)
        if converged and first > 0:  # the largest of the new search must be known to compare it with the others
            top, _, residual = _largest(alpha[first:m], beta[first:m], 1)
            converged = _small(residual, top, tol, norm)
        else:
            top = values[:1]
        if exhausted and m < size and num_eigenvalues > 1:
            # A copy of an eigenvalue above the last wanted one may be left.
            converged = converged and top[0] <= values[-1]
        if converged and m >= min_steps:
            break
        if exhausted and m < limit:
            first = m
            new = _random_direction(rng, rows[:m])
        elif not exhausted:
            new /= beta[step]

    off = beta[: m - 1]
    return Ritz(
        values=values,
        vectors=rows[:m].T @ weights,
        residuals=residuals,
        basis=rows[:m].T,
        projection=np.diag(alpha[:m]) + np.diag(off, 1) + np.diag(off, -1),
        converged=bool(converged),
        num_products=m,
    )


def _largest(alpha: Array, beta: Array, count: int) -> tuple[Array, Array, Array]:
    """Return the largest eigenvalues of T in descending order, their vectors, and their residuals."""
    m = len(alpha)
    values, weights = eigh_tridiagonal(alpha, beta[: m - 1], select="i", select_range=(max(0, m - count), m - 1))
    return values[::-1], weights[:, ::-1], beta[m - 1] * np.abs(weights[-1, ::-1])


def _small(residuals: Array, values: Array, tol: float, norm: float) -> bool:
    return bool((residuals <= np.maximum(tol * np.abs(values), _ROUNDING * norm)).all())


def _orthogonalized(vector: Array, rows: Array) -> Array:
    """Remove the components along orthonormal rows; the second pass takes what rounding left of them."""
    for _ in range(2):
        vector = vector - rows.T @ (rows @ vector)
    return vector


def _random_direction(rng: np.random.Generator, rows: Array) -> Array:
    """Draw a unit vector orthogonal to orthonormal rows."""
    vector = _orthogonalized(np.asarray(rng.standard_normal(rows.shape[1])), rows)
    return vector / float(np.linalg.norm(vector))
