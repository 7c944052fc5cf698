"""Spoilt labels: the training data of label-flipping attackers."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from basinet.sim.data.rows import IGNORED
from basinet.sim.data.sampling import Sampler
from basinet.sim.tasks.task import Batch, Task

__all__ = ["SpoiltSampler"]


class SpoiltSampler:
    """Gives attackers wrong labels, y → C − 1 − y.

    Args:
        sampler: Draws the batches, of class labels.
        attacks: Whether each row attacks, bool [N].
        task: The task, a classification.
    """

    def __init__(self, sampler: Sampler, attacks: Tensor, task: Task) -> None:
        self.sampler = sampler
        self.attacks = attacks
        self.task = task
        self.num_classes = max(2, task.num_outputs)

    def _spoil(self, batch: Batch, rows: Tensor | slice = slice(None)) -> Batch:
        targets = self.task.targets(batch)
        attacks = self.attacks[rows].view(-1, *(1 for _ in targets.shape[1:])) & (targets != IGNORED)
        return self.task.with_targets(batch, torch.where(attacks, self.num_classes - 1 - targets, targets))

    def batch(self, step: int, size: int | None = None) -> Batch:
        """Draw the batches of a step; see `Sampler`."""
        return self._spoil(self.sampler.batch(step, size))

    def some(self, rows: np.ndarray, steps: np.ndarray) -> Batch:
        """Draw batches of some agents; see `Sampler`."""
        return self._spoil(self.sampler.some(rows, steps), torch.from_numpy(rows).to(self.attacks.device))

    def sweep(self) -> Iterator[tuple[Batch, Tensor]]:
        """Iterate once over all of the agents' data; see `Sampler`."""
        for batch, share in self.sampler.sweep():
            yield self._spoil(batch), share

    def close(self) -> None:
        """End the processes that read samples ahead, if there are any."""
        self.sampler.close()
