"""Quadratic forms of functions of a symmetric operator, by Gauss quadrature."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import aslinearoperator

__all__ = ["quadratic_form"]

Array = NDArray[np.float64]

_ROUNDING = 1e-12
"""Fraction of the operator's norm below which a new direction is rounding."""


def quadratic_form(operator: Any, vector: ArrayLike, *, steps: int = 30) -> tuple[Array, Array]:
    r"""Compute nodes θ and weights ω with vᵀ f(H) v ≈ Σ_i ω_i f(θ_i) for any smooth f.

    They come from Lanczos started at v; m steps are exact for polynomials of degree 2m − 1, and for every f if v is a
    sum of m eigenvectors.

    Args:
        operator: A symmetric matrix or `scipy.sparse.linalg.LinearOperator` H, [P, P].
        vector: v, [P].
        steps: Maximum number of steps m; each costs one product.

    Returns:
        Nodes and weights, at most m of each; none if v is zero.

    Example:
        >>> nodes, weights = quadratic_form(np.diag([1.0, 2.0, 4.0]), [0.0, 3.0, 1.0])
        >>> nodes.round(9).tolist(), weights.round(9).tolist()
        ([2.0, 4.0], [9.0, 1.0])

    References:
        Golub, Meurant: Matrices, moments and quadrature, 1994, arXiv:math/9403226.
    """
    v = np.asarray(vector, dtype=float)
    length = float(np.linalg.norm(v))
    if length == 0:
        return np.zeros(0), np.zeros(0)
    operator = aslinearoperator(operator)
    rows = [v / length]
    alpha: list[float] = []
    beta: list[float] = []
    for _ in range(min(steps, len(v))):
        new = operator.matvec(rows[-1])
        alpha.append(float(rows[-1] @ new))
        basis = np.array(rows)
        for _ in range(2):  # the second pass removes what rounding left
            new = new - basis.T @ (basis @ new)
        beta.append(float(np.linalg.norm(new)))
        if beta[-1] <= _ROUNDING * max(map(abs, alpha + beta)):
            break
        rows.append(new / beta[-1])
    nodes, vectors = eigh_tridiagonal(alpha, beta[: len(alpha) - 1])
    return nodes, length**2 * vectors[0] ** 2
