"""Loss landscapes with gradient noise of a known law."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from basinet.algorithms.draws import fold, key, normal
from basinet.sim.data.gradient_noise import Noise
from basinet.sim.setup.memory import require_memory
from basinet.sim.tasks.model_outputs import fit, output_of
from basinet.sim.tasks.task import Batch, Task


@dataclass(frozen=True, kw_only=True)
class Landscape(Task):
    """A function J of M coordinates; each sample tilts it randomly.

    The loss of agent k on a sample is Q(w) = (1 + ε) J(w) + (b_k + s)ᵀ(w − origin) with fresh noise s and ε, so that
    its gradient is (1 + ε) ∇J(w) + b_k + s. By default s ~ N(0, R) and ε = 0. The training data is the one sample
    without noise: its loss is J.

    Attributes:
        origin: The point about which samples tilt, [M].
        noise: σ² of each coordinate, the diagonal of R for Gaussian noise, [M].
        law: The law of the noise.
        shifts: The gradient shift b_k of each agent, [K, M]; the rows sum to zero.
    """

    origin: Tensor
    noise: Tensor
    law: Noise = field(default_factory=Noise)
    shifts: Tensor
    model: str = "point"
    classification: bool = False

    loss_words: ClassVar[str] = "height in the landscape"

    @property
    def noise_covariance(self) -> Tensor:
        """Covariance R of the gradient of one sample where ∇J is zero, [M, M]; infinite up to a tail index of 2."""
        scaled = self.noise * self.law.variance(self.num_outputs)
        return scaled.expand(len(scaled), -1) if self.law.shape == "line" else torch.diag(scaled)

    @property
    def draw(self) -> Callable[[Tensor, Tensor, int, torch.dtype], Batch]:
        """Generator of fresh samples: inputs are zeros [N, B, 1], targets are the tilts b_k + s, [N, B, M].

        With multiplicative noise, the targets have another column, ε.
        """
        return self._sample

    def _sample(self, keys: Tensor, agents: Tensor, batch_size: int, dtype: torch.dtype) -> Batch:
        noise = self.law.vectors(keys, batch_size, self.num_outputs) * self.noise.sqrt()
        targets = self.shifts[agents].unsqueeze(1) + noise
        if self.law.multiplicative:
            targets = torch.cat([targets, self.law.factors(keys, batch_size)], dim=-1)
        targets = targets.to(dtype)
        return targets.new_zeros(len(keys), batch_size, 1), targets

    def value(self, w: Tensor) -> Tensor:
        """Compute J.

        Args:
            w: Points, [..., M].

        Returns:
            Tensor [...].
        """
        raise NotImplementedError

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Compute the loss of each sample, (1 + ε) J(w) + tiltᵀ(w − origin).

        Args:
            outputs: Points w, [B, ..., M].
            batch: Its targets are tilts, with ε as the last column for multiplicative noise, [B, ..., M or M + 1].

        Returns:
            Tensor [B, ...], not reduced.
        """
        targets: Tensor = self.targets(batch)
        tilt = targets[..., : self.num_outputs]
        outputs = fit(output_of(outputs), tilt.shape, "the model returns points")
        value: Tensor = self.value(outputs)
        if targets.shape[-1] > self.num_outputs:
            value = (1 + targets[..., -1]) * value
        tilted: Tensor = value + (tilt * (outputs - self.origin)).sum(-1)
        return tilted


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
    require_memory(16 * num_agents * dimension, "the shifts of the agents' gradients")
    keys = fold(torch.tensor(key(seed, "gradient shift")), torch.arange(num_agents))
    shifts = heterogeneity * normal(keys, (dimension,))
    return shifts - shifts.mean(0)


def gradient_noise(noise: float | Sequence[float] | Mapping[str, Any], dimension: int) -> dict[str, Any]:
    """Parse the setting of the noise.

    Args:
        noise: The variances of Gaussian noise, M numbers or one for all; or attributes of `Noise` by name.
        dimension: Number of coordinates M.

    Returns:
        The attributes `noise` and `law` of a landscape.
    """
    if not isinstance(noise, Mapping):
        return {"noise": per_coordinate("noise", noise, dimension, low=0.0), "law": Noise()}
    law = Noise.parse(noise)
    return {"noise": per_coordinate("noise.size", law.size**2, dimension), "law": law}


def per_coordinate(name: str, value: float | Sequence[float], dimension: int, *, low: float = -math.inf) -> Tensor:
    """Expand a setting to all coordinates.

    Args:
        name: The setting's name in error messages.
        value: One number for all coordinates, or one for each.
        dimension: Number of coordinates M.
        low: The smallest allowed value.

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
