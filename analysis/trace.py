"""The trace of a symmetric operator from random probes, with its standard error."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import aslinearoperator

from basinet.analysis.lanczos import Ritz

__all__ = ["Estimate", "deflated_trace", "hutchinson"]

Array = NDArray[np.float64]

_BLOCK = 32
"""How many probes are held in memory at once."""


@dataclass(frozen=True)
class Estimate:
    """A number estimated from random samples.

    Attributes:
        value: The estimate.
        error: Its standard error, from the spread of the samples; 0 where the value is exact.
        num_products: How many products with the operator this took.
    """

    value: float
    error: float
    num_products: int


def hutchinson(operator: Any, *, num_probes: int = 100, seed: int = 0) -> Estimate:
    r"""Estimate a trace by random signs.

    $$
    \mathrm{tr} H = E[gᵀ H g] ≈ \frac{1}{m} \sum_{i=1}^m g_iᵀ H g_i, \qquad g \in \{-1, 1\}^P, \qquad
    \mathrm{Var}[gᵀ H g] = 2 (‖H‖_F² - \sum_i H_{ii}²) .
    $$

    Args:
        operator: A symmetric matrix or `scipy.sparse.linalg.LinearOperator`, [P, P].
        num_probes: Number of probes m, at least 2; each costs one product.
        seed: Seed of the probes.

    Returns:
        The mean over the probes, with its standard error.

    Raises:
        ValueError: If there are fewer than 2 probes, which have no spread.

    Example:
        Signs see a diagonal matrix exactly.

        >>> hutchinson(np.diag([1.0, 2.0, 3.0]), num_probes=4)
        Estimate(value=6.0, error=0.0, num_products=4)

    References:
        Hutchinson: A stochastic estimator of the trace of the influence matrix for Laplacian smoothing
            splines,
        Communications in Statistics 18, 1989, doi:10.1080/03610918908812806.
    """
    if num_probes < 2:
        raise ValueError(f"num_probes must be at least 2 to have a spread, got {num_probes}.")
    operator = aslinearoperator(operator)
    nothing = np.zeros((operator.shape[1], 0))
    samples = _probe(operator, nothing, num_probes, np.random.default_rng(seed))
    return Estimate(float(samples.mean()), _standard_error(samples), num_probes)


def deflated_trace(
    operator: Any,
    ritz: Ritz,
    *,
    num_probes: int = 16,
    rtol: float = 0.02,
    max_probes: int = 100,
    seed: int = 0,
) -> Estimate:
    r"""Estimate a trace by random signs on what a Krylov basis Q leaves.

    $$
    \mathrm{tr} H = \mathrm{tr}(Qᵀ H Q) + E[gᵀ (I - QQᵀ) H (I - QQᵀ) g], \qquad g \in \{-1, 1\}^P .
    $$

    The first term is known from the Lanczos iteration and costs no product. It holds the large eigenvalues,
    which make most of the variance of plain probes. Probes do not depend on Q, so the estimate is unbiased;
    the idea is that of Hutch++ with the basis that is there already.

    Probes are drawn in rounds of `num_probes` until the standard error is small enough. With m probes the
    error itself is known to about 1 / √(2m).

    Args:
        operator: The operator that `ritz` belongs to.
        ritz: Result of `lanczos`.
        num_probes: Number of probes of a round, at least 2; each costs one product.
        rtol: Standard error that is small enough, as a part of the value.
        max_probes: Number of probes after which no round is begun.
        seed: Seed of the probes, to be other than that of the basis.

    Returns:
        The estimate; the exact trace with error 0 if the basis spans the space.

    Raises:
        ValueError: If there are fewer than 2 probes to a round, which have no spread.

    Example:
        >>> from basinet.analysis.lanczos import lanczos
        >>> matrix = np.diag([100.0, 3.0, 2.0, 1.0]) + 0.1
        >>> deflated_trace(matrix, lanczos(matrix, min_steps=4)).error
        0.0

    References:
        Meyer, Musco, Musco, Woodruff: Hutch++: optimal stochastic trace estimation, SOSA 2021,
        arXiv:2010.09649.
    """
    if num_probes < 2:
        raise ValueError(f"num_probes must be at least 2 to have a spread, got {num_probes}.")
    known = float(np.trace(ritz.projection))
    size, rank = ritz.basis.shape
    if rank == size:
        return Estimate(known, 0.0, 0)
    operator = aslinearoperator(operator)
    rng = np.random.default_rng(seed)
    samples = np.empty(0)
    value, error = known, math.inf
    while error > rtol * abs(value) and len(samples) < max_probes:
        samples = np.append(samples, _probe(operator, ritz.basis, num_probes, rng))
        value, error = known + float(samples.mean()), _standard_error(samples)
    return Estimate(value, error, len(samples))


def _probe(operator: Any, basis: Array, count: int, rng: np.random.Generator) -> Array:
    """Draw samples gᵀ (I − QQᵀ) H (I − QQᵀ) g."""
    samples = np.empty(count)
    for start in range(0, count, _BLOCK):
        block = samples[start : start + _BLOCK]
        probes = rng.choice([-1.0, 1.0], size=(len(block), operator.shape[1])).T
        probes = probes - basis @ (basis.T @ probes)
        block[:] = np.einsum("ij,ij->j", probes, operator.matmat(probes))
    return samples


def _standard_error(samples: Array) -> float:
    return float(samples.std(ddof=1) / math.sqrt(len(samples)))
