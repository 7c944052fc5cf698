"""A valley with ripples: nonconvex, with one stationary point and a gradient that does not vanish far away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from basinet.sim.tasks.landscapes.landscape import Landscape, gradient_noise, gradient_shifts, still_sample
from basinet.sim.tasks.task import TASKS


@dataclass(frozen=True, kw_only=True)
class Ripples(Landscape):
    """J(w) = Σ_i [√(1 + w_i²) − 1 + ½ sin² w_i], minimal at 0.

    Per coordinate, |J″| ≤ 2, |J‴| ≤ 2.9 and J′ → ±1 + ½ sin 2w; the gradient is zero only at 0. With functions whose
    gradient vanishes at infinity, such as log(1 + w²), divergence would look like convergence.
    """

    def value(self, w: Tensor) -> Tensor:
        """Compute J.

        Args:
            w: Points, [..., M].

        Returns:
            Tensor [...].
        """
        return ((1 + w.square()).sqrt() - 1 + 0.5 * w.sin().square()).sum(-1)

    @staticmethod
    def gradient(w: Tensor) -> Tensor:
        """Compute ∇J.

        Args:
            w: Points, [..., M].

        Returns:
            Tensor [..., M].
        """
        return w * (1 + w.square()).rsqrt() + 0.5 * (2 * w).sin()


@TASKS.register()
def ripples(
    *,
    dimension: Annotated[int, Field(ge=1, le=10**7)] = 10,
    noise: float | Sequence[float] | Mapping[str, Any] = 1.0,
    heterogeneity: Annotated[float, Field(ge=0)] = 0.0,
    num_agents: int = 1,
    seed: int = 0,
) -> Ripples:
    """Build a nonconvex landscape for measuring rates of convergence to a stationary point.

    J(w) = Σ_i [√(1 + w_i²) − 1 + ½ sin² w_i]. The gradient of one sample is ∇J(w) + b_k + s.

    Args:
        dimension: Number of coordinates M.
        noise: Variances of the coordinates of s, M numbers or one for all; or noise of another law, as attributes of
            `basinet.sim.tasks.Noise` by name.
        heterogeneity: Standard deviation of the gradient shifts b_k of the agents, before they are centred.
        num_agents: Number of agents K; the simulator supplies it.
        seed: Seed of the shifts; the simulator supplies it.

    Returns:
        A task with the attributes `noise_covariance` and `shifts`.

    Example:
        >>> task = ripples(dimension=10)
        >>> round(task.value(torch.full((10,), 3.0)).item(), 2)
        21.72
    """
    return Ripples(
        train=still_sample(dimension),
        num_outputs=dimension,
        origin=torch.zeros(dimension, dtype=torch.float64),
        **gradient_noise(noise, dimension),
        shifts=gradient_shifts(heterogeneity, num_agents, dimension, seed),
    )
