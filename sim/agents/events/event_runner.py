"""Runs asynchronous agents: from event to event without numbers, and then the numbers, in as few passes as can be."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from basinet.algorithms.strategies import Row
from basinet.sim.agents.events.row_optimizers import RowOptimizers
from basinet.sim.agents.events.row_store import RowStore
from basinet.sim.agents.events.some_gradients import SomeGradients
from basinet.sim.agents.events.waves import Wave, waves
from basinet.sim.agents.messages import sparse_products
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import StackedState
from basinet.sim.clock.event_clock import EventClock
from basinet.sim.clock.row_operations import Adapt, Gradient, Mix, Operation
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.setup.setup import Setup

__all__ = ["EventRunner"]


class EventRunner:
    """Takes the steps of agents that act at events.

    All workers follow the events of all replicas, and each computes the numbers of its own.

    Args:
        setup: The parts of the run.
        placement: Which rows live here.
        state: Their state; its parameters are those that are measured.
        gradients: Computes gradients of some agents.

    Attributes:
        clock: The events.

    Raises:
        ExperimentError: This worker has a part of a replica only.
    """

    def __init__(self, setup: Setup, placement: Placement, state: StackedState, gradients: SomeGradients) -> None:
        if not placement.whole:
            raise ExperimentError(
                f"strategy: the agents of {setup.config.strategy.name} act at events, whose numbers one worker computes"
                f" for a whole replica; allowed are at most {placement.replicas} workers, and as many replicas on each"
            )
        self._setup = setup
        self._placement = placement
        self._state = state
        self._gradients = gradients
        self._replicas = np.unique(placement.row_replicas).tolist()
        self._first = {replica: n * placement.agents for n, replica in enumerate(self._replicas)}
        self._optimizers = RowOptimizers(setup, state, setup.optimizer_keys(*placement.index(state.parameters.device)))
        if self._optimizers.asks_for_batches:
            raise ExperimentError(
                f"optimizer: {setup.config.optimizer.name} asks for batches of its own sizes at steps of all agents,"
                f" and {setup.config.strategy.name} has none; allowed are optimizers that take batches as they are"
            )
        self.clock = EventClock(setup)
        self._store = RowStore(state.parameters)
        for replica in self._replicas:
            self._store.new(self.clock.passes[replica].x).copy_(state.parameters[self._rows_of(replica)])

    def _rows_of(self, replica: int) -> slice:
        return slice(self._first[replica], self._first[replica] + self._placement.agents)

    @torch.no_grad()
    def take(self, rate: float) -> None:
        """Take a step.

        Args:
            rate: The schedule's factor on the learning rate.
        """
        step = self.clock.step
        found = self.clock.take()
        operations = [found[replica] for replica in self._replicas]
        self._make_room([operation for own in operations for operation in own])
        for wave in waves(zip(self._replicas, operations, strict=True)):
            self._compute(wave, step, rate)
        for replica in self._replicas:
            self._store.copy(self.clock.passes[replica].parameters(), self._state.parameters[self._rows_of(replica)])

    def _make_room(self, operations: Sequence[Operation]) -> None:
        """Make room for the results of a step, whose events have happened already."""
        if self._store.has_room(len(operations)):
            return
        needed = {row for replica in self._replicas for row in self.clock.passes[replica].live()}
        needed.update(row for operation in operations for row in operation.reads)
        self._store.keep(needed, len(operations))

    def _compute(self, wave: Wave, step: int, rate: float) -> None:
        """Compute the results of a wave."""
        agents = [self._first[r] + o.result.agent for r, o in zip(wave.replicas, wave.operations, strict=True)]
        order = np.argsort(agents, kind="stable").tolist()
        rows = [agents[place] for place in order]
        operations = [wave.operations[place] for place in order]
        if isinstance(operations[0], Gradient):
            self._differentiate(cast(list[Gradient], operations), rows, step)
        elif isinstance(operations[0], Adapt):
            self._adapt(cast(list[Adapt], operations), rows, rate)
        else:
            self._mix(cast(list[Mix], operations))

    def _differentiate(self, operations: Sequence[Gradient], rows: list[int], step: int) -> None:
        device = self._state.parameters.device
        batches = torch.tensor([operation.step for operation in operations], device=device)
        self._store.copy([operation.point for operation in operations], self._gradients.points(len(rows)))
        found = self._gradients.compute(torch.tensor(rows, device=device), batches, step)
        self._store.new([operation.result for operation in operations]).copy_(found)

    def _adapt(self, operations: Sequence[Adapt], rows: list[int], rate: float) -> None:
        gradients = self._store.read([operation.gradient for operation in operations])
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
        weights = torch.tensor([weight for operation in operations for weight in operation.weights]).to(own)
        others = self._store.read([row for operation in operations for row in operation.others])
        mixed = own.index_add(0, receivers, (others - own[receivers]).mul_(weights[:, None]))
        self._store.new([operation.result for operation in operations]).copy_(mixed)

    def state_dict(self) -> dict[str, Any]:
        """Collect what later steps depend on, by agent; the events themselves are found anew.

        Returns:
            The optimizers' states, in a list [N], and the rows that are needed, in tensors [N, P] by name.
        """
        found: dict[str, Tensor] = {}
        for name, pairs in self._live().items():
            tensor = found[name] = torch.zeros_like(self._state.parameters)
            if pairs:
                places, rows = zip(*pairs, strict=True)
                tensor[list(places)] = self._store.read(rows)
        return {"optimizers": self._optimizers.state_dict(), "needed": found}

    def _live(self) -> dict[str, list[tuple[int, Row]]]:
        """Return the rows of these agents that are needed, by their places among those of an agent."""
        found: dict[str, list[tuple[int, Row]]] = {}
        for replica, own in enumerate(self.clock.passes):
            count: Counter[int] = Counter()
            for row in own.live():
                pairs = found.setdefault(str(count[row.agent]), [])
                if replica in self._first:
                    pairs.append((self._first[replica] + row.agent, row))
                count[row.agent] += 1
        return found

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Restore what `state_dict` collected.

        Args:
            state: The state of these agents.
            step: The number of steps after which it was.
        """
        self.clock = EventClock(self._setup)
        self.clock.advance(step)
        self._store.keep((), sum(map(len, self._live().values())))
        for name, pairs in self._live().items():
            places, rows = zip(*pairs, strict=True)
            self._store.new(rows).copy_(state["needed"][name][list(places)])
        self._optimizers.load_state_dict(state["optimizers"])


def _padded(operations: Sequence[Mix], store: RowStore) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Describe combinations as `sparse_products.pad` does: where they start, their rows' places, and weights."""
    rows, weights, starts = [], [], [0]
    for operation in operations:
        odd = len(operation.others) % 2
        rows += [*operation.others, *operation.others[:odd]]
        weights += [*operation.weights, *(0.0,) * odd]
        starts.append(len(rows))
    values = torch.tensor(weights, dtype=store.numbers.dtype)
    return np.array(starts), store.places(rows).numpy(), values.numpy()
