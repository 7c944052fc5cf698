"""Spoilt labels: the training data of label-flipping attackers."""

from collections.abc import Iterator

import torch
from torch import Tensor

from basinet.sim.data.sampling import Sampler
from basinet.sim.tasks.task import IGNORED, Batch

__all__ = ["SpoiltSampler"]


class SpoiltSampler:
    """Gives attackers wrong labels, y → C − 1 − y.

    Args:
        sampler: Draws the batches, with the targets as the last tensor.
        attacks: Whether each row attacks, bool [N].
        num_classes: C.
    """

    def __init__(self, sampler: Sampler, attacks: Tensor, num_classes: int) -> None:
        self.sampler = sampler
        self.attacks = attacks
        self.num_classes = num_classes

    def _spoil(self, batch: Batch) -> Batch:
        targets = batch[-1]
        attacks = self.attacks.view(-1, *(1 for _ in targets.shape[1:])) & (targets != IGNORED)
        return *batch[:-1], torch.where(attacks, self.num_classes - 1 - targets, targets)

    def batch(self, step: int, size: int | None = None) -> Batch:
        """Draw the batches of a step; see `Sampler`."""
        return self._spoil(self.sampler.batch(step, size))

    def sweep(self) -> Iterator[tuple[Batch, Tensor]]:
        """Iterate once over all of the agents' data; see `Sampler`."""
        for batch, share in self.sampler.sweep():
            yield self._spoil(batch), share
