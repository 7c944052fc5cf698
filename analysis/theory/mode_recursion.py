r"""Quadratic minima mode by mode: one scalar recursion per eigenvalue of a symmetric W and of a common Hessian.

Agent k has the loss J_k(w) = ½ (w − w*)ᵀ H (w − w*) + b_kᵀ (w − w*) with Σ_k b_k = 0 and gradient noise of covariance
R_k, independent over agents and steps. In the eigenvectors of W (eigenvalues λ) and of H (eigenvalues h) the step is

$$
x ← β x − μ g (b̂ + ŝ), \qquad
\begin{array}{lll}
\text{consensus} & β = λ − μ h & g = 1 \\
\text{ATC} & β = λ (1 − μ h) & g = λ \\
\text{CTA} & β = λ (1 − μ h) & g = 1 \\
\text{centralized} & β = 1 − μ h \text{ for } λ_1 = 1, \text{ the only mode}
\end{array}
$$

whose mean tends to −μ g b̂ / (1 − β) and whose variance to μ² g² r̂ / (1 − β²).
"""

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from basinet.algorithms.strategies import STRATEGIES, Strategy
from basinet.algorithms.strategies.strategy import require_symmetric
from basinet.analysis.theory.parts import RiskParts
from basinet.topologies import check_mixing_matrix

__all__ = [
    "Rule",
    "disagreement_variance",
    "excess_risk_after",
    "first_order_excess_risk",
    "network_factor",
    "rule_of",
    "stability_limit",
    "steady_excess_risk",
]

Array = NDArray[np.float64]
Rule = Literal["centralized", "consensus", "atc", "cta"]


def rule_of(strategy: Strategy) -> tuple[Rule, int] | None:
    """Find the update rule of a strategy.

    Args:
        strategy: A strategy.

    Returns:
        The rule, and the number of combinations per step; None for a strategy without scalar recursions here.
    """
    known: Any = strategy
    if type(strategy) is STRATEGIES["diffusion"]:
        return known.order, known.rounds
    for rule in ("centralized", "consensus"):
        if type(strategy) is STRATEGIES[rule]:
            return rule, 1
    return None


class _Modes:
    """A quadratic minimum in the eigenvectors of W.

    Args:
        W: Symmetric mixing matrix [K, K].
        curvature: Eigenvalues of H, [J].
        noise: Variance of the gradient along each eigenvector of H, [J], or per agent, [K, J].
        shifts: The b_k along the eigenvectors of H, [K, J]; None for agents with the same data.
    """

    def __init__(
        self, W: ArrayLike | csr_array, curvature: ArrayLike, noise: ArrayLike, shifts: ArrayLike | None
    ) -> None:
        values, vectors = _eigen(W)
        self.agents = len(values)
        self.values = values[:, None]
        self.h = np.asarray(curvature, dtype=float)
        r = np.asarray(noise, dtype=float)
        b = np.zeros((self.agents, len(self.h))) if shifts is None else np.asarray(shifts, dtype=float)
        # The modes of W are unit vectors, so a common variance is the same in each.
        self.r = np.broadcast_to(r, (self.agents, len(self.h))) if r.ndim == 1 else vectors.T**2 @ r
        self.b = vectors.T @ b

    def factors(self, rule: Rule, lr: float) -> tuple[Array, Array]:
        """Return β [K, J] and g [K, 1]."""
        kept = 1 - lr * self.h
        if rule == "centralized":
            common = np.zeros_like(self.values)
            common[0] = 1
            return common * kept, common
        if rule == "consensus":
            return self.values - lr * self.h, np.ones_like(self.values)
        return self.values * kept, self.values if rule == "atc" else np.ones_like(self.values)

    def settled(self, rule: Rule, lr: float) -> tuple[Array, Array]:
        """Return the steady-state mean and variance of each mode, [K, J]."""
        beta, gain = self.factors(rule, lr)
        excited = (gain != 0) & ((self.r > 0) | (self.b != 0))
        if (np.abs(beta)[excited] >= 1).any():
            least, largest = self.h.min(), self.h.max()
            raise ValueError(
                f"{rule} with the step size {lr:g} has no steady state for curvatures from {least:.4g} to "
                f"{largest:.4g}; all must be above 0, and the step size below "
                f"{_limit(rule, self.values[-1, 0], largest):.4g}"
            )
        beta = np.where(excited, beta, 0)
        return -lr * gain * self.b / (1 - beta), lr**2 * gain**2 * self.r / (1 - beta**2)

    def after(self, rule: Rule, rates: Iterable[float]) -> tuple[Array, Array]:
        """Return the mean and variance of each mode after steps of these sizes from the minimum, [K, J]."""
        mean, variance = np.zeros(self.r.shape), np.zeros(self.r.shape)
        for lr in rates:
            beta, gain = self.factors(rule, lr)
            mean = beta * mean - lr * gain * self.b
            variance = beta**2 * variance + lr**2 * gain**2 * self.r
        return mean, variance

    def parts(self, mean: Array, variance: Array) -> RiskParts:
        bias, noise = (0.5 / self.agents * (part @ self.h) for part in (mean**2, variance))
        return RiskParts(float(bias[0]), float(noise[0]), float(bias[1:].sum()), float(noise[1:].sum()))


