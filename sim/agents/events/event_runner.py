"""Runs asynchronous agents: from event to event without numbers, and then the numbers, in as few passes as can be."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from basinet.algorithms.strategies import Row
from basinet.sim.agents.events.crossing_rows import CrossingRows
from basinet.sim.agents.events.row_optimizers import RowOptimizers
from basinet.sim.agents.events.row_store import RowStore
from basinet.sim.agents.events.some_gradients import SomeGradients
from basinet.sim.agents.events.waves import Wave, waves
from basinet.sim.agents.messages import sparse_products
from basinet.sim.agents.messages.wire import Wire
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import StackedState
from basinet.sim.clock.event_clock import EventClock
from basinet.sim.clock.row_operations import Adapt, Gradient, Mix, Operation
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.setup.setup import Setup

__all__ = ["EventRunner"]


class EventRunner:
    """Takes the steps of agents that act at events.

    All workers follow the events of all replicas. Each computes the numbers of its own agents, wave by wave, and sends
    them to the workers that need them in the next.

    Args:
        setup: The parts of the run.
        placement: Which rows live here.
        state: Their state; its parameters are those that are measured.
        gradients: Computes gradients of some agents.
        wire: Carries rows to other workers.

    Attributes:
        clock: The events.

    Raises:
        ExperimentError: The optimizer asks for batches of its own sizes.
    """

    def __init__(
        self, setup: Setup, placement: Placement, state: StackedState, gradients: SomeGradients, wire: Wire
    ) -> None:
        self._setup = setup
        self._state = state
        self._gradients = gradients
        self._optimizers = RowOptimizers(setup, state, setup.optimizer_keys(*placement.index(state.parameters.device)))
        if self._optimizers.asks_for_batches:
            raise ExperimentError(
                f"optimizer: {setup.config.optimizer.name} asks for batches of its own sizes at steps of all agents,"
                f" and {setup.config.strategy.name} has none; allowed are optimizers that take batches as they are"
            )
        self._rank = placement.rank
        self._owner = placement.owner.reshape(placement.replicas, placement.agents).tolist()
        self._replicas = np.unique(placement.row_replicas).tolist()
        pairs = zip(placement.row_replicas.tolist(), placement.row_agents.tolist(), strict=True)
        self._places = {pair: n for n, pair in enumerate(pairs)}
        self.clock = EventClock(setup)
        self._store = RowStore(state.parameters)
        self._crossing = CrossingRows(placement.rank, wire)
        self._store.new([self.clock.passes[replica].x[k] for replica, k in self._places]).copy_(state.parameters)

    @torch.no_grad()
    def take(self, rate: float) -> None:
        """Take a step.

        Args:
            rate: The schedule's factor on the learning rate.
        """
        step = self.clock.step
        found = self.clock.take()
        programs = [(replica, found[replica]) for replica in self._replicas]
        measured = {replica: self.clock.passes[replica].parameters() for replica in self._replicas}
        self._make_room(programs, measured)
        for wave in waves(programs):
            self._compute(wave, step, rate)
        self._carry((replica, k, row) for replica, rows in measured.items() for k, row in enumerate(rows))
        self._store.copy([measured[replica][k] for replica, k in self._places], self._state.parameters)

    def _make_room(
        self, programs: Sequence[tuple[int, Sequence[Operation]]], measured: Mapping[int, Sequence[Row]]
    ) -> None:
        """Make room for the results of a step, whose events have happened already, and for what others send."""
        count = sum(len(operations) for _, operations in programs)
        reads = {row for _, operations in programs for operation in operations for row in operation.reads}
        reads.update(row for rows in measured.values() for row in rows)
        if self._store.has_room(count + len(reads)):
            return
        needed = {row for replica in self._replicas for row in self.clock.passes[replica].live()} | reads
        self._store.keep(needed, count + len(reads))
        self._crossing.keep(needed)

    def _carry(self, reads: Iterable[tuple[int, int, Row]]) -> None:
        """Exchange rows that agents of replicas read next with other workers."""
        owner = self._owner
        self._crossing.carry(((row, owner[r][row.agent], owner[r][reader]) for r, reader, row in reads), self._store)

    def _compute(self, wave: Wave, step: int, rate: float) -> None:
        """Compute the results of a wave."""
        pairs = [(r, operation.result.agent) for r, operation in zip(wave.replicas, wave.operations, strict=True)]
        every = list(zip(pairs, wave.operations, strict=True))
        self._carry((*pair, row) for pair, operation in every for row in operation.reads)
        mine = [(self._places[pair], operation) for pair, operation in every if pair in self._places]
        mine.sort(key=itemgetter(0))
        rows, operations = [row for row, _ in mine], [operation for _, operation in mine]
        if not operations:
            return
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
        weights = own.new_tensor([weight for operation in operations for weight in operation.weights])
        others = self._store.numbers[self._store.places([row for o in operations for row in o.others])]
        changes = (others - own[receivers]).mul_(weights[:, None])
        self._store.new([o.result for o in operations]).copy_(own.index_add(0, receivers, changes))

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
                if (replica, row.agent) in self._places:
                    pairs.append((self._places[replica, row.agent], row))
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
        live = self._live()
        self._store.keep((), sum(map(len, live.values())))
        self._crossing.keep(())
        for name, pairs in live.items():
            if pairs:
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
