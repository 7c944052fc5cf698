"""Sharpness: the rise of the loss around a point, on average and at worst."""

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.scales import Scale, scales
from basinet.analysis.curvature.trace import Estimate, estimates_in_rounds
from basinet.analysis.measures.measure import Count, PointMeasure, Positive, Spread, estimated
from basinet.analysis.measures.measured import Points
from basinet.sim.run.records import Row

__all__ = [
    "PERTURBATIONS",
    "AdaptiveAverageSharpness",
    "AdaptiveSharpness",
    "AverageSharpness",
    "PacBayesSigma",
    "WorstSharpness",
    "average_sharpness",
    "pac_bayes_sigma",
    "worst_sharpness",
]

Array = NDArray[np.float64]


def average_sharpness(
    curvature: Curvature,
    keys: Tensor,
    *,
    rho: float,
    scale: Scale = "none",
    num_pairs: int = 20,
    rtol: float = 0.1,
    max_pairs: int = 60,
) -> list[Estimate]:
    r"""Measure the mean rise of the loss under Gaussian perturbations.

    $$
    S_{avg}(ρ) = E_g[J(θ + ρ s ∘ g)] - J(θ) = \tfrac{ρ²}{2} \sum_i s_i² H_{ii} + O(ρ⁴), \qquad g ∼ N(0, I) .
    $$

    Perturbations come in pairs ± g, so that the gradient does not add to the error. If few directions hold the
    curvature, the rises are skewed, and ten of them often miss the large ones: pairs are drawn in rounds until the
    relative standard error is at most `rtol`. The products that the estimates count are evaluations of the loss.

    Args:
        curvature: Provides the losses, at N points.
        keys: Keys of the perturbations, int64 [N].
        rho: Standard deviation ρ of a coordinate, in units of its scale.
        scale: The scales s of the coordinates.
        num_pairs: Pairs per round, at least 2.
        rtol: Relative standard error at which sampling stops.
        max_pairs: Number of pairs after which no further round starts.

    Returns:
        The rise at each point.

    Raises:
        ValueError: If there are fewer than 2 pairs, too few for a spread.
    """
    if num_pairs < 2:
        raise ValueError(f"num_pairs must be at least 2 to have a spread, got {num_pairs}.")
    start, radii = curvature.losses(), _radii(curvature, rho)

    def draw(pairs: range) -> Array:
        rises = _rises(curvature, start, keys, radii, scale, pairs)
        return np.asarray(curvature.objective.share.agree(rises).cpu().numpy())

    return estimates_in_rounds(draw, size=num_pairs, most=max_pairs, rtol=rtol, cost=lambda pairs: 2 * pairs + 1)


def _radii(curvature: Curvature, rho: float) -> Tensor:
    return torch.full((curvature.num_points,), rho, dtype=torch.float64, device=curvature.points.device)


def _rises(curvature: Curvature, start: Tensor, keys: Tensor, rho: Tensor, scale: Scale, pairs: range) -> Tensor:
    """Evaluate (J(θ + ρ s ∘ g) + J(θ − ρ s ∘ g)) / 2 − J(θ) for some g, [m, N]; the same g for every ρ."""
    points = curvature.points
    lengths = rho.to(points.dtype)[:, None] * scales(points, curvature.objective.shapes, scale)
    rises = []
    for pair in pairs:
        step = lengths * draws.normal(draws.fold(keys, pair), (points.shape[1],), dtype=points.dtype)
        there, opposite = (curvature.at(points + sign * step).losses() for sign in (1, -1))
        rises.append((there + opposite) / 2 - start)
    return torch.stack(rises)


