"""Spectra of mixing matrices: how fast they mix, and how much each agent counts.

A mixing matrix W (rows non-negative, summing to one, agents strongly connected) has the eigenvalue
``λ_1 = 1``. Where W is reversible, ``π_k W[k, l] = π_l W[l, k]`` for its Perron vector π, it is
similar to the symmetric matrix ``S = diag(π)^(1/2) W diag(π)^(-1/2)`` and all its eigenvalues are real.
That holds for every policy on an undirected graph.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import breadth_first_order
from scipy.sparse.linalg import LinearOperator, eigs, spsolve

from basinet.topologies.mixing_matrix import check_mixing_matrix
from basinet.topologies.spectra.eigenvalues import (
    DENSE_AGENTS,
    arpack,
    gershgorin_bound,
    is_long_and_thin,
    least_eigenvalue,
    second_eigenvalue,
)

__all__ = ["eigenvalues", "mixing_rate", "perron_vector", "smallest_eigenvalue", "spectral_gap"]

EIGENVALUES_AGENTS = 4096
BALANCE_TOLERANCE = 1e-10


def eigenvalues(W: ArrayLike | csr_array) -> NDArray[np.float64] | NDArray[np.complex128]:
    """All eigenvalues of W, largest modulus first.

    Args:
        W: Mixing matrix [K, K], dense or sparse, of at most 4096 agents (they are found densely, in a time
            that grows as K^3).

    Returns:
        Eigenvalues [K]; real if W is reversible, otherwise complex.

    Raises:
        ValueError: If W has more than 4096 agents.

    Example:
        >>> eigenvalues([[0.75, 0.25], [0.25, 0.75]])
        array([1. , 0.5])
    """
    matrix = check_mixing_matrix(W)
    if matrix.shape[0] > EIGENVALUES_AGENTS:
        raise ValueError(
            f"the mixing matrix has {matrix.shape[0]} agents, but all eigenvalues are found for at most "
            f"{EIGENVALUES_AGENTS}; mixing_rate, spectral_gap and smallest_eigenvalue allow more"
        )
    return _dense_eigenvalues(matrix)


def mixing_rate(W: ArrayLike | csr_array) -> float:
    """Factor by which the slowest disagreement shrinks in one combine: ``ρ = max_{k≥2} |λ_k|``.

    Above 1000 agents the matrix stays sparse.

    Args:
        W: Mixing matrix [K, K], dense or sparse. One of more than 1000 agents that is not reversible must mix
            fast enough for Arnoldi iterations to converge, or a RuntimeError says that they did not.

    Returns:
        Mixing rate in [0, 1]; 0 for a single agent, and 1 for a matrix that only passes values around.

    Example:
        >>> round(mixing_rate([[0.75, 0.25], [0.25, 0.75]]), 12)
        0.5
    """
    matrix = check_mixing_matrix(W)
    num_agents = matrix.shape[0]
    if num_agents == 1:
        return 0.0
    if num_agents <= DENSE_AGENTS:
        return min(1.0, float(np.abs(_dense_eigenvalues(matrix)[1])))
    pi = _detailed_balance(matrix)
    if pi is not None:
        S = _symmetric_form(matrix)
        second = second_eigenvalue(S, np.sqrt(pi))
        if second < -gershgorin_bound(S):
            second = max(second, -least_eigenvalue(S))
        return min(1.0, second)
    # Since W 1 = 1, taking away the mean turns the eigenvalue 1 into 0 and leaves the others as they are.
    operator = LinearOperator(matrix.shape, matvec=lambda x: matrix @ x - np.mean(x), dtype=np.float64)
    return min(1.0, float(np.abs(arpack(eigs, operator, "LM", tolerance=1e-12, count=2)[0]).max()))


def spectral_gap(W: ArrayLike | csr_array) -> float:
    """Distance of the mixing rate from one: ``1 - max_{k≥2} |λ_k|``.

    Args:
        W: Mixing matrix [K, K], dense or sparse, as for `mixing_rate`.

    Returns:
        Spectral gap in [0, 1]; the larger, the faster the agents agree.

    Example:
        >>> round(spectral_gap([[0.75, 0.25], [0.25, 0.75]]), 12)
        0.5
    """
    return 1 - mixing_rate(W)


def smallest_eigenvalue(W: ArrayLike | csr_array) -> float:
    """The smallest eigenvalue of a reversible W, ``λ_min``.

    Consensus is stable on a quadratic of curvature h for step sizes below ``(1 + λ_min) / h``: a graph
    with λ_min close to -1, nearly bipartite, tolerates only small ones.

    Args:
        W: Mixing matrix [K, K], dense or sparse; it must be reversible, as any symmetric matrix is.

    Returns:
        Smallest eigenvalue, in [-1, 1].

    Raises:
        ValueError: If W is not reversible, so that its eigenvalues may be complex.

    Example:
        >>> round(smallest_eigenvalue([[0.75, 0.25], [0.25, 0.75]]), 12)
        0.5
    """
    matrix = check_mixing_matrix(W)
    if _detailed_balance(matrix) is None:
        raise ValueError(
            "the mixing matrix is not reversible, so its eigenvalues may be complex; the smallest eigenvalue "
            "needs a symmetric matrix, or the weights of a policy on an undirected graph"
        )
    if matrix.shape[0] <= DENSE_AGENTS:
        return float(_dense_eigenvalues(matrix).real.min())
    return least_eigenvalue(_symmetric_form(matrix))


def perron_vector(W: ArrayLike | csr_array) -> NDArray[np.float64]:
    """How much each agent counts in the end: π with ``π^T W = π^T``, positive, and with the sum one.

    Combining conserves the centroid ``Σ_k π_k x_k``. Where the columns of W sum to one too, all agents
    count the same. The matrix stays sparse.

    Args:
        W: Mixing matrix [K, K], dense or sparse.

    Returns:
        Perron vector [K]; exactly 1 / K if the columns of W sum to one.

    Example:
        >>> perron_vector([[0.5, 0.5, 0], [0.25, 0.5, 0.25], [0, 0.5, 0.5]])
        array([0.25, 0.5 , 0.25])
    """
    matrix = check_mixing_matrix(W)
    num_agents = matrix.shape[0]
    if np.all(np.abs(matrix.sum(axis=0) - 1) <= BALANCE_TOLERANCE):
        return np.full(num_agents, 1 / num_agents)
    pi = _detailed_balance(matrix)
    if pi is None and (num_agents <= DENSE_AGENTS or is_long_and_thin(matrix)):
        # π^T (I - W) = 0 with π_0 = 1.
        others = (diags_array(np.ones(num_agents)) - matrix).T.tocsc()[1:, 1:]
        pi = np.append(1.0, spsolve(others, matrix[[0], 1:].toarray()[0]))
    elif pi is None:
        pi = np.abs(arpack(eigs, matrix.T, "LR", tolerance=1e-12)[1][:, 0])
    return np.asarray(pi / pi.sum())


def _detailed_balance(W: csr_array) -> NDArray[np.float64] | None:
    # Solves π_k W[k, l] = π_l W[l, k] along a spanning tree; None if that does not hold on every edge.
    if W.shape[0] == 1:
        return np.ones(1)
    order, parents = breadth_first_order(W, 0)
    children, parents = order[1:], parents[order[1:]]
    forth, back = W[parents, children], W[children, parents]
    if not np.all(back > 0):
        return None
    log_pi = [0.0] * W.shape[0]
    for child, parent, log_ratio in zip(
        children.tolist(), parents.tolist(), np.log(forth / back).tolist(), strict=True
    ):
        log_pi[child] = log_pi[parent] + log_ratio
    pi = np.exp(np.array(log_pi) - max(log_pi))
    flow = diags_array(pi) @ W
    imbalance = np.abs(flow - flow.T) - BALANCE_TOLERANCE * (flow + flow.T)
    return None if imbalance.nnz and imbalance.max() > 0 else np.asarray(pi / pi.sum())


def _symmetric_form(W: csr_array) -> csr_array:
    # diag(π)^(1/2) W diag(π)^(-1/2), written without π.
    return np.sqrt(W * W.T)


def _dense_eigenvalues(W: csr_array) -> NDArray[np.float64] | NDArray[np.complex128]:
    if _detailed_balance(W) is None:
        values = np.linalg.eigvals(W.toarray())
    else:
        values = np.linalg.eigvalsh(_symmetric_form(W).toarray())
    return values[np.argsort(-np.abs(values), kind="stable")]
