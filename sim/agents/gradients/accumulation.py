"""Accumulation: the gradient of a batch from micro-batches, one after another."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.sim.data.nests import leaves, map_nest
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
            batch: A nest of tensors [N, B, ...].
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
        size = leaves(batch)[0].shape[1]
        count = min(size, math.ceil(self._count * size / self._batch_size))
        bounds = [size * number // count for number in range(count + 1)]
        parts = [map_nest(lambda t, a=a, b=b: t[:, a:b], batch) for a, b in pairwise(bounds)]
        weights = torch.stack([self._weight(part, b - a) for part, (a, b) in zip(parts, pairwise(bounds), strict=True)])
        total = weights.sum(0)
        yield from zip(parts, weights / total.where(total > 0, 1), strict=True)

    def _weight(self, part: Batch, size: int) -> Tensor:
        """Sum the weights of each agent's part, [N]."""
        agents = self._gradients[:, 0]
        counts = self._task.counts(map_nest(lambda t: t.flatten(0, 1), part))
        if counts is None:
            return torch.full_like(agents, size)
        return counts.view(len(agents), size).sum(1).to(agents.dtype)
