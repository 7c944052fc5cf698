"""Loss landscapes over a few coordinates, with gradient noise of a known covariance."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from basinet.algorithms.draws import fold, key, normal
from basinet.sim.tasks.task import Batch, Task


@dataclass(frozen=True, kw_only=True)
class Landscape(Task):
    """A function J of M coordinates; a sample is a random tilt of it.

    The loss of agent k on a sample is Q(w) = J(w) + (b_k + s)ᵀ(w − origin) with fresh noise s ~ N(0, R), so
    that its gradient is ∇J(w) + b_k + s. The training data is the one sample without tilt: its loss is J.

    Attributes:
        origin: The point about which samples tilt, [M].
        noise: Variance of each coordinate of the gradient of one sample, the diagonal of R, [M].
        shifts: The gradient shift b_k of each agent, [K, M]; the rows sum to zero.
    """

    origin: Tensor
    noise: Tensor
    shifts: Tensor
    model: str = "point"
    classification: bool = False

    @property
    def noise_covariance(self) -> Tensor:
        """Covariance R of the gradient of one sample, [M, M]."""
        return torch.diag(self.noise)

    @property
    def draw(self) -> Callable[[Tensor, Tensor, int, torch.dtype], Batch]:
        """Fresh samples: the inputs are zeros [N, B, 1], the targets are the tilts b_k + s, [N, B, M]."""
        return self._sample

    def _sample(self, keys: Tensor, agents: Tensor, batch_size: int, dtype: torch.dtype) -> Batch:
        noise = normal(keys, (batch_size, self.num_outputs)) * self.noise.sqrt()
        targets = (self.shifts[agents].unsqueeze(1) + noise).to(dtype)
        return targets.new_zeros(len(keys), batch_size, 1), targets

    def value(self, w: Tensor) -> Tensor:
        """Compute J.

        Args:
            w: Points, [..., M].

        Returns:
            Tensor [...].
        """
        raise NotImplementedError

    def sample_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each sample, J(w) + tiltᵀ(w − origin).

        Args:
            outputs: Points w, [B, ..., M].
            targets: Tilts, [B, ..., M].

        Returns:
            Tensor [B, ...], not reduced.
        """
        return self.value(outputs) + (targets * (outputs - self.origin)).sum(-1)


def still_sample(dimension: int) -> Batch:
    """Build the one sample without tilt.

    Args:
        dimension: Number of coordinates M.

    Returns:
        Inputs [1, 1] and targets [1, M], all zero.
    """
    return torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, dimension, dtype=torch.float64)


def gradient_shifts(heterogeneity: float, num_agents: int, dimension: int, seed: int) -> Tensor:
    """Draw b_k ~ N(0, heterogeneity² I) for each agent and centre them, so that Σ_k b_k = 0.

    Args:
        heterogeneity: Standard deviation before centring.
        num_agents: Number of agents K.
        dimension: Number of coordinates M.
        seed: The experiment's seed.

    Returns:
        Tensor [K, M].
    """
    keys = fold(torch.tensor(key(seed, "gradient shift")), torch.arange(num_agents))
    shifts = heterogeneity * normal(keys, (dimension,))
    return shifts - shifts.mean(0)


def per_coordinate(name: str, value: float | Sequence[float], dimension: int, *, low: float = -math.inf) -> Tensor:
    """Spread a setting over the coordinates.

    Args:
        name: The setting, for the message of an error.
        value: One number for all coordinates, or one for each.
        dimension: Number of coordinates M.
        low: The least that a value may be.

    Returns:
        Tensor [M], float64.

    Raises:
        ValueError: If there are neither one nor M numbers, or one is too small.
    """
    vector = torch.tensor(value, dtype=torch.float64)
    if vector.numel() not in (1, dimension):
        raise ValueError(
            f"{name} has {vector.numel()} values for {dimension} coordinates; give one number or {dimension}"
        )
    if (vector < low).any():
        raise ValueError(f"{name} is {value}, but no value may be below {low:g}")
    return vector.expand(dimension).clone()
