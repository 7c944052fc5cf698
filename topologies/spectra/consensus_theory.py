"""Consensus theory of a mixing matrix: mixing time, effective number of neighbours, consensus factor."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh_tridiagonal, solve_discrete_lyapunov
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from basinet.topologies.mixing_matrix import check_mixing_matrix
from basinet.topologies.spectra.eigenvalues import DENSE_AGENTS, extreme_eigenvalue
from basinet.topologies.spectra.spectrum import mixing_rate, perron_vector

__all__ = ["consensus_factor", "effective_neighbors", "mixing_time"]

SYMMETRY_TOLERANCE = 1e-12
LANCZOS_STEPS = 200
FADED = 1e-3


def mixing_time(W: ArrayLike | csr_array, *, eps: float = 0.25) -> float:
    """Number of combines that shrink any disagreement to the fraction eps: the least t with ``ρ^t ≤ eps``.

    ρ is the mixing rate. For a reversible W, and the distance from the centroid in which agent k counts with its
    entry π_k of the Perron vector, the bound holds from the first combine and is tight; for any other W, in the
    long run.

    Args:
        W: Mixing matrix [K, K], dense or sparse, as for `mixing_rate`.
        eps: Fraction of the disagreement that may remain, in (0, 1).

    Returns:
        Mixing time, a whole number; 1 where one combine averages exactly, and infinity where W only passes values
        around.

    Raises:
        ValueError: If ``eps`` is outside (0, 1).

    Example:
        >>> mixing_time([[0.75, 0.25], [0.25, 0.75]], eps=0.1)
        4.0

    References:
        D. A. Levin, Y. Peres, E. L. Wilmer: Markov chains and mixing times, AMS 2008, doi:10.1090/mbk/058.
    """
    return steps_to_shrink(mixing_rate(W), eps=eps)


def steps_to_shrink(factor: float, *, eps: float = 0.25) -> float:
    """Number of steps, each shrinking by a factor, that leave a fraction: the least t with ``factor^t ≤ eps``.

    Args:
        factor: Fraction left by one step, at least 0.
        eps: Fraction that may remain, in (0, 1).

    Returns:
        A whole number from 1 on, and infinity where nothing shrinks.

    Raises:
        ValueError: If ``eps`` is outside (0, 1).
    """
    if not 0 < eps < 1:
        raise ValueError(f"eps is {eps}, but must lie in (0, 1)")
    if factor >= 1:
        return math.inf
    # Where the quotient is a whole number, rounding must not add a step.
    return 1.0 if factor == 0 else max(1.0, float(math.ceil(math.log(eps) / math.log(factor) - 1e-9)))


def effective_neighbors(W: ArrayLike | csr_array, *, gamma: float, num_probes: int = 16, seed: int = 0) -> float:
    """How many agents that average exactly would suppress noise as well as these do.

    In ``x ← W (√γ x + noise)`` with noise of variance 1 at every agent, a single agent ends with the
    variance ``1 / (1 - γ)``, and K agents that average exactly with a K-th of that. The effective number of
    neighbours is how much smaller the variance is than a single agent's,

        ``n(γ) = 1 / (1 - γ) / mean_k λ_k^2 / (1 - γ λ_k^2)``

    for a symmetric W. It says which learning rates the agents can afford together, where the spectral gap does not:
    γ stands for how slowly training forgets.

    Up to 1000 agents it is exact. Above, W stays sparse, and the variance is estimated from random signs, to a few
    percent: by Lanczos quadrature over the spectrum if W is symmetric, otherwise by following them from combine to
    combine until nothing but their centroid is left.

    Args:
        W: Mixing matrix [K, K], dense or sparse.
        gamma: Decay γ of the noise, in [0, 1).
        num_probes: Number of vectors of random signs, above 1000 agents.
        seed: Seed of the signs, a non-negative integer.

    Returns:
        Effective number of neighbours, itself included: 1 for agents that never talk, K for exact averaging.

    Raises:
        ValueError: If ``gamma`` is outside [0, 1), or W has more than 1000 agents, is not symmetric and does not
            connect all of them.

    Example:
        >>> round(effective_neighbors([[0.5, 0.5], [0.5, 0.5]], gamma=0.9), 12)
        2.0

    References:
        T. Vogels, H. Hendrikx, M. Jaggi: Beyond spectral gap: the role of the topology in decentralized learning,
        NeurIPS 2022, arXiv:2206.03093.
    """
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma is {gamma}, but must lie in [0, 1)")
    matrix = check_mixing_matrix(W, connected=False)
    K = matrix.shape[0]
    symmetric = _is_symmetric(matrix)
    if K <= DENSE_AGENTS and symmetric:
        variance = _variance(np.linalg.eigvalsh(matrix.toarray()), gamma).mean()
    elif K <= DENSE_AGENTS:
        dense = matrix.toarray()
        variance = np.trace(solve_discrete_lyapunov(math.sqrt(gamma) * dense, dense @ dense.T)) / K
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], (num_probes, K))
        if symmetric:
            rest = np.mean([_quadrature(matrix, probe - probe.mean(), gamma) for probe in signs])
            variance = (_variance(np.ones(1), gamma)[0] + rest) / K
        else:
            variance = _followed(matrix, signs.T, gamma)
    return float(1 / (1 - gamma) / variance)


def consensus_factor(matrices: Sequence[ArrayLike | csr_array]) -> float:
    """The worst-case disagreement left by a sequence of mixing matrices: ``||(I - 1 1^T / K) W_T ... W_1||``.

    The spectral norm bounds how far the agents end from their average, ``||x - mean(x)||``, by how far from it they
    started. A sequence may average exactly, factor 0, even if none of its matrices does. Above 1000 agents they stay
    sparse.

    Args:
        matrices: Mixing matrices [K, K], in the order in which they are applied; they need not be connected.

    Returns:
        Consensus factor: at most 1 for doubly stochastic matrices, and 0 for exact averaging.

    Raises:
        ValueError: If there is no matrix, or they are of different sizes.

    Example:
        >>> round(consensus_factor([[[0.75, 0.25], [0.25, 0.75]]] * 2), 12)
        0.25
    """
    checked = [check_mixing_matrix(W, connected=False) for W in matrices]
    if not checked:
        raise ValueError("the sequence of mixing matrices is empty, but must have at least one")
    if len(sizes := {W.shape[0] for W in checked}) > 1:
        raise ValueError(f"the mixing matrices have {sorted(sizes)} agents, but must all have the same number")
    K = checked[0].shape[0]
    if len(checked) == 1 and _is_symmetric(checked[0]) and connected_components(checked[0], return_labels=False) == 1:
        return mixing_rate(checked[0])
    if K <= DENSE_AGENTS:
        product = np.eye(K) - 1 / K
        for W in reversed(checked):
            product = product @ W
        return float(np.linalg.norm(product, 2))

    def gram(x: NDArray[np.float64]) -> NDArray[np.float64]:
        x = x - x.mean()
        for W in checked:
            x = W @ x
        x = x - x.mean()
        for W in reversed(checked):
            x = W.T @ x
        return np.asarray(x - x.mean())

    # One more, on the averages: ARPACK cannot start with a matrix that is zero.
    largest = extreme_eigenvalue(lambda x: gram(x) + x, checked[0], "LA", tolerance=1e-6)
    return math.sqrt(max(0.0, largest - 1))


def _is_symmetric(W: csr_array) -> bool:
    return bool(abs(W - W.T).max() <= SYMMETRY_TOLERANCE)


def _variance(values: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    return np.asarray(values**2 / (1 - gamma * values**2))


def _followed(W: csr_array, probes: NDArray[np.float64], gamma: float) -> float:
    # mean_k Σ_j γ^j |W^(j+1) z|_k^2 in the mean over signs z, which tend to 1 π^T z: what differs from it fades.
    pi = perron_vector(W)
    centroid = pi @ probes
    rest = probes - centroid
    variance, weight = float(pi @ pi) / (1 - gamma), 1.0
    while True:
        rest = W @ rest
        left = float(np.mean(rest**2))
        variance += weight * (left + 2 * float(np.mean(rest * centroid)))
        weight *= gamma
        if weight * left <= FADED * (1 - gamma) * variance:
            return variance


def _quadrature(W: csr_array, start: NDArray[np.float64], gamma: float) -> float:
    # start^T f(W) start by the Gauss quadrature that Lanczos steps build, orthogonal to the averages.
    length = float(np.linalg.norm(start))
    before, now = np.zeros_like(start), start / length
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(LANCZOS_STEPS):
        following = W @ now - (beside[-1] if beside else 0.0) * before
        diagonal.append(float(following @ now))
        following -= diagonal[-1] * now
        following -= following.mean()
        beside.append(float(np.linalg.norm(following)))
        if beside[-1] < SYMMETRY_TOLERANCE:
            break
        before, now = now, following / beside[-1]
    nodes, vectors = eigh_tridiagonal(diagonal, beside[:-1])
    return float(length**2 * vectors[0] ** 2 @ _variance(np.clip(nodes, -1, 1), gamma))
