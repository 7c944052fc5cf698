"""Divergence: which agents' losses have become non-finite, and when."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["DivergenceWatch"]

_NEVER = 2**62


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
        self.apart: list[tuple[np.ndarray, Tensor, Sequence[int]]] = []

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

    def add_some(self, rows: np.ndarray, losses: Tensor, steps: Sequence[int]) -> None:
        """Record losses of some agents, each in a step of its own.

        Args:
            rows: The agents' rows, int64 [n].
            losses: [n].
            steps: The steps.
        """
        if len(self.apart) == self.recent.shape[1]:
            self.found()
        self.apart.append((rows, ~losses.isfinite(), steps))

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
        if self.apart:
            rows, bad, steps = zip(*self.apart, strict=True)
            device = self.first_bad.device
            late = torch.where(torch.cat(bad), torch.from_numpy(np.concatenate(steps)).to(device), _NEVER)
            index = torch.from_numpy(np.concatenate(rows)).to(device)
            first = torch.full_like(self.first_bad, _NEVER).scatter_reduce(0, index, late, "amin")
            self.first_bad += first * ((first < _NEVER) & (self.first_bad == 0))
            self.apart = []
        return self.first_bad
