"""The numbers of waves: gradients, optimizer steps and combinations of rows in a store."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from basinet.sim.agents.events.row_optimizers import RowOptimizers
from basinet.sim.agents.events.row_store import RowStore
from basinet.sim.agents.events.some_gradients import SomeGradients
from basinet.sim.agents.events.waves import Task
from basinet.sim.agents.messages import sparse_products
from basinet.sim.clock.row_operations import Adapt, Evaluation, Gradient, Mix, Step
from basinet.sim.tasks import Batch

__all__ = ["Wave", "WaveNumbers"]


class Wave(NamedTuple):
    """A worker's part of what is computed at once.

    Attributes:
        tasks: Operations of one kind.
        rows: The agents' rows in the block, in ascending order.
    """

    tasks: Sequence[Task]
    rows: Sequence[int]


class WaveNumbers:
    """Computes waves.

    Args:
        store: The rows that are read, with room for results.
        gradients: Computes gradients of some agents.
        optimizers: The agents' optimizers.
    """

    def __init__(self, store: RowStore, gradients: SomeGradients, optimizers: RowOptimizers) -> None:
        self._store = store
        self._gradients = gradients
        self._optimizers = optimizers
        self._batches: Iterator[Batch] = iter(())

    def begin(self, waves: Sequence[Wave]) -> None:
        """Say which waves will be computed, in turn.

        Args:
            waves: The waves.
        """
        passes = [_pass_of(wave) for wave in waves if wave.tasks[0].operation.kind == Evaluation.kind]
        self._batches = self._gradients.batches(passes)

    def compute(self, wave: Wave) -> None:
        """Compute the results of the next wave.

        Args:
            wave: Operations of one kind.
        """
        tasks, rows = wave
        operations: list[Any] = [task.operation for task in tasks]
        kind = operations[0].kind
        if kind == Mix.kind:
            self._mix(operations)
        elif kind == Adapt.kind:
            self._adapt(tasks, rows, self._store.read([operation.gradient for operation in operations]))
        else:
            self._store.copy([operation.x for operation in operations], self._gradients.points(len(rows)))
            found = self._gradients.compute(*_pass_of(wave), next(self._batches), [t.program.step for t in tasks])
            later = [n for n, operation in enumerate(operations) if isinstance(operation, Gradient)]
            if later:
                self._store.new([operations[n].result for n in later]).copy_(found[later])
            now = [n for n, operation in enumerate(operations) if isinstance(operation, Step)]
            self._adapt([tasks[n] for n in now], [rows[n] for n in now], found[now] if later else found)

    def _adapt(self, tasks: Sequence[Task], rows: Sequence[int], gradients: Tensor) -> None:
        """Let agents step, those of one rate at once."""
        rates = [task.program.rate for task in tasks]
        for rate in sorted({*rates}):
            some = [n for n, own in enumerate(rates) if own == rate]
            operations: list[Any] = [tasks[n].operation for n in some]
            x = self._store.new([o.result for o in operations], [o.x for o in operations])
            parts = gradients if len(some) == len(rates) else gradients[some]
            self._optimizers.step([rows[n] for n in some], x, parts, rate)

    def _mix(self, operations: Sequence[Mix]) -> None:
        own = self._store.read([operation.own for operation in operations])
        if own.device.type == "cpu":
            numbers, entries = self._store.numbers.numpy(), _padded(operations, self._store)
            out, ones = self._store.new([o.result for o in operations]), np.ones(len(own), numbers.dtype)
            sparse_products.mix(*entries, numbers, own.numpy(), ones, out.numpy(), False)
            return
        counts = torch.tensor([len(operation.others) for operation in operations])
        receivers = torch.repeat_interleave(counts).to(own.device)
        weights = own.new_tensor([weight for operation in operations for weight in operation.weights])
        others = self._store.numbers[self._store.index([row for o in operations for row in o.others])]
        changes = (others - own[receivers]).mul_(weights[:, None])
        self._store.new([o.result for o in operations]).copy_(own.index_add(0, receivers, changes))


def _pass_of(wave: Wave) -> tuple[np.ndarray, np.ndarray]:
    """Return the agents' rows in the block, and the numbers of their batches."""
    operations: list[Any] = [task.operation for task in wave.tasks]
    return np.array(wave.rows), np.array([operation.batch for operation in operations])


def _padded(operations: Sequence[Mix], store: RowStore) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Describe combinations as `sparse_products.pad` does: where they start, their rows' places, and weights."""
    rows, weights, starts = [], [], [0]
    for operation in operations:
        odd = len(operation.others) % 2
        rows += [*operation.others, *operation.others[:odd]]
        weights += [*operation.weights, *(0.0,) * odd]
        starts.append(len(rows))
    return np.array(starts), np.array(store.places(rows)), np.array(weights, store.numbers.numpy().dtype)
