"""Single eigenvalues of large sparse matrices, by Krylov methods or a factorisation."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import reverse_cuthill_mckee
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh, splu

__all__ = [
    "DENSE_AGENTS",
    "arpack",
    "extreme_eigenvalue",
    "factorized",
    "gershgorin_bound",
    "is_long_and_thin",
    "least_eigenvalue",
    "second_eigenvalue",
]

DENSE_AGENTS = 1000
RESTARTS = 100
FILL = 100_000_000  # numbers that a factorisation may hold
HUB = 1000  # neighbours
PRUNINGS = 100  # rounds of removing leaves
SHIFT = 1e-10  # keeps a shifted matrix just off singular


def second_eigenvalue(S: csr_array, root: NDArray[np.float64]) -> float:
    """Return the largest eigenvalue of S other than the eigenvalue 1.

    Args:
        S: Symmetric matrix [K, K] with the eigenvalue 1, and all others between -1 and 1.
        root: Unit eigenvector of the eigenvalue 1.

    Returns:
        The second eigenvalue; if S is not long and thin, 0 instead of a negative one.
    """
    if is_long_and_thin(S):
        shift = 1 + SHIFT
        solve = factorized(S, shift)

        def inverse(x: NDArray[np.float64]) -> NDArray[np.float64]:
            y = solve(x - root * (root @ x))
            return np.asarray(y - root * (root @ y))

        return shift + 1 / extreme_eigenvalue(inverse, S, "SA")
    # Moves the eigenvalue 1 to 0: moved to the other end, it would slow ARPACK down.
    return extreme_eigenvalue(lambda x: S @ x - root * (root @ x), S, "LA", tolerance=1e-6)


def least_eigenvalue(S: csr_array, *, tolerance: float = 1e-8) -> float:
    """Return the smallest eigenvalue of S.

    Args:
        S: Symmetric form of a mixing matrix [K, K].
        tolerance: Relative residual, as for `extreme_eigenvalue`.

    Returns:
        The smallest eigenvalue.
    """
    if is_long_and_thin(S):
        shift = gershgorin_bound(S) - SHIFT
        return shift + 1 / extreme_eigenvalue(factorized(S, shift), S, "LA", tolerance=tolerance)
    return extreme_eigenvalue(lambda x: S @ x, S, "SA", tolerance=tolerance)


def gershgorin_bound(S: csr_array) -> float:
    """Return a lower bound on the eigenvalues of S, which are those of W, whose rows sum to one.

    Args:
        S: Symmetric form of the mixing matrix W.

    Returns:
        The bound.
    """
    return float(2 * S.diagonal().min() - 1)


def extreme_eigenvalue(
    matvec: Callable[[NDArray[np.float64]], NDArray[np.float64]], S: csr_array, end: str, *, tolerance: float = 1e-8
) -> float:
    """Return the eigenvalue at one end of the spectrum of a symmetric operator.

    Args:
        matvec: The operator.
        S: A matrix of its shape.
        end: "LA" for the largest, "SA" for the smallest.
        tolerance: Relative residual. The error of an eigenvalue is of the order of its square.

    Returns:
        The eigenvalue.
    """
    operator = LinearOperator(S.shape, matvec=matvec, dtype=np.float64)
    return float(arpack(eigsh, operator, end, tolerance=tolerance)[0][0])


def arpack(solver: Callable[..., Any], operator: Any, which: str, *, tolerance: float, count: int = 1) -> Any:
    """Run an ARPACK solver deterministically.

    Args:
        solver: scipy's eigsh or eigs.
        operator: The matrix.
        which: Which eigenvalues, as scipy calls them.
        tolerance: Relative residual.
        count: How many.

    Returns:
        Eigenvalues and eigenvectors.

    Raises:
        RuntimeError: If they do not converge.
    """
    # A fixed start makes the result the same on every call.
    start = np.random.default_rng(0).standard_normal(operator.shape[0])
    try:
        return solver(operator, k=count, which=which, v0=start, ncv=40, maxiter=RESTARTS, tol=tolerance)
    except ArpackNoConvergence as error:
        raise RuntimeError(
            f"an eigenvalue of this mixing matrix of {operator.shape[0]} agents was not found within "
            f"{RESTARTS} restarts of ARPACK, because it mixes too slowly; at most {DENSE_AGENTS} agents are "
            "always possible"
        ) from error


def is_long_and_thin(W: csr_array) -> bool:
    """Return whether a factorisation of a matrix stays sparse.

    Graphs such as rings and tori mix too slowly for Krylov methods, but a factorisation stays sparse along them: the
    bandwidth of a good ordering bounds its fill. It would fill up in graphs that mix fast. Leaves cause no fill and do
    not count, so that trees qualify; only around large hubs does it take too long to find out.

    Args:
        W: Sparse matrix [K, K].

    Returns:
        Whether it does.
    """
    pattern = (W + W.T).tocsr()
    if np.diff(pattern.indptr).max() <= HUB:
        pattern = _without_leaves(pattern)
    if pattern.shape[0] == 0:
        return True
    place = np.argsort(reverse_cuthill_mckee(pattern, symmetric_mode=True))
    entries = pattern.tocoo()
    bandwidth = np.abs(place[entries.row] - place[entries.col]).max(initial=0)
    return bool(10 * bandwidth <= W.shape[0] and W.shape[0] * bandwidth <= FILL)


def _without_leaves(pattern: csr_array) -> csr_array:
    for _ in range(PRUNINGS):
        inner = np.diff(pattern.indptr) - (pattern.diagonal() != 0) > 1
        if inner.all():
            break
        pattern = pattern[inner][:, inner]
    return pattern


def factorized(S: csr_array, shift: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Factorise ``S - shift I``.

    Args:
        S: Symmetric matrix [K, K].
        shift: What is subtracted, outside the spectrum of S.

    Returns:
        Function that solves with it, for vectors [K] or [K, M].
    """
    shifted = (S - shift * diags_array(np.ones(S.shape[0]))).tocsc()
    factors = splu(shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    solve: Callable[[NDArray[np.float64]], NDArray[np.float64]] = factors.solve
    return solve