def _eigen(W: ArrayLike | csr_array) -> tuple[Array, Array]:
    """Return the eigenvalues of a symmetric W, the largest (1) first, and the eigenvectors."""
    matrix = check_mixing_matrix(W)
    try:
        require_symmetric(matrix)
    except ValueError as error:
        raise ValueError(f"a mode of W for each of its eigenvalues {error}; `probe` takes any weights") from None
    values, vectors = np.linalg.eigh(matrix.toarray())
    return values[::-1], vectors[:, ::-1]


def steady_excess_risk(
    rule: Rule,
    W: ArrayLike | csr_array,
    *,
    lr: float,
    curvature: ArrayLike,
    noise: ArrayLike,
    shifts: ArrayLike | None = None,
) -> RiskParts:
    """Compute the exact steady-state excess risk.

    Args:
        rule: The update rule.
        W: Symmetric mixing matrix [K, K].
        lr: Step size μ.
        curvature: Eigenvalues of H, all above 0, [J].
        noise: Variance of the gradient along each eigenvector of H, [J], or per agent, [K, J]; that of a batch of B
            samples is 1/B of a single sample's.
        shifts: The gradient shifts b_k along the eigenvectors of H, [K, J]; None for agents with the same data.

    Returns:
        The parts of the excess risk.

    Raises:
        ValueError: If there is no steady state: the step is too large, or a curvature is not positive.

    Example:
        One agent: E J = ½ · μ r / (2 − μ h).

        >>> risk = steady_excess_risk("centralized", [[1.0]], lr=0.5, curvature=[1.0], noise=[3.0])
        >>> risk.total
        0.5

    References:
        Sayed: Adaptation, learning, and optimization over networks, 2014, doi:10.1561/2200000051.
    """
    modes = _Modes(W, curvature, noise, shifts)
    return modes.parts(*modes.settled(rule, lr))


def excess_risk_after(
    rule: Rule,
    W: ArrayLike | csr_array,
    *,
    rates: Iterable[float],
    curvature: ArrayLike,
    noise: ArrayLike,
    shifts: ArrayLike | None = None,
) -> RiskParts:
    """Compute the exact excess risk after a number of steps from the minimum.

    Args:
        rule: The update rule.
        W: Symmetric mixing matrix [K, K].
        rates: The step size of each step.
        curvature: See `steady_excess_risk`; flat directions (0) are allowed here.
        noise: See `steady_excess_risk`.
        shifts: See `steady_excess_risk`.

    Returns:
        The parts of the excess risk.

    Example:
        >>> risk = excess_risk_after("centralized", [[1.0]], rates=[0.5] * 50, curvature=[1.0], noise=[3.0])
        >>> round(risk.total, 12)
        0.5
    """
    modes = _Modes(W, curvature, noise, shifts)
    return modes.parts(*modes.after(rule, rates))


def first_order_excess_risk(
    rule: Rule,
    W: ArrayLike | csr_array,
    *,
    lr: float,
    curvature: ArrayLike,
    noise: ArrayLike,
    shifts: ArrayLike | None = None,
) -> RiskParts:
    r"""Compute the leading terms of the steady-state excess risk for small steps.

    $$
    \frac{μ}{4K} \mathrm{Tr} \bar R + \frac{μ²}{2K} \sum_{k≥2} g_k² \left[
    \frac{\mathrm{Tr}(H \hat R_k)}{1 - λ_k²} + \frac{\hat b_kᵀ H \hat b_k}{(1 - λ_k)²} \right], \qquad
    g_k = λ_k \text{ for ATC, otherwise } 1,
    $$

    and for centralised steps only the first term. Gradient noise falls with the batch size, the shifts do not.

    Args:
        rule: The update rule.
        W: Symmetric mixing matrix [K, K].
        lr: Step size μ.
        curvature: See `steady_excess_risk`.
        noise: See `steady_excess_risk`.
        shifts: See `steady_excess_risk`.

    Returns:
        The parts of the excess risk.

    Example:
        >>> first_order_excess_risk("centralized", [[1.0]], lr=0.5, curvature=[1.0], noise=[4.0]).total
        0.5
    """
    modes = _Modes(W, curvature, noise, shifts)
    centroid = lr / (4 * modes.agents) * float(modes.r[0].sum())
    if rule == "centralized":
        return RiskParts(0.0, centroid, 0.0, 0.0)
    values = modes.values[1:, 0]
    scale = lr**2 / (2 * modes.agents) * (values**2 if rule == "atc" else 1.0)
    noisy = scale / (1 - values**2) @ (modes.r[1:] @ modes.h)
    biased = scale / (1 - values) ** 2 @ (modes.b[1:] ** 2 @ modes.h)
    return RiskParts(0.0, centroid, float(biased), float(noisy))


