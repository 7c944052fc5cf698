"""The largest eigenvalues of a symmetric operator, and the Krylov basis that they were found in."""

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


def top_eigenvalues(
    operator: Any,
    num_eigenvalues: int = 1,
    *,
    tol: float = 1e-6,
    min_steps: int = 1,
    max_steps: int = 300,
    seed: int = 0,
) -> Ritz:
    """Find the algebraically largest eigenvalues of a symmetric operator H by the Lanczos iteration.

    The iteration is that of `basinet.analysis.curvature.krylov.krylov`, with full orthogonalisation. It ends when the
    residual of each wanted eigenvalue is at most `tol` times its modulus (or at the level of rounding), which
    bounds its relative error by `tol`; the error is mostly near the square of that. Where an invariant subspace is
    exhausted, the search goes on from a random direction orthogonal to it if it can hold a further copy of a wanted
    eigenvalue.

    A multiple eigenvalue is found once by a single starting vector. Its copies come with the restarts, so
    they are only complete if the operator has few distinct eigenvalues.

    Args:
        operator: A symmetric matrix, `scipy.sparse.linalg.LinearOperator` or `CurvatureOperator`, [P, P].
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
