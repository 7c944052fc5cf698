"""Krylov bases of many symmetric operators at once, by Lanczos iteration."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor, nn

from basinet.algorithms import draws

__all__ = ["Krylov", "krylov"]

Array = NDArray[np.float64]

_ROUNDING = 1e-13
"""Fraction of the operator's norm below which a number counts as zero."""


@dataclass(frozen=True, eq=False)
class Krylov:
    """Orthonormal bases Q of Krylov spaces of N symmetric operators H, with H Q = Q T + β_m q_{m+1} e_mᵀ.

    Attributes:
        basis: The rows q_1, …, q_m of each operator, [N, M, P], float64, zero-padded to the largest m, M.
        following: q_{m+1}, [N, P]; zero if the space is invariant.
        alpha: Diagonals of the tridiagonal matrices T = Qᵀ H Q, [N, M].
        beta: Their off-diagonals β_1, …, β_{m-1}, and β_m, [N, M]; zero at a restart.
        sizes: m of each operator, also the number of products with it, [N].
        converged: Whether the residuals of all wanted eigenvalues are within the tolerance, [N].
    """

    basis: Tensor
    following: Tensor
    alpha: Array
    beta: Array
    sizes: NDArray[np.int64]
    converged: NDArray[np.bool_]

    def ritz(self, row: int) -> tuple[Array, Array, Array]:
        """Diagonalize the tridiagonal matrix of an operator: T = S diag(θ) Sᵀ.

        Args:
            row: Index of the operator.

        Returns:
            Ritz values θ in ascending order, [m]; S with columns s, [m, m]; and the residuals
            ‖H Q s − θ Q s‖ = β_m |s_m| of the Ritz vectors Q s, [m]: an eigenvalue of H lies within this distance of θ,
            up to rounding of the products.
        """
        m = self.sizes[row]
        return _ritz(self.alpha[row, :m], self.beta[row, :m])

    def vectors(self, row: int, weights: Array) -> Tensor:
        """Combine basis vectors.

        Args:
            row: Index of the operator.
            weights: Columns of S, [m, k].

        Returns:
            The vectors, [k, P].
        """
        return torch.from_numpy(weights.T.copy()).to(self.basis) @ self.basis[row, : len(weights)]

    def project(self, vectors: Tensor) -> Tensor:
        """Compute the coordinates Qᵀ v.

        Args:
            vectors: [N, P].

        Returns:
            [N, M].
        """
        return torch.einsum("nmp,np->nm", self.basis, vectors.to(self.basis))

    def remainder(self, vectors: Tensor) -> Tensor:
        """Project vectors onto the orthogonal complement of the space: v − Q Qᵀ v.

        Args:
            vectors: [N, P].

        Returns:
            [N, P].
        """
        return _orthogonalized(vectors.to(self.basis), self.basis)


