"""A one-dimensional landscape with a sharp and a flat minimum, to see which of them an algorithm prefers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from basinet.sim.tasks.landscapes.landscape import Landscape, gradient_noise, gradient_shifts, still_sample
from basinet.sim.tasks.task import TASKS


@dataclass(frozen=True, kw_only=True)
class DoubleWell(Landscape):
    """Two quartic wells that meet at the top of the barrier, w = 0 and J = 0.

    Attributes:
        minima: Positions of the sharp and the flat minimum, [2].
        depths: Depths of the two below the barrier, [2].
    """

    minima: Tensor
    depths: Tensor

    @property
    def curvatures(self) -> Tensor:
        """Second derivative at the two minima, 8 depth / minimum², [2]."""
        return 8 * self.depths / self.minima.square()

    def value(self, w: Tensor) -> Tensor:
        """Compute J.

        Args:
            w: Points, [..., 1].

        Returns:
            Tensor [...].
        """
        sharp, flat = (
            depth * ((1 - (w / place).square()).square() - 1)
            for depth, place in zip(self.depths, self.minima, strict=True)
        )
        return torch.where(w <= 0, sharp, flat).squeeze(-1)


@TASKS.register()
def double_well(
    *,
    sharp: Annotated[float, Field(gt=0)] = 6.0,
    flat: Annotated[float, Field(gt=0)] = 1.0,
    depth_sharp: Annotated[float, Field(gt=0)] = 0.5,
    depth_flat: Annotated[float, Field(gt=0)] = 0.5,
    noise: Annotated[float, Field(ge=0)] | Mapping[str, Any] = 1.0,
    heterogeneity: Annotated[float, Field(ge=0)] = 0.0,
    num_agents: int = 1,
    seed: int = 0,
) -> DoubleWell:
    """Build a landscape of one coordinate with a sharp minimum at −a and a flat one at b.

    With the depth D_s and curvature h_s of the sharp well, and D_f and h_f of the flat one,

        J(w) = D_s [(1 − (w/a)²)² − 1]  for w ≤ 0,  a = √(8 D_s / h_s),
        J(w) = D_f [(1 − (w/b)²)² − 1]  for w > 0,  b = √(8 D_f / h_f).

    J and its gradient are continuous. The gradient of one sample is J′(w) + b_k + s with s ~ N(0, noise²). By
    default a = 0.816 and b = 2: the model setting `start: -0.816` puts every agent at the sharp minimum.

    Args:
        sharp: Curvature of the sharp minimum, h_s.
        flat: Curvature of the flat minimum, h_f.
        depth_sharp: Height of the barrier above the sharp minimum, D_s.
        depth_flat: Height of the barrier above the flat minimum, D_f.
        noise: Standard deviation of the gradient of one sample; or noise of another law, as attributes of
            `basinet.sim.tasks.Noise` by name.
        heterogeneity: Standard deviation of the gradient shifts b_k of the agents, before they are centred.
        num_agents: Number of agents K; the simulator supplies it.
        seed: Seed of the shifts; the simulator supplies it.

    Returns:
        A task with the attributes `minima`, `depths`, `curvatures`, `noise_covariance` and `shifts`.

    Example:
        >>> task = double_well(sharp=4.0, flat=1.0)
        >>> task.minima.tolist(), task.value(task.minima[:, None]).tolist()
        ([-1.0, 2.0], [-0.5, -0.5])
    """
    depths = torch.tensor([depth_sharp, depth_flat], dtype=torch.float64)
    distances = (8 * depths / torch.tensor([sharp, flat], dtype=torch.float64)).sqrt()
    return DoubleWell(
        train=still_sample(1),
        num_outputs=1,
        origin=torch.zeros(1, dtype=torch.float64),
        **gradient_noise(noise if isinstance(noise, Mapping) else noise**2, 1),
        shifts=gradient_shifts(heterogeneity, num_agents, 1, seed),
        minima=distances * torch.tensor([-1.0, 1.0], dtype=torch.float64),
        depths=depths,
    )
