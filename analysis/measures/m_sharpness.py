"""m-sharpness: the rise of single batches' losses around a point."""

from collections.abc import Mapping

import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.scales import Scale
from basinet.analysis.measures.measure import Count, Needs, PointMeasure, Positive
from basinet.analysis.measures.measured import Points
from basinet.analysis.measures.sharpness import PERTURBATIONS, worst_sharpness

__all__ = ["MSharpness", "m_sharpness"]

_BATCHES = 64
"""Number of batches perturbed side by side."""


def m_sharpness(
    batches: Objective,
    points: Tensor,
    keys: Tensor,
    *,
    rho: float,
    scale: Scale = "none",
    buffers: Mapping[str, Tensor] | None = None,
) -> Tensor:
    r"""Compute the mean worst-case sharpness of single batches.

    $$
    S_m(ρ) = \frac{1}{|\mathcal{B}|} \sum_{B ∈ \mathcal{B}} \max_{‖e‖ ≤ ρ} J_B(θ + s ∘ e) - J_B(θ) ,
    $$

    by the first step of `worst_sharpness` and a second one from a random start. For small batches of m samples it
    correlates with generalization better than the sharpness of the whole loss (Foret et al., ICLR 2021,
    arXiv:2010.01412; Andriushchenko, Flammarion, ICML 2022, arXiv:2206.06232).

    Args:
        batches: The losses, whose holdings are the batches.
        points: [N, P].
        keys: Keys of the random starts, int64 [N].
        rho: Radius ρ of the ball, in units of the scales.
        scale: The scales s of the coordinates.
        buffers: Running statistics [N, ...] by name; None uses the model's own.

    Returns:
        The mean rise at each point, [N] in float64.
    """
    found = []
    statistics = batches.buffers(len(points)) if buffers is None else buffers
    for row, (point, key) in enumerate(zip(points, keys, strict=True)):
        total = torch.zeros((), dtype=torch.float64, device=points.device)
        for start in range(0, batches.samples.num_points, _BATCHES):
            rows = slice(start, min(start + _BATCHES, batches.samples.num_points))
            count = rows.stop - rows.start
            same = {name: b[row].expand(count, *b.shape[1:]) for name, b in statistics.items()}
            curvature = Curvature(batches, point.expand(count, -1), same, rows=rows)
            numbers = draws.fold(key.expand(count), torch.arange(start, rows.stop, device=points.device))
            total += worst_sharpness(curvature, numbers, rho=rho, scale=scale, steps=1).sum()
        found.append(total / batches.samples.num_points)
    return torch.stack(found)


class MSharpness(PointMeasure):
    """Largest rise of a single batch's loss found in a ball, averaged over batches.

    Over the batches B of m samples: ``S = mean_B max_{‖e‖≤ρ} J_B(x + e) − J_B(x)``.

    Args:
        radius: Radius ρ of the ball.
        samples: m, samples per batch.

    References:
        Foret et al.: Sharpness-aware minimization for efficiently improving generalization, ICLR 2021,
        arXiv:2010.01412.
    """

    name = "m_sharpness"
    label = "m-sharpness"
    direction = "smaller"
    needs = Needs(samples=True)

    def __init__(self, radius: Positive = 0.05, samples: Count = 32) -> None:
        self.radius, self.samples = radius, samples

    def at(self, points: Points) -> Tensor:
        """See `PointMeasure`."""
        hessian, keys = points.hessian, points.folded(PERTURBATIONS)
        objective, size = hessian.objective, self.samples
        values = []
        for k in range(hessian.num_points):
            places = objective.samples.places(hessian.rows.start + k)
            # An incomplete last batch is dropped: it would weigh as much as a full one.
            batches = [places[start : start + size] for start in range(0, len(places) - size + 1, size)] or [places]
            losses = Objective(
                objective.model, objective.loss, objective.samples.data, holdings=batches, share=objective.share
            )
            buffers = {name: b[k : k + 1] for name, b in hessian.buffers.items()}
            point = hessian.points[k : k + 1]
            values.append(m_sharpness(losses, point, keys[k : k + 1], rho=self.radius, buffers=buffers))
        return torch.cat(values)
