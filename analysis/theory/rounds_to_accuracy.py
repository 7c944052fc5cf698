r"""How many steps a strategy needs on a graph to reach an accuracy, on a quadratic with the best learning rate.

Agent k has J_k(w) = h/2 ‖w − w*‖² + b_kᵀ (w − w*) with Σ_k b_k = 0, drawn at random with the mean square ζ², and
gradient noise of variance σ²; all agents start at the distance d from w*. With μ for the learning rate times h, with
ν = σ² / (h d)² and z = ζ² / (h d)², the mean excess risk of the agents after n steps, relative to that of the start, is
at most

$$
e_n = (1 - μ)^{2 n} + \left(1 - (1 - μ)^{2 n}\right) \frac{μ ν}{K (2 - μ)} + ν V + z B, \qquad
V = \frac{μ²}{K} \sum_{k ≥ 2} \frac{|g_k|²}{1 - |β_k|²}, \quad
B = \frac{μ²}{K - 1} \sum_{k ≥ 2} \left|\frac{g_k}{1 - β_k}\right|²
$$

with β and g of each mode of W as in `mode_recursion`: the distance decays, the centroid keeps its noise, and the agents
differ because of noise and of their different data. The last two terms are those of the steady state.

References:
    Sayed: Adaptation, learning, and optimization over networks, 2014, doi:10.1561/2200000051.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from basinet.analysis.theory.mode_recursion import Rule

__all__ = ["Need", "Problem", "rounds_to_accuracy"]

Array = NDArray[np.float64]

_RATES = np.geomspace(1e-7, 1, 141)
_COARSE = 10
"""Of so many rates, one is tried first."""
_FADED, _GROWN, _DOUBLINGS = 1e-12, 1e3, 50


@dataclass(frozen=True)
class Problem:
    """What is to be learned, relative to the distance of the start.

    Attributes:
        noise: ν, variance of the gradient of an agent's batch, relative to the squared gradient at the start.
        heterogeneity: z, mean square of the agents' own gradients at the common minimum, likewise.
        accuracy: The excess risk to reach, relative to that of the start.
    """

    noise: float = 10.0
    heterogeneity: float = 1.0
    accuracy: float = 0.001


class Need(NamedTuple):
    """What an accuracy needs.

    Attributes:
        steps: The number of steps; infinite if no learning rate reaches the accuracy.
        rate: The learning rate μ times h.
    """

    steps: float
    rate: float


def rounds_to_accuracy(rule: Rule, matrices: Sequence[csr_array], problem: Problem) -> Need | None:
    """Compute how many steps reach an accuracy, with the constant learning rate that needs fewest.

    Args:
        rule: The update rule.
        matrices: The mixing matrices of a period, [K, K] each.
        problem: What is to be learned.

    Returns:
        Steps and learning rate; None if the columns of a matrix do not sum to one, so that agents do not count alike.

    Example:
        An agent alone, without noise: one step of the size 1 / h suffices.

        >>> rounds_to_accuracy("atc", [csr_array([[1.0]])], Problem(noise=0.0))
        Need(steps=1.0, rate=1.0)
    """
    dense = [matrix.toarray() for matrix in matrices]
    if any(abs(W.sum(axis=0) - 1).max() > 1e-8 for W in dense):
        return None
    # Small rates reach every accuracy that can be reached: the best is near the best of some.
    some = _steps(rule, dense, problem, _RATES[::_COARSE])
    near = _COARSE * int(np.argmin(some))
    rates = _RATES[max(0, near - _COARSE + 1) : near + _COARSE]
    steps = _steps(rule, dense, problem, rates)
    best = int(np.argmin(steps))
    return Need(float(steps[best]), float(rates[best]))


def _steps(rule: Rule, matrices: Sequence[Array], problem: Problem, rates: Array) -> Array:
    """Return how many steps reach the accuracy at each learning rate."""
    agents = len(matrices[0])
    centroid = problem.noise * rates / (agents * (2 - rates))
    steady = np.zeros_like(rates)
    if rule != "centralized" and agents > 1:
        W = matrices[0]
        normal = len(matrices) == 1 and abs(W @ W.T - W.T @ W).max() < _FADED
        variance, bias = _of_modes(rule, W, rates) if normal else _of_period(rule, matrices, rates)
        parts = [weight * part for weight, part in ((problem.noise, variance), (problem.heterogeneity, bias)) if weight]
        steady = np.where(np.isfinite(variance), sum(parts, steady), np.inf)
    room = np.maximum(0, problem.accuracy - steady - centroid)  # less than 1 - centroid
    with np.errstate(divide="ignore", invalid="ignore"):
        decay = np.log(room / (1 - centroid)) / (2 * np.log1p(-rates))
    return np.where(room > 0, np.maximum(1, np.ceil(decay - 1e-9)), np.inf)


def _of_modes(rule: Rule, W: Array, rates: Array) -> tuple[Array, Array]:
    """Return V and B for each learning rate; infinite where a mode is not stable."""
    values = np.linalg.eigvals(W) if abs(W - W.T).max() > _FADED else np.linalg.eigvalsh(W).astype(complex)
    values = np.delete(values, np.argmin(abs(values - 1)))[:, None]
    beta = values - rates if rule == "consensus" else values * (1 - rates)
    gain = abs(values) ** 2 if rule == "atc" else np.ones(values.shape)
    stable = (abs(beta) < 1).all(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (gain / (1 - abs(beta) ** 2)).sum(axis=0) * rates**2 / len(W)
        bias = (gain / abs(1 - beta) ** 2).sum(axis=0) * rates**2 / (len(W) - 1)
    return np.where(stable, variance, np.inf), np.where(stable, bias, np.inf)


def _of_period(rule: Rule, matrices: Sequence[Array], rates: Array) -> tuple[Array, Array]:
    """Return V and B for each learning rate, in the mean over a period of graphs that change."""
    agents = len(matrices[0])
    apart = np.eye(agents) - 1 / agents
    found = []
    for rate in rates:
        steps = [apart @ W - rate * apart if rule == "consensus" else (1 - rate) * apart @ W for W in matrices]
        gains = [apart @ W if rule == "atc" else apart for W in matrices]
        product, noise, shift = np.eye(agents), np.zeros_like(apart), np.zeros_like(apart)
        for step, gain in zip(steps, gains, strict=True):
            product, noise, shift = step @ product, step @ noise @ step.T + gain @ gain.T, step @ shift + gain
        for _ in range(_DOUBLINGS):
            if not _FADED < abs(product).max() < _GROWN:
                break
            noise, shift = noise + product @ noise @ product.T, shift + product @ shift
            product = product @ product
        if abs(product).max() > _FADED:
            found.append((np.inf, np.inf))
            continue
        sums = np.zeros(2)
        for step, gain in zip(steps, gains, strict=True):
            noise, shift = step @ noise @ step.T + gain @ gain.T, step @ shift + gain
            sums += np.trace(noise) / agents, (shift**2).sum() / (agents - 1)
        found.append(tuple(rate**2 * sums / len(steps)))
    variance, bias = np.array(found).T
    return variance, bias
