r"""Escape from a one-dimensional basin: the network's effective potential and mean passage times.

The centroid of K agents with gradient noise of variance σ² moves, in the time t = μ n, like a particle with diffusion
coefficient D = μ σ² / (2K) in the smoothed potential

$$
U(w) = E J(w + δ), \qquad δ \sim N(0, V),
$$

where V is the variance of the agents' disagreement where they evaluate their gradients (`disagreement_variance`):
centralised steps see J itself, diffusion a smoother potential, consensus the smoothest.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from basinet.analysis.theory.mode_recursion import Rule, disagreement_variance

__all__ = ["effective_potential", "kramers_time", "mean_passage_time", "smoothed", "well_probability"]

Array = NDArray[np.float64]
Potential = Callable[[Array], Array]

_DEPTH = 40.0
"""Height above the start, in units of D, at which integrals are cut off: visited with probability e^−40."""

_NODES = 60
"""Number of points of the Gauss-Hermite rule."""

_GRID = 20_001


def smoothed(potential: Potential, variance: float | Potential) -> Potential:
    """Smooth a potential by Gaussian displacements: U(w) = E J(w + δ).

    Args:
        potential: J, on arrays of points.
        variance: V, or a function of w.

    Returns:
        U.

    Example:
        >>> round(float(smoothed(np.square, 0.25)(np.array(1.0))), 9)
        1.25
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()

    def average(w: Array) -> Array:
        spread = np.sqrt(variance(w) if callable(variance) else variance)
        return np.asarray(potential(w[..., None] + np.asarray(spread)[..., None] * nodes) @ weights)

    return average


def effective_potential(
    rule: Rule,
    W: ArrayLike | csr_array,
    potential: Potential,
    curvature: Potential,
    *,
    lr: float,
    noise: float,
    shifts: ArrayLike | None = None,
    between: tuple[float, float],
) -> Potential:
    """Compute the effective potential of a network's centroid.

    At each point the agents' disagreement is taken to be in the steady state for the curvature there, clipped to the
    range from 0 to the largest within `between`: where the curvature is negative, the centroid has left before the
    agents drift apart.

    Args:
        rule: The update rule.
        W: Symmetric mixing matrix [K, K].
        potential: J, on arrays of points.
        curvature: Its second derivative.
        lr: Step size μ.
        noise: Variance of an agent's gradient, σ².
        shifts: The gradient shift b_k of each agent, [K]; None for agents with the same data.
        between: Start and end of the path.

    Returns:
        U.

    Raises:
        ValueError: If the agents drift apart at the sharpest point in between.
    """
    top = float(curvature(np.linspace(*between, 1001)).max())
    # V is smooth in the curvature and costs a sum over all modes: tabulate it once, constant beyond the ends.
    h = np.linspace(0, max(top, 1e-9), 257)
    b = None if shifts is None else np.asarray(shifts, dtype=float)[:, None] * np.ones_like(h)
    table = disagreement_variance(rule, W, lr=lr, curvature=h, noise=np.full_like(h, noise), shifts=b)
    return smoothed(potential, lambda w: np.asarray(np.interp(curvature(w), h, table)))


def mean_passage_time(potential: Potential, diffusion: float, *, start: float, threshold: float, lr: float) -> float:
    r"""Compute the mean first-passage time in steps, exact in the limit of small steps.

    $$
    E n = \frac{1}{μ D} \int_a^{c} e^{U(y)/D} \int_{-∞}^y e^{-U(z)/D} \, dz \, dy .
    $$

    Args:
        potential: U, which must grow beyond the start, on the side away from the threshold.
        diffusion: D = μ σ² / (2K).
        start: Start a of the walk.
        threshold: End c of the walk, on either side.
        lr: Step size μ.

    Returns:
        The mean number of steps.

    Example:
        Free diffusion from a (steep) wall at 0 to 1: E t = 1 / (2D).

        >>> wall = lambda w: np.where(w < 0, 1e6 * w**2, 0.0)
        >>> round(mean_passage_time(wall, 0.5, start=0.0, threshold=1.0, lr=1.0), 2)
        1.0

    References:
        Gardiner: Handbook of stochastic methods, section 5.2.7, 2004, doi:10.1007/978-3-662-05389-8.
    """
    sign = 1.0 if threshold > start else -1.0

    def u(y: Array) -> Array:
        return potential(sign * y) / diffusion

    a, c = sign * start, sign * threshold
    before = np.linspace(_far_end(u, a, c - a), a, _GRID)
    after = np.linspace(a, c, _GRID)
    wall, way = u(before), u(after)
    low = min(wall.min(), way.min())
    inner = np.trapezoid(np.exp(low - wall), before) + _integrals(np.exp(low - way), after)
    return float(np.trapezoid(np.exp(way - low) * inner, after) / (diffusion * lr))


def _integrals(values: Array, places: Array) -> Array:
    """Integrate from the first place up to each, by the trapezoidal rule."""
    return np.append(0.0, np.cumsum(np.diff(places) * (values[1:] + values[:-1]) / 2))


def _far_end(u: Potential, start: float, scale: float) -> float:
    """Find a point below the start that is practically never visited."""
    step = scale / 64
    while u(np.array(start - step)) < u(np.array(start)) + _DEPTH:
        step *= 1.25
        if step > 1e9 * scale:
            raise ValueError("the potential does not grow beyond the start, so there is no mean passage time")
    return start - step


def kramers_time(barrier: float, curvature: float, top_curvature: float, *, diffusion: float, lr: float) -> float:
    r"""Compute the mean number of steps until a high barrier is crossed for good (Kramers' formula).

    $$
    E n ≈ \frac{2π}{μ \sqrt{h |h_b|}} e^{ΔU / D}, \qquad ΔU ≫ D .
    $$

    Args:
        barrier: Height ΔU of the barrier above the minimum.
        curvature: Second derivative h at the minimum.
        top_curvature: Modulus |h_b| of the second derivative at the top.
        diffusion: D = μ σ² / (2K).
        lr: Step size μ.

    Returns:
        The mean number of steps.

    References:
        Kramers: Brownian motion in a field of force and the diffusion model of chemical reactions, Physica 7, 1940,
        doi:10.1016/S0031-8914(40)90098-2. Xie, Sato, Sugiyama: A diffusion theory for deep learning dynamics, ICLR
        2021, arXiv:2002.03495.
    """
    return 2 * math.pi / (lr * math.sqrt(curvature * top_curvature)) * math.exp(barrier / diffusion)


def well_probability(potential: Potential, diffusion: float, *, barrier: float, low: float, high: float) -> float:
    """Compute the stationary probability of the side above a barrier, by the density e^(−U/D).

    Args:
        potential: U.
        diffusion: D = μ σ² / (2K).
        barrier: Position of the barrier.
        low: Lower end of the range, far outside the wells.
        high: Upper end of the range.

    Returns:
        The probability.

    Example:
        >>> round(well_probability(np.square, 1.0, barrier=0.0, low=-9.0, high=9.0), 6)
        0.5
    """
    w = np.linspace(low, high, _GRID)
    values = potential(w) / diffusion
    mass = _integrals(np.exp(values.min() - values), w)
    return float(1 - np.interp(barrier, w, mass) / mass[-1])
