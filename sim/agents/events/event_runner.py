"""Runs asynchronous agents: from event to event without numbers, and then the numbers, in as few passes as can be."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from basinet.algorithms.strategies import Row
from basinet.sim.agents.events.crossing_rows import CrossingRows
from basinet.sim.agents.events.row_optimizers import RowOptimizers
from basinet.sim.agents.events.row_store import RowStore
from basinet.sim.agents.events.some_gradients import SomeGradients
from basinet.sim.agents.events.wave_numbers import Wave, WaveNumbers
from basinet.sim.agents.events.waves import Program, Task, waves
from basinet.sim.agents.messages.wire import Wire
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import StackedState
from basinet.sim.clock.event_clock import EventClock
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.setup.setup import Setup

__all__ = ["EventRunner"]

_AHEAD = 32
"""Steps whose numbers are computed together: more make hardly fewer passes."""


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
        self._programs: list[Program] = []
        self._last: dict[Row, int] = {}  # the last wave that reads each row
        self._now = 0
        self._store = RowStore(state.parameters)
        self._numbers = WaveNumbers(self._store, gradients, self._optimizers)
        self._alone = placement.workers == 1
        self._crossing = CrossingRows(placement.rank, wire)
        self._store.new([self.clock.passes[replica].x[k] for replica, k in self._places]).copy_(state.parameters)

    def take(self, rate: float) -> None:
        """Let the events of a step happen; its numbers are computed with those of others, by `settle` at the latest.

        Args:
            rate: The schedule's factor on the learning rate.
        """
        step = self.clock.step
        found = self.clock.take()
        self._programs += [Program(replica, step, rate, found[replica]) for replica in self._replicas]
        if len(self._programs) >= _AHEAD * len(self._replicas):
            self.settle()

    @torch.no_grad()
    def settle(self) -> None:
        """Compute the numbers of the steps taken so far."""
        if not self._programs:
            return
        measured = {replica: self.clock.passes[replica].parameters() for replica in self._replicas}
        found, self._programs = waves(self._programs), []
        mine = [self._mine(wave) for wave in found]
        self._last = {row: number for number, wave in enumerate(found) for task in wave for row in task.operation.reads}
        for replica in self._replicas:
            self._last |= dict.fromkeys(self.clock.passes[replica].live(), len(found))
        self._numbers.begin([wave for wave in mine if wave.rows])
        for self._now, wave in enumerate(mine):
            reads = ((task, row) for task in found[self._now] for row in task.operation.reads)
            self._carry((task.program.replica, task.operation.result.agent, row) for task, row in reads)
            if wave.rows:
                self._make_room(len(wave.rows))
                self._numbers.compute(wave)
        self._carry((replica, k, row) for replica, rows in measured.items() for k, row in enumerate(rows))
        self._store.copy([measured[replica][k] for replica, k in self._places], self._state.parameters)

    def _mine(self, tasks: Sequence[Task]) -> Wave:
        """Return this worker's part of a wave."""
        places = [self._places.get((task.program.replica, task.operation.result.agent)) for task in tasks]
        mine = sorted((row, n) for n, row in enumerate(places) if row is not None)
        return Wave([tasks[n] for _, n in mine], [row for row, _ in mine])

    def _make_room(self, count: int) -> None:
        """Make room for more rows, in the place of those that nobody needs any more."""
        if self._store.has_room(count):
            return
        needed = {row for row, number in self._last.items() if number >= self._now}
        self._store.keep(needed, count)
        self._crossing.keep(needed)

    def _carry(self, reads: Iterable[tuple[int, int, Row]]) -> None:
        """Exchange rows that agents of replicas read next with other workers."""
        if self._alone:
            return
        owner = self._owner
        every = [(row, owner[r][row.agent], owner[r][reader]) for r, reader, row in reads]
        self._make_room(len(every))
        self._crossing.carry(every, self._store)

    def state_dict(self) -> dict[str, Any]:
        """Collect what later steps depend on, by agent; the events themselves are found anew.

        Returns:
            The optimizers' states, in a list [N], and the rows that are needed, in tensors [N, P] by name.
        """
        self.settle()
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
        self._programs = []
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