def network_factor(rule: Rule, W: ArrayLike | csr_array) -> float:
    r"""Compute the graph's factor in the excess risk: S = Σ_{k≥2} g_k² / (1 − λ_k²).

    For small steps the disagreement of agents with the same data adds (μ² / 2K) Tr(H R) S to the excess risk. On any
    graph, S of consensus and CTA is S of ATC plus K − 1.

    Args:
        rule: The update rule.
        W: Symmetric mixing matrix [K, K].

    Returns:
        The sum; 0 for centralised steps.

    Example:
        >>> round(network_factor("consensus", np.full((4, 4), 0.25)), 12)
        3.0
    """
    if rule == "centralized":
        return 0.0
    values = _eigen(W)[0][1:]
    return float(((values**2 if rule == "atc" else 1.0) / (1 - values**2)).sum())


def disagreement_variance(
    rule: Rule,
    W: ArrayLike | csr_array,
    *,
    lr: float,
    curvature: ArrayLike,
    noise: ArrayLike,
    shifts: ArrayLike | None = None,
) -> Array:
    """Compute the steady-state variance of the agents about their centroid where they evaluate their gradients.

    Diffusion evaluates gradients after combining, whether ATC or CTA; consensus before combining.

    Args:
        rule: The update rule.
        W: Symmetric mixing matrix [K, K].
        lr: Step size μ.
        curvature: See `steady_excess_risk`.
        noise: See `steady_excess_risk`.
        shifts: See `steady_excess_risk`.

    Returns:
        (1/K) Σ_k E (x_k − x̄)² along each eigenvector of H, [J].

    Raises:
        ValueError: If the agents drift apart.

    Example:
        Two agents that consensus averages exactly still differ by the noise of their last gradients.

        >>> disagreement_variance("consensus", np.full((2, 2), 0.5), lr=0.1, curvature=[0.0], noise=[1.0])
        array([0.005])
    """
    modes = _Modes(W, curvature, noise, shifts)
    beta, gain = modes.factors("atc" if rule == "cta" else rule, lr)
    beta, gain = beta[1:], gain[1:]
    if (np.abs(beta) >= 1).any():
        raise ValueError(f"{rule} with the step size {lr:g} is not stable: its agents drift apart")
    total = lr**2 * gain**2 * (modes.r[1:] / (1 - beta**2) + modes.b[1:] ** 2 / (1 - beta) ** 2)
    return np.asarray(total.sum(axis=0) / modes.agents)


def stability_limit(rule: Rule, W: ArrayLike | csr_array, top_eigenvalue: float) -> float:
    """Compute the step size at and above which a minimum is unstable because of its curvature alone.

    It is 2 / h, and (1 + λ_min(W)) / h for consensus. Conversely, no rule can stay at a minimum whose largest
    eigenvalue is above 2 / μ, nor consensus at one above (1 + λ_min(W)) / μ.

    Args:
        rule: The update rule.
        W: Symmetric mixing matrix [K, K].
        top_eigenvalue: Largest eigenvalue h of the Hessian, above 0.

    Returns:
        The step size.

    Example:
        >>> round(stability_limit("consensus", [[0.5, 0.5], [0.5, 0.5]], 4.0), 12)
        0.25

    References:
        Tu, Sayed: Diffusion strategies outperform consensus strategies for distributed estimation over adaptive
        networks, IEEE Transactions on Signal Processing 60, 2012, doi:10.1109/TSP.2012.2217338.
    """
    return _limit(rule, _eigen(W)[0][-1], top_eigenvalue)


def _limit(rule: Rule, least: float, top_eigenvalue: float) -> float:
    return float((1 + least if rule == "consensus" else 2.0) / top_eigenvalue)
