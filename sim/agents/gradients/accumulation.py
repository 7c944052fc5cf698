"""Accumulation: the gradient of a batch from micro-batches, one after another."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.sim.tasks import Batch, Task

__all__ = ["MicroBatches"]


class MicroBatches:
    """Computes passes over a batch in parts, and sums them up to that over the whole batch.

    The mean over a batch is the sum of the means over its parts, each weighted by its share of what counts. Running
    statistics are updated by each part, and draws inside the model are its own.

    Args:
        count: Number of parts of a usual batch.
        batch_size: Samples of such a batch.
        task: Knows which labels count.
        gradients: Where the engine writes the gradients, [N, P].
    """

    def __init__(self, count: int, batch_size: int, task: Task, gradients: Tensor) -> None:
        self._count = count
        self._batch_size = batch_size
        self._task = task
        self._gradients = gradients
        self._sum: Tensor | None = None

    def run(
        self, verb: Callable[[Batch, Tensor], Tensor], batch: Batch, keys: Tensor, *, differentiate: bool
    ) -> Tensor:
        """Run a pass over a batch, a part at a time.

        Args:
            verb: The engine's pass.
            batch: Tensors [N, B, ...].
            keys: One key per agent for the draws inside the model, int64 [N].
            differentiate: Whether the pass writes gradients.

        Returns:
            Losses [N].
        """
        mean = torch.zeros_like(self._gradients[:, 0])
        if differentiate:
            self._sum = torch.zeros_like(self._gradients) if self._sum is None else self._sum.zero_()
        for number, (part, share) in enumerate(self._parts(batch)):
            mean += share * verb(part, draws.fold(keys, number))
            if self._sum is not None:
                self._sum.addcmul_(self._gradients, share[:, None])
        if self._sum is not None:
            self._gradients.copy_(self._sum)
        return mean

    def _parts(self, batch: Batch) -> Iterator[tuple[Batch, Tensor]]:
        """Cut a batch into parts, with each agent's share of what counts, [N]."""
        size = batch[0].shape[1]
        count = min(size, math.ceil(self._count * size / self._batch_size))
        cut = [t.tensor_split(count, dim=1) for t in batch]
        parts = [tuple(pieces) for pieces in zip(*cut, strict=True)]
        weights = torch.stack([self._weight(part) for part in parts]).to(self._gradients)
        yield from zip(parts, weights / weights.sum(0).clamp(min=1), strict=True)

    def _weight(self, part: Batch) -> Tensor:
        """Count what counts in each agent's part, [N]."""
        targets = part[-1]
        counts = self._task.counts(targets.flatten(0, 1))
        agents, size = targets.shape[:2]
        return targets.new_full((agents,), size) if counts is None else counts.view(agents, size).sum(1)
