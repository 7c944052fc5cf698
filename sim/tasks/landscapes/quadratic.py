"""A quadratic with gradient noise, for which everything has a closed form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from basinet.sim.tasks.landscapes.landscape import (
    Landscape,
    gradient_noise,
    gradient_shifts,
    per_coordinate,
    still_sample,
)
from basinet.sim.tasks.task import TASKS


@dataclass(frozen=True, kw_only=True)
class Quadratic(Landscape):
    """J(w) = ½ (w − w*)ᵀ H (w − w*) with a diagonal H.

    Attributes:
        curvature: The eigenvalues of H, [M].
    """

    curvature: Tensor

    @property
    def minimum(self) -> Tensor:
        """The minimum w*, [M]."""
        return self.origin

    @property
    def hessian(self) -> Tensor:
        """The Hessian H, [M, M]."""
        return torch.diag(self.curvature)

    def value(self, w: Tensor) -> Tensor:
        """Compute J, which is also the excess risk.

        Args:
            w: Points, [..., M].

        Returns:
            Tensor [...].
        """
        return 0.5 * (self.curvature * (w - self.origin).square()).sum(-1)


@TASKS.register()
def quadratic(
    *,
    dimension: Annotated[int, Field(ge=1, le=10**7)] | None = None,
    curvature: float | Sequence[float] = (2.0, 1.0, 0.2),
    noise: float | Sequence[float] | Mapping[str, Any] = 1.0,
    minimum: float | Sequence[float] = 1.0,
    heterogeneity: Annotated[float, Field(ge=0)] = 0.0,
    num_agents: int = 1,
    seed: int = 0,
) -> Quadratic:
    """Build a quadratic whose agents share the Hessian and differ in their minima.

    Agent k has J_k(w) = ½ (w − w*)ᵀ H (w − w*) + b_kᵀ(w − w*) with Σ_k b_k = 0, and the gradient of one
    sample is H(w − w*) + b_k + s with s ~ N(0, R). The coordinates are the eigenvectors of H, in which R is
    diagonal.

    Args:
        dimension: Number of coordinates M; only needed if `curvature` is one number.
        curvature: Eigenvalues of H, nonnegative: M numbers, or one for all.
        noise: Diagonal of R, the variances of the gradient of one sample: M numbers, or one for all; or noise of
            another law, as attributes of `basinet.sim.tasks.Noise` by name.
        minimum: The minimum w*: M numbers, or one for all. The model `point` starts at 0 by default.
        heterogeneity: Standard deviation of the shifts b_k ~ N(0, heterogeneity² I), before they are centred.
        num_agents: Number of agents K; the simulator supplies it.
        seed: Seed of the shifts; the simulator supplies it.

    Returns:
        A task with the attributes `minimum`, `hessian`, `noise_covariance` and `shifts`.

    Example:
        >>> task = quadratic(curvature=[2.0, 1.0], minimum=0.0)
        >>> task.value(torch.tensor([1.0, 2.0])).item()
        3.0
    """
    if dimension is None:
        dimension = max(1, len(curvature)) if isinstance(curvature, Sequence) else 1
    return Quadratic(
        train=still_sample(dimension),
        num_outputs=dimension,
        origin=per_coordinate("minimum", minimum, dimension),
        **gradient_noise(noise, dimension),
        shifts=gradient_shifts(heterogeneity, num_agents, dimension, seed),
        curvature=per_coordinate("curvature", curvature, dimension, low=0.0),
    )
