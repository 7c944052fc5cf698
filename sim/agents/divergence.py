"""Divergence: which agents' losses have left the finite numbers, and when."""

import torch
from torch import Tensor

__all__ = ["DivergenceWatch"]


class DivergenceWatch:
    """Notices at which step each agent's loss leaves the finite numbers, without waiting for the device.

    Args:
        num_agents: N.
        like: A tensor of the type of the losses, on their device.
    """

    def __init__(self, num_agents: int, like: Tensor) -> None:
        self.first_bad = torch.zeros(num_agents, dtype=torch.int64, device=like.device)
        self.recent = like.new_zeros(num_agents, 16)
        self.steps: list[int] = []

    def add(self, losses: Tensor, step: int) -> None:
        """Take note of the losses of a step.

        Args:
            losses: [N].
            step: The step.
        """
        if len(self.steps) == self.recent.shape[1]:
            self.found()
        self.recent[:, len(self.steps)] = losses
        self.steps.append(step)

    def found(self) -> Tensor:
        """Look through the losses.

        Returns:
            The first step with a loss that is not finite, or 0, for each agent: int64 [N].
        """
        if self.steps:
            bad = ~self.recent[:, : len(self.steps)].isfinite()
            steps = torch.tensor(self.steps, device=bad.device)
            new = bad.any(1) & (self.first_bad == 0)
            self.first_bad += new * steps[bad.int().argmax(1)]
            self.steps = []
        return self.first_bad
