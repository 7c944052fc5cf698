"""A block: the agents that one process hosts, and the operations in terms of which strategies are written."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from basinet.algorithms.strategies import EventDriven, Strategy
from basinet.sim.agents.attendance import Attendance
from basinet.sim.agents.averages import Averages
from basinet.sim.agents.channel import Channel
from basinet.sim.agents.escape import EscapeWatch
from basinet.sim.agents.events.event_runner import EventRunner
from basinet.sim.agents.events.some_gradients import SomeGradients
from basinet.sim.agents.messages.neighbors import Neighbors
from basinet.sim.agents.oracle import Oracle
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import interchangeable
from basinet.sim.engines import EngineName
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.digest import digest
from basinet.sim.models.modules import copy_model, move_model
from basinet.sim.setup.setup import Setup

__all__ = ["Block"]


def _fingerprint(strategy: Strategy) -> object:
    """Summarise a strategy's attributes: their content, or the objects' identities where it cannot be read."""
    content, again = digest(strategy, code=False), digest(strategy, code=False)
    return content if content == again else {name: id(held) for name, held in vars(strategy).items()}


class Block:
    """The agents of one worker: their state, their step, and the operations that strategies call.

    Args:
        setup: The parts of the run.
        placement: Which rows of the full state live here.
        device: Their device.
        engine: Name of the engine, or "auto".
        threads: How many threads may be used.

    Attributes:
        x: The agents' parameters [N, P].
        num_agents: K, the number of agents of a replica, on all workers together.
        step: Number of steps taken.
        memory: The strategy's state of each agent, tensors [N, ...] by name.
        template: The model, on the run's device and in its floating type; its values are not used.
        state: Parameters, gradients and buffers.
        oracle: Computes the agents' gradients.
        channel: Carries all messages between the agents.
        attendance: Which agents take part in each step.
        escape: Records which replicas have escaped; None if not asked for.
        averages: The averages of the parameters over the steps; None if not asked for.
        events: Runs the agents of an event-driven strategy; None for others.
        evaluations: Values of each metric at the evaluations so far, if the schedule needs them: means over the
            replicas, negated where larger ones are better.
    """

    def __init__(
        self, setup: Setup, placement: Placement, device: torch.device, engine: EngineName = "auto", threads: int = 1
    ) -> None:
        self.setup = setup
        self.placement = placement
        self.task = setup.task.to(device, setup.dtype)
        self.num_agents = placement.agents
        self.step = 0
        self.memory: dict[str, Tensor] = {}
        template = setup.template()
        self._layout = setup.layout(template)
        self.template = move_model(template, device, setup.dtype)
        self.state = setup.state(self.template, len(placement.rows), device)
        self.x = self.state.parameters
        self._initialize()
        self.optimizer = setup.local_optimizer(self.state, setup.optimizer_keys(*placement.index(device)))
        self.oracle = Oracle(setup, placement, self.template, self.task, self.state, self.optimizer, engine, threads)
        self.channel = Channel(setup, placement, self.state, self.optimizer, self.oracle.threads)
        self.attendance = Attendance(setup, placement, self.channel)
        self.strategy = setup.strategy()
        self._strategy_settings = _fingerprint(self.strategy)
        self.events: EventRunner | None = None
        if isinstance(self.strategy, EventDriven):
            some = SomeGradients(setup, self.oracle, self.template, self.task, self.state)
            self.events = EventRunner(setup, placement, self.state, some, self.channel.wire)
        # Mixed rows are written over the gradients once these are used up, otherwise into a tensor of their own.
        self._gradients_used_up = True
        self._scratch: list[Tensor] = []
        average = setup.config.averaging
        self.averages = None if average is None else Averages(average.component, setup.num_steps)
        self.evaluations: dict[str, list[float]] = {}
        self.escape: EscapeWatch | None = None
        if asked := setup.config.escape:
            start = self.channel.centroid()
            self.escape = EscapeWatch(asked.component, asked.every, *start, copy_model(self.template).eval(), self.task)

    def _initialize(self) -> None:
        """Start all agents of a replica at one point: the experiment's, or a keyed draw of initial values."""
        rows = self.placement.row_replicas
        for replica in sorted(set(rows.tolist())):
            first, last = int((rows < replica).sum()), int((rows <= replica).sum())
            self.state.fill(slice(first, last), self.setup.start(replica, self._layout))

    def gradients(self) -> Tensor:
        """Draw each agent's batch and compute its gradient at x; see `Oracle.gradients`."""
        self._gradients_used_up = self.optimizer.derivative_free
        return self.oracle.gradients(self.step, self._rate)

    def _rate(self) -> float:
        """Compute the schedule's factor on the learning rate at this step."""
        return self.setup.rate_factor(self.step, self.evaluations)

    def full_gradients(self) -> Tensor:
        """Compute each agent's gradient over all of its data at x; see `Oracle.full_gradients`."""
        self._gradients_used_up = True
        return self.oracle.full_gradients(self.step)

    def adapt(self, gradients: Tensor, active: Tensor | None = None) -> None:
        """Take each agent's optimizer step, x ← adapt(x, g); the tensor from `gradients` is then used up.

        An agent whose gradient has overflowed in half precision does not step.
        """
        if any(gradients is held for held in self.memory.values()) and not self.optimizer.keeps_gradients:
            gradients = gradients.clone()
        if self.oracle.scaling is not None:
            sound = ~self.oracle.scaling.overflowed
            active = sound if active is None else active & sound
        if (present := self.attendance.present) is not None:
            active = present if active is None else active & present
        self.optimizer.step(gradients, self._rate(), active)
        self._gradients_used_up |= gradients is self.state.gradients

    def layers(self, x: Tensor) -> list[Tensor]:
        """Split rows [N, P] into the model's layers: views [N, *shape]."""
        return self.state.split(x)

    def keys(self, purpose: str) -> Tensor:
        """Return one key per agent for random draws of this step, int64 [N]."""
        return self.oracle.keys(purpose, self.step)

    def combine(self, x: Tensor, sent: int | None = None, *, truly: bool = False) -> None:
        """Mix rows with the neighbours' in place; see `Channel.combine`."""
        self.channel.combine(x, self.step, sent, truly=truly, spare=self._spare(x))

    def push(self, x: Tensor) -> None:
        """Mix rows in place with weights whose columns sum to one; see `Channel.push`."""
        self.channel.push(x, self.step, spare=self._spare(x))

    def together(self) -> AbstractContextManager[None]:
        """Send what is combined and pushed inside in one message; see `Products.together`."""
        return self.channel.products.together()

    def _spare(self, x: Tensor) -> Tensor | None:
        """Find a tensor to swap with `x`, if `x` is the block's own; views of other tensors may be held elsewhere."""
        if not any(x is own for own in (self.x, *self.memory.values())) or not interchangeable(x, self.x):
            return None
        for spare in [self.state.gradients] * self._gradients_used_up + self._scratch:
            if not any(spare is taken for taken in self.channel.products.spares):
                return spare
        self._scratch.append(torch.empty_like(self.x))
        return self._scratch[-1]

    @property
    def neighbors(self) -> Neighbors:
        """The agents' neighbours at this step, in slots."""
        return self.channel.neighbors(self.step)

    def exchange(self, messages: Tensor, sent: int | None = None) -> Tensor:
        """Send each neighbour a row and receive one from each; see `Channel.exchange`."""
        return self.channel.exchange(messages, self.step, sent)

    def broadcast(self, x: Tensor) -> Iterable[tuple[slice, Tensor]]:
        """Send all neighbours the same row, a few columns at a time; see `Channel.broadcast`."""
        return self.channel.broadcast(x, self.step)

    def average(self, x: Tensor) -> None:
        """Replace each row in place by the mean over all agents of its replica; see `Channel.average`."""
        self.channel.average(x, self.step)

    def pool(self, gradients: Tensor) -> None:
        """Replace each gradient in place by that of the union of its replica's batches; see `Channel.average`."""
        self.channel.average(gradients, self.step, self.oracle.counts())
        if self.oracle.scaling is not None:  # copies of one model skip a step together
            self.oracle.scaling.overflowed.copy_(self.channel.replicas.any(self.oracle.scaling.overflowed))

    def happen(self) -> None:
        """Let the events of a step happen, whose numbers follow; see `EventRunner.take`."""
        assert self.events is not None
        self.events.take(self._rate())
        if self.oracle.clipping is not None:
            self.oracle.clipping.computed += 1

    def _settle(self) -> None:
        """Compute the numbers behind events; see `EventRunner.settle`."""
        if self.events is not None:
            self.events.settle()

    def sent(self, replica: int) -> dict[str, float]:
        """Return the bytes that the agents of a replica have sent, and what else is known of their messages."""
        if self.events is not None:
            return self.events.clock.measurements(replica)
        return {"communicated_bytes": self.channel.bytes_sent + int(self.channel.bytes_beside[replica])}

    def advance(self, until: int) -> None:
        """Take steps.

        Args:
            until: The step to stop at.
        """
        while self.step < until:
            with self.attendance.of_step(self):
                self.strategy.step(self)
            if self.oracle.scaling is not None:
                self.oracle.scaling.update()
            if self.averages is not None:
                self._settle()
                self.averages.add(self.x, self.step)
            self.step += 1
            if self.escape is not None and self.step % self.escape.every == 0:
                self._settle()
                self.escape.look(*self.channel.centroid(), self.step)
        self._settle()
        self._check_strategy()

    @property
    def measured(self) -> Tensor:
        """What is measured of the agents, [N, P]: their parameters, or the averages of these over the steps."""
        asked = self.setup.config.averaging
        if asked is None or self.averages is None or self.averages.mean is None or not asked.evaluate:
            return self.x
        return self.averages.mean

    def _check_strategy(self) -> None:
        """Raise if the strategy has state that checkpoints do not hold."""
        name = self.setup.config.strategy.name
        if _fingerprint(self.strategy) != self._strategy_settings:
            raise ExperimentError(
                f"strategy: {name} changes its own attributes during the run; per-agent state belongs in block.memory,"
                " which checkpoints hold"
            )
        for key, value in self.memory.items():
            if not isinstance(value, Tensor) or value.shape[:1] != self.x.shape[:1]:
                shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ExperimentError(
                    f"strategy: {name} keeps memory['{key}'] of shape {shape}; allowed are tensors [N, ...]"
                    f" with a row for each of the {len(self.x)} agents here"
                )

    def state_dict(self) -> dict[str, Any]:
        """Collect everything that the next step depends on.

        Returns:
            Nested plain values; under "rows", tensors and lists whose leading axis is the agents'.
        """
        optimizer, oracle = self.optimizer.state_dict(), self.oracle.state_dict()
        events = {} if self.events is None else {"events": self.events.state_dict()}
        averages = {} if self.averages is None or self.averages.mean is None else {"averages": self.averages.mean}
        weights = self.attendance.weights[self.placement.row_replicas, self.placement.row_agents]
        return {
            "step": self.step,
            "bytes_sent": self.channel.bytes_sent,
            "bytes_beside": self.channel.bytes_beside.tolist(),
            "messages": self.channel.messages.tolist(),
            "late_steps": self.channel.disturbances.late_rows.steps,
            "engine": self.oracle.engine.name,
            "layout": self._layout,
            "optimizer": optimizer["shared"],
            "escape_steps": None if self.escape is None else self.escape.steps,
            "computed": oracle["computed"],
            "evaluations": self.evaluations,
            "measured": "parameters" if self.measured is self.x else "averages",
            "rows": {
                "parameters": self.x,
                "centroid_weights": torch.from_numpy(weights),
                "buffers": self.state.buffers,
                "memory": self.memory,
                "late": self.channel.disturbances.running_sums.late,
                "late_rows": self.channel.disturbances.late_rows.rows,
                "optimizer": optimizer["rows"],
                **oracle["rows"],
                **averages,
                **events,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of these rows from `state_dict`.

        Args:
            state: The state of these agents.
        """
        self.step = state["step"]
        self.channel.bytes_sent = state["bytes_sent"]
        self.channel.bytes_beside[:] = state.get("bytes_beside", 0)  # not in checkpoints of an earlier version
        self.channel.messages[:] = state.get("messages", 0)
        self.attendance.weigh(max(0, self.step - 1))
        rows = state["rows"]
        self.x.copy_(rows["parameters"])
        for name, buffer in self.state.buffers.items():
            buffer.copy_(rows["buffers"][name])

        def here(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.to(self.x.device, copy=True) for name, value in tensors.items()}

        self.memory.update(here(rows["memory"]))
        late = (here(rows.get(name, {})) for name in ("late", "late_rows"))
        self.channel.disturbances.load(state.get("late_steps", {}), *late)
        self.optimizer.load_state_dict({"rows": rows["optimizer"], "shared": state["optimizer"]})
        self.oracle.load_state_dict(state)
        known = state.get("evaluations", {})  # not in checkpoints of an earlier version
        self.evaluations = {name: list(values) for name, values in known.items()}
        if self.events is not None:
            self.events.load_state_dict(rows["events"], self.step)
        if self.averages is not None:
            held = rows.get("averages")
            self.averages.mean = None if held is None else held.to(self.x.device, copy=True)
        if self.escape is not None:
            self.escape.steps.copy_(state["escape_steps"])