def worst_sharpness(
    curvature: Curvature, keys: Tensor, *, rho: float, scale: Scale = "none", steps: int = 10
) -> Tensor:
    r"""Measure the largest rise of the loss within a ball, by gradient ascent.

    $$
    S_{max}(ρ) = \max_{‖e‖ ≤ ρ} J(θ + s ∘ e) - J(θ), \qquad e ← ρ \, \frac{s ∘ ∇J(θ + s ∘ e)}{‖s ∘ ∇J(θ + s ∘ e)‖} .
    $$

    The first step, from e = 0, is that of SAM (Foret et al., ICLR 2021, arXiv:2010.01412), or of ASAM with the
    adaptive scale (Kwon et al., ICML 2021, arXiv:2102.11600). At a minimum the gradient carries little information, so
    a second ascent starts at a random e. On a quadratic the steps are a power iteration; the best point visited counts.
    The result is a lower bound of the maximum.

    Args:
        curvature: Provides losses and gradients, at N points.
        keys: Keys of the random starts, int64 [N].
        rho: Radius ρ of the ball, in units of the scales.
        scale: The scales s of the coordinates.
        steps: Steps of each of the two ascents; with 1 the first is SAM's.

    Returns:
        The largest rise found at each point, not below 0, [N] in float64.

    Raises:
        ValueError: If `steps` is below 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}.")
    points = curvature.points
    lengths = scales(points, curvature.objective.shapes, scale)
    start = curvature.losses()
    best = torch.zeros_like(start)
    random = draws.normal(keys, (points.shape[1],), dtype=points.dtype)
    for first in (torch.zeros_like(points), rho * nn.functional.normalize(random, dim=1)):
        offset = first
        for step in range(steps + 1):
            there = curvature.at(points + lengths * offset)
            best = torch.maximum(best, there.losses() - start)
            if step < steps:
                offset = rho * nn.functional.normalize(lengths * there.gradients(), dim=1, eps=1e-30)
    return best


def pac_bayes_sigma(
    curvature: Curvature,
    keys: Tensor,
    *,
    target: float = 0.1,
    scale: Scale = "none",
    num_pairs: int = 8,
    bisections: int = 13,
) -> Tensor:
    r"""Find the standard deviation of Gaussian perturbations under which the mean loss rises by a given amount.

    $$
    σ^* = \max \{ σ : E_g[J(θ + σ s ∘ g)] - J(θ) ≤ \mathrm{target} \} .
    $$

    By bisection of log σ between 1e-6 and 10 with the same directions throughout, to one part in 500 for these
    directions; their choice adds a standard error of up to 25 % if a single direction holds the curvature. 1 / σ*² is
    the flatness term of a PAC-Bayes bound (Jiang et al.: Fantastic generalization measures and where to find them,
    ICLR 2020, arXiv:1912.02178; with the adaptive scale its magnitude-aware form).

    Args:
        curvature: Provides the losses, at N points.
        keys: Keys of the perturbations, int64 [N].
        target: The rise.
        scale: The scales s of the coordinates.
        num_pairs: Number of pairs of perturbations.
        bisections: Number of times the interval is halved.

    Returns:
        σ* at each point, [N] in float64; 10 if no smaller one reaches the target.
    """
    start = curvature.losses()
    low, high = (_radii(curvature, log) for log in (np.log(1e-6), np.log(10.0)))
    for _ in range(bisections):
        middle = (low + high) / 2
        risen = _rises(curvature, start, keys, middle.exp(), scale, range(num_pairs)).mean(0)
        # NaN, as from a loss that overflows, counts as risen.
        below = risen <= target
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return ((low + high) / 2).exp()


PERTURBATIONS = 3
"""Separates the draws of perturbations from others."""


class AverageSharpness(PointMeasure):
    """Mean rise of the loss under Gaussian perturbations.

    With g ∼ N(0, I): ``S = E_g J(x + ρ g) − J(x)``.

    Args:
        deviation: Standard deviation ρ of a coordinate of the perturbation.
        pairs: Pairs ± g per round; rounds are drawn until the standard error is small enough, up to 60 pairs.

    References:
        Zhu et al.: Decentralized SGD and average-direction SAM are asymptotically equivalent, ICML 2023,
        arXiv:2306.02913.
    """

    label = "average sharpness"
    direction = "smaller"
    scale: ClassVar[Scale] = "none"
    trial: ClassVar = {"pairs": 2}

    def __init__(self, deviation: Positive = 0.01, pairs: Spread = 10) -> None:
        self.deviation, self.pairs = deviation, pairs

    def at(self, points: Points) -> list[Row]:
        """See `PointMeasure`."""
        keys = points.folded(PERTURBATIONS)
        found = average_sharpness(points.hessian, keys, rho=self.deviation, scale=self.scale, num_pairs=self.pairs)
        return estimated(self.name, found)


class AdaptiveAverageSharpness(AverageSharpness):
    """Mean rise of the loss under Gaussian perturbations in units of the parameters.

    With g ∼ N(0, I): ``S = E_g J(x + ρ |x| ∘ g) − J(x)``.

    Args:
        deviation: Standard deviation ρ of a coordinate of the perturbation, relative to the parameter.
        pairs: Pairs ± g per round; rounds are drawn until the standard error is small enough, up to 60 pairs.

    References:
        Kwon et al.: ASAM: Adaptive sharpness-aware minimization for scale-invariant learning of deep neural networks,
        ICML 2021, arXiv:2102.11600.
    """

    label = "adaptive average sharpness"
    scale = "adaptive"

    def __init__(self, deviation: Positive = 0.05, pairs: Spread = 10) -> None:
        super().__init__(deviation, pairs)


class WorstSharpness(PointMeasure):
    """Largest rise of the loss found in a ball (SAM).

    Within a radius ρ: ``S = max_{‖e‖≤ρ} J(x + e) − J(x)``.

    Args:
        radius: Radius ρ of the ball.
        steps: Steps of each of the two ascents.

    References:
        Foret et al.: Sharpness-aware minimization for efficiently improving generalization, ICLR 2021,
        arXiv:2010.01412.
    """

    label = "worst sharpness"
    direction = "smaller"
    scale: ClassVar[Scale] = "none"
    trial: ClassVar = {"steps": 1}

    def __init__(self, radius: Positive = 0.05, steps: Count = 10) -> None:
        self.radius, self.steps = radius, steps

    def at(self, points: Points) -> Tensor:
        """See `PointMeasure`."""
        keys = points.folded(PERTURBATIONS)
        return worst_sharpness(points.hessian, keys, rho=self.radius, scale=self.scale, steps=self.steps)


class AdaptiveSharpness(WorstSharpness):
    """Largest rise of the loss found in a ball in units of the parameters (ASAM).

    Within a radius ρ: ``S = max_{‖e‖≤ρ} J(x + |x| ∘ e) − J(x)``.

    Args:
        radius: Radius ρ of the ball, in units of the parameters.
        steps: Steps of each of the two ascents.

    References:
        Kwon et al.: ASAM: Adaptive sharpness-aware minimization for scale-invariant learning of deep neural networks,
        ICML 2021, arXiv:2102.11600.
    """

    label = "adaptive sharpness"
    scale = "adaptive"

    def __init__(self, radius: Positive = 0.5, steps: Count = 10) -> None:
        super().__init__(radius, steps)


class PacBayesSigma(PointMeasure):
    """Standard deviation of Gaussian perturbations under which the mean loss rises by a given amount.

    With g ∼ N(0, I): ``σ = max{s : E_g J(x + s g) − J(x) ≤ rise}``.

    Args:
        rise: The amount.
        pairs: Number of pairs ± g of perturbations.
        bisections: Number of times the interval of log σ is halved.

    References:
        Jiang et al.: Fantastic generalization measures and where to find them, ICLR 2020, arXiv:1912.02178.
    """

    label = "PAC-Bayes σ"
    direction = "larger"
    trial: ClassVar = {"pairs": 1, "bisections": 1}

    def __init__(self, rise: Positive = 0.1, pairs: Count = 8, bisections: Count = 13) -> None:
        self.rise, self.pairs, self.bisections = rise, pairs, bisections

    def at(self, points: Points) -> Tensor:
        """See `PointMeasure`."""
        keys, pairs = points.folded(PERTURBATIONS), self.pairs
        return pac_bayes_sigma(points.hessian, keys, target=self.rise, num_pairs=pairs, bisections=self.bisections)
