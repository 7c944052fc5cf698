"""Runs asynchronous agents: from event to event without numbers, and then the numbers, in as few passes as can be."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from basinet.algorithms.strategies import Row
from basinet.sim.agents.events.row_store import RowStore
from basinet.sim.agents.events.some_gradients import SomeGradients
from basinet.sim.agents.events.waves import Wave, waves
from basinet.sim.agents.messages import sparse_products
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import StackedState
from basinet.sim.clock.event_clock import EventClock
from basinet.sim.clock.row_operations import Adapt, Gradient, Mix
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
        optimizers: The optimizer of each agent.

    Raises:
        ExperimentError: This worker has a part of a replica only.
    """

    def __init__(self, setup: Setup, placement: Placement, state: StackedState, gradients: SomeGradients) -> None:
        if not placement.whole:
            raise ExperimentError(
                f"strategy: the agents of {setup.config.strategy.name} act at events, whose numbers one worker computes for"
                f" a whole replica; allowed are at most {placement.replicas} workers, and as many replicas on each"
            )
        self._setup = setup
        self._placement = placement
        self._state = state
        self._gradients = gradients
        self._replicas = np.unique(placement.row_replicas).tolist()
        self._first = {replica: n * placement.agents for n, replica in enumerate(self._replicas)}
        keys = setup.optimizer_keys(*placement.index(state.parameters.device))
        self.optimizers = [
            setup.local_optimizer(state.part(slice(n, n + 1)), keys[n : n + 1]) for n in range(len(placement.rows))
        ]
        if any(optimizer.next_batch_size is not None for optimizer in self.optimizers):
            raise ExperimentError(
                f"optimizer: {setup.config.optimizer.name} asks for batches of its own sizes, at steps of all agents together,"
                f" and those of {setup.config.strategy.name} each are at their own; allowed are others"
            )
        self.clock = EventClock(setup)
        self._store = RowStore(state.parameters)
        for replica in self._replicas:
            self._store.put(self.clock.passes[replica].x, state.parameters[self._rows_of(replica)])

    def _rows_of(self, replica: int) -> slice:
        return slice(self._first[replica], self._first[replica] + self._placement.agents)

    @torch.no_grad()
    def take(self, rate: float) -> None:
        """Take a step.

        Args:
            rate: The schedule's factor on the learning rate.
        """
        step = self.clock.step
        operations = self.clock.take()
        live = {row for replica in self._replicas for row in self.clock.passes[replica].live()}
        for wave in waves([(replica, operations[replica]) for replica in self._replicas]):
            self._compute(wave, step, rate)
            self._store.drop(row for row in wave.last if row not in live)
        self._store.drop([row for row in self._store.rows if row not in live])
        for replica in self._replicas:
            self._state.parameters[self._rows_of(replica)] = self._store.take(self.clock.passes[replica].parameters())

    def _compute(self, wave: Wave, step: int, rate: float) -> None:
        """Compute the results of a wave."""
        agents = [self._first[r] + o.result.agent for r, o in zip(wave.replicas, wave.operations, strict=True)]
        order = np.argsort(agents, kind="stable").tolist()
        rows = [agents[place] for place in order]
        operations = [wave.operations[place] for place in order]
        if isinstance(operations[0], Gradient):
            numbers = self._differentiate(cast(list[Gradient], operations), rows, step)
        elif isinstance(operations[0], Adapt):
            numbers = self._adapt(cast(list[Adapt], operations), rows, rate)
        else:
            numbers = self._mix(cast(list[Mix], operations))
        self._store.put([operation.result for operation in operations], numbers)

    def _differentiate(self, operations: Sequence[Gradient], rows: list[int], step: int) -> Tensor:
        points, device = self._store.take([operation.point for operation in operations]), self._state.parameters.device
        batches = torch.tensor([operation.step for operation in operations], device=device)
        return self._gradients.at(points, torch.tensor(rows, device=device), batches, step)

    def _adapt(self, operations: Sequence[Adapt], rows: list[int], rate: float) -> Tensor:
        x, places = self._state.parameters, torch.tensor(rows, device=self._state.parameters.device)
        x.index_copy_(0, places, self._store.take([operation.x for operation in operations]))
        gradients = self._store.take([operation.gradient for operation in operations])
        for row, gradient in zip(rows, gradients.split(1), strict=True):
            self.optimizers[row].step(gradient, rate)
        return x.index_select(0, places)

    def _mix(self, operations: Sequence[Mix]) -> Tensor:
        own = self._store.take([operation.own for operation in operations])
        lengths = [len(operation.others) for operation in operations]
        columns = self._store.places([row for operation in operations for row in operation.others]).long()
        weights = torch.tensor([weight for operation in operations for weight in operation.weights], dtype=own.dtype)
        if own.device.type != "cpu":
            receivers = torch.repeat_interleave(torch.tensor(lengths)).to(own.device)
            changes = (self._store.numbers[columns] - own[receivers]).mul_(weights.to(own)[:, None])
            return own.index_add(0, receivers, changes)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        shape = len(operations), len(self._store.numbers)
        matrix = csr_array((weights.double().numpy(), columns.numpy(), starts), shape=shape)
        starts, places, values = sparse_products.pad(matrix)
        out, ones = torch.empty_like(own), torch.ones(len(own), dtype=own.dtype)
        entries = starts, places, torch.from_numpy(values).to(own.dtype).numpy()
        sparse_products.mix(*entries, *(t.numpy() for t in (self._store.numbers, own, ones, out)), False)
        return out

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
                tensor[list(places)] = self._store.take(rows)
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers], "needed": found}

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
        self._store.drop(self._store.rows)
        for name, pairs in self._live().items():
            for place, row in pairs:
                self._store.put([row], state["needed"][name][place : place + 1].to(self._store.numbers))
        for optimizer, held in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(held)
