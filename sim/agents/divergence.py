"""Divergence: which agents' losses have become non-finite, and when."""

import torch
from torch import Tensor

__all__ = ["DivergenceWatch"]


class DivergenceWatch:
    """Records the step at which each agent's loss becomes non-finite, without a device sync.

    Args:
        num_agents: N.
        like: A tensor of the type of the losses, on their device.
    """

    def __init__(self, num_agents: int, like: Tensor) -> None:
        self.first_bad = torch.zeros(num_agents, dtype=torch.int64, device=like.device)
        self.recent = like.new_zeros(num_agents, 16)
        self.steps: list[int] = []

    def add(self, losses: Tensor, step: int) -> None:
        """Record the losses of a step.

        Args:
            losses: [N].
            step: The step.
        """
        if len(self.steps) == self.recent.shape[1]:
            self.found()
        self.recent[:, len(self.steps)] = losses
        self.steps.append(step)

    def found(self) -> Tensor:
        """Find the first non-finite losses.

        Returns:
            The first step with a non-finite loss for each agent, or 0: int64 [N].
        """
        if self.steps:
            bad = ~self.recent[:, : len(self.steps)].isfinite()
            steps = torch.tensor(self.steps, device=bad.device)
            new = bad.any(1) & (self.first_bad == 0)
            self.first_bad += new * steps[bad.int().argmax(1)]
            self.steps = []
        return self.first_bad
