"""The numbers of waves: gradients, optimizer steps and combinations of rows in a store."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from basinet.algorithms.strategies import Row
from basinet.sim.agents.events.row_optimizers import RowOptimizers
from basinet.sim.agents.events.row_store import RowStore
from basinet.sim.agents.events.some_gradients import SomeGradients
from basinet.sim.agents.events.waves import Task
from basinet.sim.agents.messages import sparse_products
from basinet.sim.clock.row_operations import Adapt, Gradient, Mix

__all__ = ["WaveNumbers"]


class WaveNumbers:
    """Computes waves.

    Args:
        store: The rows that are read, with room for results.
        gradients: Computes gradients of some agents.
        optimizers: The agents' optimizers.

    Attributes:
        fresh: The latest gradients, which are not stored before others follow: most often, they are used next.
    """

    def __init__(self, store: RowStore, gradients: SomeGradients, optimizers: RowOptimizers) -> None:
        self._store = store
        self._gradients = gradients
        self._optimizers = optimizers
        self.fresh: list[Row] = []
        self._values = store.numbers[:0]

    def compute(self, tasks: Sequence[Task], rows: list[int]) -> None:
        """Compute the results of a wave.

        Args:
            tasks: Operations of one kind.
            rows: The agents' rows in the block, in ascending order.
        """
        operations = [task.operation for task in tasks]
        if isinstance(operations[0], Gradient):
            self._differentiate(tasks, cast(list[Gradient], operations), rows)
        elif isinstance(operations[0], Adapt):
            self._adapt(cast(list[Adapt], operations), rows, tasks[0].program.rate)
        else:
            self._mix(cast(list[Mix], operations))

    def _differentiate(self, tasks: Sequence[Task], operations: Sequence[Gradient], rows: list[int]) -> None:
        self._keep_fresh()
        device = self._store.numbers.device
        batches = torch.tensor([operation.step for operation in operations], device=device)
        self._store.copy([operation.point for operation in operations], self._gradients.points(len(rows)))
        steps = [task.program.step for task in tasks]
        self._values = self._gradients.compute(torch.tensor(rows, device=device), batches, steps)
        self.fresh = [operation.result for operation in operations]

    def _keep_fresh(self) -> None:
        """Store the gradients that have not been used."""
        if self.fresh:
            self._store.new(self.fresh).copy_(self._values)
            self.fresh = []

    def _adapt(self, operations: Sequence[Adapt], rows: list[int], rate: float) -> None:
        wanted = [operation.gradient for operation in operations]
        if wanted == self.fresh:
            gradients, self.fresh = self._values, []
        else:
            self._keep_fresh()
            gradients = self._store.read(wanted)
        x = self._store.new([operation.result for operation in operations], [operation.x for operation in operations])
        self._optimizers.step(rows, x, gradients, rate)

    def _mix(self, operations: Sequence[Mix]) -> None:
        own = self._store.read([operation.own for operation in operations])
        if own.device.type == "cpu":
            entries = _padded(operations, self._store)
            out, ones = self._store.new([o.result for o in operations]), torch.ones(len(own), dtype=own.dtype)
            numbers = self._store.numbers.numpy()
            sparse_products.mix(*entries, numbers, own.numpy(), ones.numpy(), out.numpy(), False)
            return
        counts = torch.tensor([len(operation.others) for operation in operations])
        receivers = torch.repeat_interleave(counts).to(own.device)
        weights = own.new_tensor([weight for operation in operations for weight in operation.weights])
        others = self._store.numbers[self._store.places([row for o in operations for row in o.others])]
        changes = (others - own[receivers]).mul_(weights[:, None])
        self._store.new([o.result for o in operations]).copy_(own.index_add(0, receivers, changes))


def _padded(operations: Sequence[Mix], store: RowStore) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Describe combinations as `sparse_products.pad` does: where they start, their rows' places, and weights."""
    rows, weights, starts = [], [], [0]
    for operation in operations:
        odd = len(operation.others) % 2
        rows += [*operation.others, *operation.others[:odd]]
        weights += [*operation.weights, *(0.0,) * odd]
        starts.append(len(rows))
    values = np.array(weights, store.numbers.numpy().dtype)
    return np.array(starts), store.places(rows).numpy(), values
