"""Loss scaling: gradients in half precision that neither underflow nor overflow."""

import math

import torch
from torch import Tensor

__all__ = ["LossScaling"]

_FIRST, _GROWTH, _BACKOFF, _INTERVAL = 2.0**16, 2.0, 0.5, 2000
"""As torch's GradScaler."""


class LossScaling:
    """A scale of each agent's loss, which follows its gradients: torch's GradScaler for every agent.

    An agent whose gradient overflows skips the step, and its scale is halved; after 2000 steps without an overflow, it
    is doubled. Nothing is read back from the device.

    Args:
        num_agents: N.
        device: Where the gradients are.

    Attributes:
        scale: Factor on each agent's loss, [N].
        steady: Number of steps since the last overflow or growth of each agent, int32 [N].
        overflowed: Whether a gradient of this step has overflowed, bool [N].
    """

    def __init__(self, num_agents: int, device: torch.device) -> None:
        self.scale = torch.full((num_agents,), _FIRST, device=device)
        self.steady = torch.zeros(num_agents, dtype=torch.int32, device=device)
        self.overflowed = torch.zeros(num_agents, dtype=torch.bool, device=device)

    def unscale(self, gradients: Tensor) -> None:
        """Divide gradients by the scale, in place; those that have overflowed become zero.

        Args:
            gradients: Gradients of the scaled losses, [N, P].
        """
        bad = ~torch.linalg.vector_norm(gradients, math.inf, dim=1).isfinite()
        gradients.mul_(self.scale.reciprocal()[:, None]).masked_fill_(bad[:, None], 0)
        self.overflowed |= bad

    def update(self) -> None:
        """Adjust the scales at the end of a step."""
        self.steady += 1
        self.steady.masked_fill_(self.overflowed, 0)
        grows = self.steady == _INTERVAL
        self.steady.masked_fill_(grows, 0)
        self.scale.mul_(torch.where(self.overflowed, _BACKOFF, torch.where(grows, _GROWTH, 1.0)))
        self.overflowed.zero_()
