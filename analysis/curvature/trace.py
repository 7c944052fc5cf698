"""Stochastic estimates of the trace of a symmetric operator, with standard errors."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from basinet.analysis.curvature.hessian import square_operator

__all__ = [
    "Estimate",
    "estimates_in_rounds",
    "hutch_plus_plus",
    "hutchinson",
    "mean_estimate",
    "trace",
    "xtrace",
]

Array = NDArray[np.float64]

_BLOCK = 32
"""Number of probes held in memory at once."""


@dataclass(frozen=True)
class Estimate:
    """A number estimated from random samples.

    Attributes:
        value: The estimate.
        error: Its standard error, from the spread of the samples; 0 if the value is exact.
        num_products: Number of products with the operator used.
    """

    value: float
    error: float
    num_products: int


def mean_estimate(samples: Array, num_products: int, known: float = 0.0) -> Estimate:
    """Estimate a number as an exact part plus the mean of samples.

    Args:
        samples: Independent samples [m] of the unknown part, at least 2.
        num_products: Number of products they took.
        known: The exact part.

    Returns:
        The estimate.
    """
    error = float(samples.std(ddof=1) / math.sqrt(len(samples)))
    return Estimate(known + float(samples.mean()), error, num_products)


def estimates_in_rounds(
    draw: Callable[[range], Array], *, size: int, most: int, rtol: float, cost: Callable[[int], int]
) -> list[Estimate]:
    """Estimate several means side by side, each from as many samples as it needs.

    A few samples of a skewed distribution mostly miss its large values, so both mean and spread are too small, and a
    small standard error says little: the first round should not be small.

    Args:
        draw: Draws the samples of the given indices, [m, N].
        size: Samples per round, at least 2.
        most: Number of samples after which no further round starts.
        rtol: Relative standard error at which sampling stops.
        cost: Maps a number of samples to the products that they take.

    Returns:
        The estimate of each mean, from the rounds until its own error is small enough.
    """
    samples = draw(range(size))
    found: dict[int, Estimate] = {}
    while True:
        for point in set(range(samples.shape[1])) - found.keys():
            estimate = mean_estimate(samples[:, point], cost(len(samples)))
            if estimate.error <= rtol * abs(estimate.value) or len(samples) >= most or math.isnan(estimate.error):
                found[point] = estimate
        if len(found) == samples.shape[1]:
            return [found[point] for point in range(len(found))]
        samples = np.concatenate([samples, draw(range(len(samples), len(samples) + size))])


def trace(
    operator: Any,
    *,
    method: Literal["xtrace", "hutch++", "hutchinson"] = "xtrace",
    num_products: int = 60,
    seed: int = 0,
) -> Estimate:
    """Estimate the trace of a symmetric operator from its products with random vectors.

    Args:
        operator: A symmetric matrix, `scipy.sparse.linalg.LinearOperator` or `CurvatureOperator`, [P, P].
        method: `xtrace` is the most accurate for few products, `hutch++` comes close, and the error bar of
            `hutchinson` holds for any spectrum.
        num_products: Number of products to spend.
        seed: Seed of the vectors.

    Returns:
        The estimate, with its standard error.

    Raises:
        ValueError: If the method is unknown, needs more products, or the operator is not square.

    Example:
        >>> trace(np.diag([1.0, 2.0, 3.0]), method="hutchinson").value
        6.0
    """
    methods = {"xtrace": xtrace, "hutch++": hutch_plus_plus, "hutchinson": hutchinson}
    if method not in methods:
        raise ValueError(f"method must be one of {', '.join(methods)}, got {method!r}.")
    return methods[method](operator, num_products=num_products, seed=seed)


def hutchinson(operator: Any, *, num_products: int = 100, seed: int = 0) -> Estimate:
    r"""Estimate a trace with random-sign probes.

    $$
    \mathrm{tr} H = E[gᵀ H g] ≈ \frac{1}{m} \sum_{i=1}^m g_iᵀ H g_i, \qquad g \in \{-1, 1\}^P, \qquad
    \mathrm{Var}[gᵀ H g] = 2 (‖H‖_F² - \sum_i H_{ii}²) .
    $$

    Args:
        operator: A symmetric matrix or `scipy.sparse.linalg.LinearOperator`, [P, P].
        num_products: Number of probes m, at least 2; each costs one product.
        seed: Seed of the probes.

    Returns:
        The mean over the probes, with its standard error.

    Raises:
        ValueError: If there are fewer than 2 probes, too few for a spread.

    Example:
        Random signs are exact for a diagonal matrix.

        >>> hutchinson(np.diag([1.0, 2.0, 3.0]), num_products=4)
        Estimate(value=6.0, error=0.0, num_products=4)

    References:
        Hutchinson: A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines,
        Communications in Statistics 18, 1989, doi:10.1080/03610918908812806.
    """
    if num_products < 2:
        raise ValueError(f"num_products must be at least 2 to have a spread, got {num_products}.")
    operator = square_operator(operator)
    nothing = np.zeros((operator.shape[1], 0))
    return mean_estimate(_probe(operator, nothing, num_products, np.random.default_rng(seed)), num_products)


def hutch_plus_plus(operator: Any, *, num_products: int = 60, seed: int = 0) -> Estimate:
    r"""Compute a trace exactly on the range of a Gaussian sketch S, and estimate the rest with random signs.

    $$
    Q = \mathrm{orth}(H S), \qquad
    \mathrm{tr} H = \mathrm{tr}(Qᵀ H Q) + E[gᵀ (I - QQᵀ) H (I - QQᵀ) g] .
    $$

    A third of the products each goes to the sketch, its range and the probes. If a Krylov basis is available,
    `basinet.analysis.curvature.spectral.spectra` uses it as Q and spends all products on probes.

    Args:
        operator: A symmetric matrix or `scipy.sparse.linalg.LinearOperator`, [P, P].
        num_products: Number of products to spend, at least 6.
        seed: Seed of the sketch and the signs.

    Returns:
        The estimate; its standard error is that of the probes.

    Raises:
        ValueError: If `num_products` is below 6: a spread needs two probes.

    Example:
        >>> vector = np.arange(6.0)
        >>> round(hutch_plus_plus(np.outer(vector, vector), num_products=6).value, 9)
        55.0

    References:
        Meyer, Musco, Musco, Woodruff: Hutch++: optimal stochastic trace estimation, SOSA 2021,
        arXiv:2010.09649.
    """
    if num_products < 6:
        raise ValueError(f"num_products must be at least 6 for two probes and a sketch of two, got {num_products}.")
    operator = square_operator(operator)
    rng = np.random.default_rng(seed)
    rank, size = num_products // 3, operator.shape[1]
    sketch = operator.matmat(rng.standard_normal((size, rank)))
    q = _range(sketch)
    known = float(np.einsum("ij,ij->", q, operator.matmat(q)))
    probes = num_products - rank - q.shape[1]
    return mean_estimate(_probe(operator, q, probes, rng), rank + q.shape[1] + probes, known)


def xtrace(operator: Any, *, num_products: int = 60, seed: int = 0) -> Estimate:
    r"""Estimate a trace with Gaussian vectors, each probing the complement of the others' sketch.

    $$
    \mathrm{tr} H ≈ \frac{1}{k} \sum_{i=1}^k \left[ \mathrm{tr}(Q_iᵀ H Q_i) + g_iᵀ (I - Q_i Q_iᵀ) H (I - Q_i Q_iᵀ)
    g_i \right], \qquad Q_i = \mathrm{orth}(H g_j : j ≠ i) .
    $$

    All k probes serve both the sketch and the estimate, and their order does not matter.

    Args:
        operator: A symmetric matrix or `scipy.sparse.linalg.LinearOperator`, [P, P].
        num_products: Number of products to spend, at least 4: two per probe.
        seed: Seed of the vectors.

    Returns:
        The mean of the k estimates, with the standard error that they would have if independent, as in the paper; they
        are not, and for fewer than about 20 the true error is up to twice as large. Exact, with error 0, if the rank of
        the operator is below k.

    Raises:
        ValueError: If `num_products` is below 4.

    Example:
        >>> vector = np.arange(6.0)
        >>> estimate = xtrace(np.outer(vector, vector), num_products=8)
        >>> round(estimate.value, 9), estimate.error
        (55.0, 0.0)

    References:
        Epperly, Tropp, Webber: XTrace: making the most of every sample in stochastic trace estimation, SIAM Journal on
        Matrix Analysis and Applications 45, 2024, doi:10.1137/23M1548323.
    """
    if num_products < 4:
        raise ValueError(f"num_products must be at least 4 for two probes, got {num_products}.")
    operator = square_operator(operator)
    size = operator.shape[1]
    count = min(num_products // 2, size)
    probes = np.random.default_rng(seed).standard_normal((size, count))
    sketch = operator.matmat(probes)
    q = _range(sketch)
    moved = operator.matmat(q)
    inner = q.T @ moved
    known = float(np.trace(inner))
    spent = count + q.shape[1]
    if q.shape[1] < count or count == size:  # the sketch spans the operator's range
        return Estimate(known, 0.0, spent)
    # s_i is the direction in the full range orthogonal to the others: Q_i Q_iᵀ = Q (I - s_i s_iᵀ) Qᵀ.
    s = solve_triangular(np.linalg.qr(q.T @ sketch, "r"), np.eye(count), trans="T")
    s = np.linalg.qr(q.T @ sketch)[0] @ s
    s /= np.linalg.norm(s, axis=0)
    coordinates = q.T @ probes
    coordinates -= s * np.einsum("ij,ij->j", s, coordinates)
    left = np.einsum("ij,ij->j", probes - q @ coordinates, sketch - moved @ coordinates)
    return mean_estimate(left - np.einsum("ij,ij->j", s, inner @ s), spent, known)


def _signs(rng: np.random.Generator, size: int, count: int) -> Array:
    return rng.choice([-1.0, 1.0], size=(count, size)).T


def _range(sketch: Array) -> Array:
    """Return an orthonormal basis of the columns' span, up to rounding."""
    u, s, _ = np.linalg.svd(sketch, full_matrices=False)
    return np.asarray(u[:, s > 1e-12 * s[:1]])


def _probe(operator: Any, basis: Array, count: int, rng: np.random.Generator) -> Array:
    """Draw samples gᵀ (I − QQᵀ) H (I − QQᵀ) g."""
    samples = np.empty(count)
    for start in range(0, count, _BLOCK):
        block = samples[start : start + _BLOCK]
        probes = _signs(rng, operator.shape[1], len(block))
        probes = probes - basis @ (basis.T @ probes)
        block[:] = np.einsum("ij,ij->j", probes, operator.matmat(probes))
    return samples
