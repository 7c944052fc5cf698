"""Clipping of each agent's gradient."""

import math

import torch
from torch import Tensor

from basinet.sim.experiment.training import ClippingPart

__all__ = ["Clipping"]

_LEAST = 1e-6
"""Added to the norm, as in torch's `clip_grad_norm_`."""


class Clipping:
    """Clips the gradients, and counts the clipped ones on the device.

    Args:
        asked: What to clip at.
        num_agents: N.
        device: Where the gradients are.

    Attributes:
        clipped: Number of clipped gradients of each agent since the last evaluation, int64 [N].
        computed: Number of gradients of each agent since then.
    """

    def __init__(self, asked: ClippingPart, num_agents: int, device: torch.device) -> None:
        self._asked = asked
        self.clipped = torch.zeros(num_agents, dtype=torch.int64, device=device)
        self.computed = 0

    def clip(self, gradients: Tensor, rows: Tensor | slice = slice(None)) -> None:
        """Clip agents' gradients in place.

        Args:
            gradients: [n, P].
            rows: Whose they are; by default all agents'.
        """
        norm, value = self._asked.norm, self._asked.value
        if norm is not None:
            factors = norm / (torch.linalg.vector_norm(gradients, dim=1) + _LEAST)
            gradients.mul_(factors.clamp(max=1)[:, None])
            self.clipped[rows] += factors < 1
        if value is not None:
            self.clipped[rows] += torch.linalg.vector_norm(gradients, math.inf, dim=1) > value
            gradients.clamp_(-value, value)
        self.computed += isinstance(rows, slice)

    def reset(self) -> None:
        """Count anew."""
        self.clipped.zero_()
        self.computed = 0
