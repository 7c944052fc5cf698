"""Relative flatness: curvature in units of the weights, invariant under rescaling of layers."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.algorithms import draws
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.scales import split
from basinet.analysis.curvature.trace import Estimate, estimates_in_rounds
from basinet.analysis.measures.measure import Needs, PointMeasure, Spread, estimated
from basinet.analysis.measures.measured import Points
from basinet.sim.run.records import Row

__all__ = ["RelativeFlatness", "relative_flatness"]

Array = NDArray[np.float64]


def relative_flatness(
    curvature: Curvature, keys: Tensor, *, num_probes: int = 20, rtol: float = 0.1, max_probes: int = 40
) -> list[Estimate]:
    r"""Measure the relative flatness, summed over the layers that have a weight matrix.

    $$
    κ = \sum_l \sum_{s, s'} ⟨w_s, w_{s'}⟩ \, \mathrm{Tr} H_{s s'} = E[vᵀ H v], \qquad v_l = W_l R_l ,
    $$

    where w_s are the rows of W_l [out, in · kernel] and H_{ss'} is the block of their second derivatives; R_l are
    random signs, independent between layers, so that one product serves all layers. It is invariant under rescaling of
    the layers of a ReLU network.

    Args:
        curvature: The Hessians, at N points.
        keys: Keys of the signs, int64 [N].
        num_probes: Probes per round, at least 2; each costs one product. Rounds are drawn as in `average_sharpness`.
        rtol: Relative standard error at which probing stops.
        max_probes: Number of probes after which no further round starts.

    Returns:
        The relative flatness at each point; smaller is flatter.

    Raises:
        ValueError: If there are fewer than 2 probes, or no layer has a weight matrix.

    References:
        Petzka, Kamp, Adilova, Sminchisescu, Boley: Relative flatness and generalization, NeurIPS 2021,
        arXiv:2001.00939.
    """
    if num_probes < 2:
        raise ValueError(f"num_probes must be at least 2 to have a spread, got {num_probes}.")
    shapes = curvature.objective.shapes
    if not any(len(shape) > 1 for shape in shapes.values()):
        raise ValueError("Relative flatness needs a layer with a weight matrix; the model has none.")
    probe = _weighted_signs(split(curvature.points.to(torch.float64), shapes))

    def draw(numbers: range) -> Array:
        vectors = torch.stack([probe(draws.fold(keys, number)) for number in numbers])
        samples = (vectors * curvature.products(vectors)).sum(2)
        return np.asarray(curvature.objective.share.agree(samples).cpu().numpy())

    return estimates_in_rounds(draw, size=num_probes, most=max_probes, rtol=rtol, cost=lambda probes: probes)


def _weighted_signs(layers: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the map from keys [N] to the vectors v = W R of all layers, flat [N, P]."""

    def vectors(keys: Tensor) -> Tensor:
        parts = []
        for number, weight in enumerate(layers.values()):
            if weight.ndim < 3:
                parts.append(torch.zeros_like(weight))
                continue
            w = weight.flatten(2)
            size = w.shape[2]
            signs = 1.0 - 2.0 * draws.integers(draws.fold(keys, number), 2, (size, size)).to(w)
            parts.append(w @ signs)
        return torch.cat([part.reshape(len(part), -1) for part in parts], 1)

    return vectors


class RelativeFlatness(PointMeasure):
    """Relative flatness κ of Petzka et al., summed over the layers.

    With rows w_s of the weights of layer l: ``κ = Σ_l Σ_ss' ⟨w_s, w_s'⟩ Tr H_ss'``.

    Args:
        probes: Probes per round, of which there are at most three or four.

    References:
        Petzka et al.: Relative flatness and generalization, NeurIPS 2021, arXiv:2001.00939.
    """

    label = "relative flatness κ"
    heading = "relative flatness κ"
    direction = "smaller"
    needs = Needs(weights=True)
    trial: ClassVar = {"probes": 2}

    def __init__(self, probes: Spread = 10) -> None:
        self.probes = probes

    def at(self, points: Points) -> list[Row]:
        """See `PointMeasure`."""
        return estimated(self.name, relative_flatness(points.hessian, points.folded(4), num_probes=self.probes))
