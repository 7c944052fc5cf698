"""The largest eigenvalues of a symmetric operator, with their Krylov basis."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from basinet.algorithms import draws
from basinet.analysis.curvature.hessian import tensor_products
from basinet.analysis.curvature.krylov import krylov

__all__ = ["Ritz", "top_eigenvalues"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ritz:
    """Approximate eigenpairs of a symmetric operator H from a Krylov basis.

    Attributes:
        values: The largest Ritz values θᵢ in descending order, [k].
        vectors: Their Ritz vectors yᵢ of norm one, as columns [P, k].
        residuals: Norms ‖H yᵢ − θᵢ yᵢ‖, [k]: an eigenvalue of H lies within this distance of θᵢ, up to rounding of the
            products.
        basis: Orthonormal basis Q, as columns [P, m].
        projection: The tridiagonal matrix Qᵀ H Q, [m, m].
        converged: Whether all residuals are within the tolerance.
        num_products: Number of products with H used.
    """

    values: Array
    vectors: Array
    residuals: Array
    basis: Array
    projection: Array
    converged: bool
    num_products: int


def top_eigenvalues(
    operator: Any,
    num_eigenvalues: int = 1,
    *,
    tol: float = 1e-6,
    min_steps: int = 1,
    max_steps: int = 300,
    seed: int = 0,
) -> Ritz:
    """Compute the algebraically largest eigenvalues of a symmetric operator H by Lanczos iteration.

    Uses `basinet.analysis.curvature.krylov.krylov`, with full orthogonalisation. It stops when the residual of each
    wanted eigenvalue is at most `tol` times its modulus (or at the level of rounding), which bounds the relative error
    by `tol`; the error is mostly near its square. When an invariant subspace is exhausted, the search restarts from a
    random direction orthogonal to it if that may hold a further copy of a wanted eigenvalue.

    A single starting vector finds a multiple eigenvalue once. Its copies come from restarts, so they are only complete
    if the operator has few distinct eigenvalues.

    Args:
        operator: A symmetric matrix, `scipy.sparse.linalg.LinearOperator` or `CurvatureOperator`, [P, P].
        num_eigenvalues: Number of eigenvalues k, at most P.
        tol: Tolerance of the residuals, relative to the eigenvalue.
        min_steps: Minimum number of steps, for a larger basis than the eigenvalues need.
        max_steps: Maximum number of steps; each costs one product and 8 P bytes.
        seed: Seed of the starting vector.

    Returns:
        The eigenpairs, with the basis.

    Raises:
        ValueError: If the operator is not square or returns non-finite numbers, or if the numbers of eigenvalues and
            steps are inconsistent.

    Example:
        >>> found = top_eigenvalues(np.diag([3.0, 2.0, -5.0]), 2)
        >>> found.values.round(9), found.converged
        (array([3., 2.]), True)
    """
    products, size, device = tensor_products(operator)
    if num_eigenvalues < 1:
        raise ValueError(f"num_eigenvalues must be at least 1, got {num_eigenvalues}.")
    found = krylov(
        products,
        torch.tensor([draws.key(seed, "lanczos")], device=device),
        size,
        top=num_eigenvalues,
        tol=tol,
        min_steps=min_steps,
        max_steps=max_steps,
    )
    values, weights, residuals = (part[..., : -num_eigenvalues - 1 : -1] for part in found.ritz(0))
    off = found.beta[0, :-1]
    return Ritz(
        values=values,
        vectors=found.vectors(0, weights).cpu().numpy().T,
        residuals=residuals,
        basis=found.basis[0].cpu().numpy().T,
        projection=np.diag(found.alpha[0]) + np.diag(off, 1) + np.diag(off, -1),
        converged=bool(found.converged[0]),
        num_products=int(found.sizes[0]),
    )