def krylov(
    products: Callable[[Tensor], Tensor],
    keys: Tensor,
    size: int,
    *,
    top: int = 1,
    bottom: int = 0,
    tol: float = 1e-6,
    min_steps: int = 1,
    max_steps: int = 300,
    agree: Callable[[Tensor], Tensor] = lambda numbers: numbers,
) -> Krylov:
    r"""Run Lanczos on N symmetric operators side by side, until their extreme eigenvalues have converged.

    From random unit vectors q₁ and with β₀ = 0,

    $$
    β_j q_{j+1} = H q_j - α_j q_j - β_{j-1} q_{j-1}, \quad α_j = q_jᵀ H q_j, \qquad
    T = Qᵀ H Q = \mathrm{tridiag}(β, α, β), \quad T s = θ s, \quad ‖H Q s - θ Q s‖ = β_m |s_m| ,
    $$

    where every new vector is orthogonalised against all earlier ones, twice, to avoid ghost eigenvalues. Each operator
    stops on its own, when the residual of each wanted eigenvalue is small enough (or at the level of rounding): at most
    `tol` times its modulus at the top, and at most `tol` times the largest Ritz value's modulus at the bottom, where
    Hessian eigenvalues are near zero. The residual bounds the error of the eigenvalue, which is mostly near the
    residual's square. When an invariant subspace is exhausted, the search restarts from a random direction orthogonal
    to it.

    Args:
        products: Multiplies each operator by its own vector, [N, P] to [N, P], in float64.
        keys: Keys of the random vectors, int64 [N] on the device of the operators.
        size: P.
        top: Number of largest eigenvalues wanted, at most P.
        bottom: Number of smallest eigenvalues wanted.
        tol: Relative tolerance of the residuals, as above.
        min_steps: Minimum number of steps, for a larger basis than the eigenvalues need.
        max_steps: Maximum number of steps; each costs one product, and 8 P bytes per operator.
        agree: Makes the numbers that decisions rest on identical in all workers that share the products.

    Returns:
        The bases.

    Raises:
        ValueError: If a product is not finite, or the numbers of eigenvalues and steps are inconsistent.

    References:
        Lanczos: An iteration method for the solution of the eigenvalue problem of linear differential and
        integral operators, J. Res. Natl. Bur. Stand. 45, 1950, doi:10.6028/jres.045.026.
        Parlett: The symmetric eigenvalue problem, SIAM, 1998, doi:10.1137/1.9781611971163.
    """
    limit = min(max_steps, size)
    if min(top, bottom) < 0 or not 1 <= max(top, bottom) <= limit:
        raise ValueError(f"The number of eigenvalues must be from 1 to {limit} (size, max_steps), got {top}, {bottom}.")
    if min_steps > max_steps:
        raise ValueError(f"min_steps ({min_steps}) must not exceed max_steps ({max_steps}).")
    count = len(keys)
    basis = torch.empty(count, min(limit, max(min_steps, 8)), size, dtype=torch.float64, device=keys.device)
    alpha, beta = np.empty((count, limit)), np.zeros((count, limit))
    norm = np.zeros(count)  # largest row sum of T so far
    first = np.zeros(count, dtype=int)  # where the search last (re)started
    sizes = np.zeros(count, dtype=np.int64)  # zero until an operator is done
    converged = np.zeros(count, dtype=bool)
    new = _random_directions(keys, 0, basis[:, :0])
    following = torch.zeros_like(new)
    for step in range(limit):
        m = step + 1
        if m > basis.shape[1]:
            basis = torch.cat([basis, torch.empty_like(basis[:, : min(limit - step, step)])], 1)
        basis[:, step] = new
        image = products(new)
        row_alpha = (new * image).sum(1)
        new = _orthogonalized(image, basis[:, :m])
        row_beta = new.norm(dim=1)
        found = agree(torch.stack([row_alpha, row_beta])).cpu().numpy()
        if not np.isfinite(found).all():
            raise ValueError(f"The operator returned non-finite numbers in Lanczos step {m}.")
        alpha[:, step], beta[:, step] = found
        norm = np.maximum(norm, beta[:, step - 1] * (step > first) + np.abs(alpha[:, step]) + beta[:, step])
        exhausted = beta[:, step] <= _ROUNDING * norm
        beta[exhausted, step] = 0.0
        new = torch.where(_rows(exhausted, new), 0.0, new / row_beta[:, None])
        if m >= min_steps or m == limit:
            for row in np.flatnonzero(sizes == 0):
                converged[row] = all(
                    _settled(sign * alpha[row, :m], beta[row, :m], wanted, tol, norm[row], first[row], size, sign < 0)
                    for sign, wanted in ((1, top), (-1, bottom))
                    if wanted
                )
            done = (sizes == 0) & (converged | (m == limit))
            sizes[done] = m
            following = torch.where(_rows(done, new), new, following)
            if sizes.all():
                break
            new = torch.where(_rows(done, new), 0.0, new)  # zeros from here on
        lost = exhausted & (sizes == 0)
        if lost.any():
            first[lost] = m
            new = torch.where(_rows(lost, new), _random_directions(keys, m, basis[:, :m]), new)
    return Krylov(basis[:, :m], following, alpha[:, :m], beta[:, :m], sizes, converged)


def _rows(chosen: NDArray[np.bool_], like: Tensor) -> Tensor:
    """Move a mask of rows to a tensor's device, [N, 1]."""
    return torch.from_numpy(chosen).to(like.device)[:, None]


def _settled(
    alpha: Array, beta: Array, wanted: int, tol: float, norm: float, first: int, size: int, by_norm: bool
) -> bool:
    """Return whether the largest eigenvalues of T have converged."""
    m = len(alpha)
    if m < wanted:
        return False
    values, _, residuals = (part[..., ::-1] for part in _ritz(alpha, beta))

    def small(residuals: Array, values: Array) -> bool:
        scale = norm if by_norm else np.abs(values)
        return bool((residuals <= np.maximum(tol * scale, _ROUNDING * norm)).all())

    settled = small(residuals[:wanted], values[:wanted])
    largest = values[0]
    if settled and first > 0:  # after a restart, its largest value must have converged too, to be compared
        news, _, residual = _ritz(alpha[first:], beta[first:])
        largest = news[-1]
        settled = small(residual[-1:], news[-1:])
    if beta[m - 1] == 0 and m < size and wanted > 1:
        # Otherwise a copy of an eigenvalue above the last wanted one may still be missing.
        settled = settled and largest <= values[wanted - 1]
    return settled


def _ritz(alpha: Array, beta: Array) -> tuple[Array, Array, Array]:
    values, weights = eigh_tridiagonal(alpha, beta[: len(alpha) - 1])
    return values, weights, beta[len(alpha) - 1] * np.abs(weights[-1])


def _orthogonalized(vectors: Tensor, basis: Tensor) -> Tensor:
    """Remove the components along orthonormal rows; a second pass removes what rounding left."""
    rows = vectors.unsqueeze(1)  # as rows: five times as fast as with columns on the CPU
    for _ in range(2):
        rows = rows - torch.bmm(torch.bmm(rows, basis.mT), basis)
    return rows.squeeze(1)


def _random_directions(keys: Tensor, number: int, basis: Tensor) -> Tensor:
    """Draw unit vectors orthogonal to orthonormal rows, [N, P]."""
    vectors = _orthogonalized(draws.normal(draws.fold(keys, number), (basis.shape[2],)), basis)
    return nn.functional.normalize(vectors, dim=1)
