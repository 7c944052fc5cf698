"""The data flow of a strategy: what the computations and messages of a step wait for."""

from collections.abc import Sequence
from dataclasses import dataclass

from basinet.sim.clock.tracing import Edges, Kind, TracedBlock
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.runtimes.inline import InlineTeam
from basinet.sim.setup.blame import blaming
from basinet.sim.setup.rehearsal import with_few
from basinet.sim.setup.setup import Setup
from basinet.sim.setup.spending import cycle_of, steps_to_rehearse

__all__ = ["DataFlow", "Event", "StepFlow", "Waits", "data_flow"]

Waits = tuple[tuple[int, int], ...]
"""Events that have to end before, each as its place in its step, and how many steps ago that was."""


@dataclass(frozen=True)
class Event:
    """What takes time in a step, on all agents alike.

    Attributes:
        kind: "compute", passes of an agent's batch; "exchange", a message along each edge, which an agent has when all
            that it hears have arrived; "collective", a sum over all agents.
        waits: What an agent has to have before. Beside that, an agent computes one thing after the other.
        size: Bytes of a message, those of one agent's row.
        edges: Along which edges it travels: "graph", those of the mixing weights; "reverse", those of the weights whose
            columns sum to one; "server" for a collective.
        share: How many passes of a batch are computed.
    """

    kind: Kind
    waits: Waits
    size: int = 0
    edges: Edges | None = None
    share: float = 0.0


@dataclass(frozen=True)
class StepFlow:
    """The data flow of a step.

    Attributes:
        events: Its events, in the order in which the strategy calls them.
        result: What an agent's parameters at the end of the step wait for.
    """

    events: tuple[Event, ...]
    result: Waits


@dataclass(frozen=True)
class DataFlow:
    """The data flow of all steps: some first ones, then a cycle.

    Attributes:
        first: The first steps.
        cycle: The steps that repeat after them.
    """

    first: tuple[StepFlow, ...]
    cycle: tuple[StepFlow, ...]

    def at(self, step: int) -> StepFlow:
        """Return the data flow of a step, from 0."""
        later = step - len(self.first)
        return self.first[step] if later < 0 else self.cycle[later % len(self.cycle)]

    @property
    def reach(self) -> int:
        """How many steps ago the earliest event was that a step waits for."""
        steps = self.first + self.cycle
        waits = [waits for step in steps for waits in (step.result, *(event.waits for event in step.events))]
        return max((ago for some in waits for _, ago in some), default=0)


def data_flow(setup: Setup) -> DataFlow:
    """Find out what a strategy's steps wait for, by following its data in a rehearsal with a few agents.

    The strategy's own arithmetic is followed from tensor to tensor, and the operations of the block are known. So
    consensus, which sends parameters while it computes their gradient, is told from diffusion, which sends afterwards;
    and what is passed to the next step is known to be needed there only when it is used.

    Args:
        setup: The parts of the run, which have been rehearsed.

    Returns:
        The data flow.

    Raises:
        ExperimentError: The steps do not repeat.
    """
    steps = steps_to_rehearse(setup)
    held = sum(map(len, setup.holdings[0])) if setup.holdings else setup.config.batch_size * setup.num_agents
    sweep = held / (setup.config.batch_size * setup.num_agents)

    def trace(team: InlineTeam) -> Sequence[StepFlow]:
        block = TracedBlock(team.worker.block, sweep)
        with blaming(setup):
            block.advance(steps)
        return [_step(block, step) for step in range(steps)]

    found = with_few(setup, trace)
    cycle = cycle_of(found)
    if cycle is None:
        raise ExperimentError(
            f"strategy: what {setup.config.strategy.name} waits for does not repeat from step to step, so that its time"
            " is not known"
        )
    return DataFlow(tuple(found[:cycle]), tuple(found[cycle : 2 * cycle]))


def _step(block: TracedBlock, step: int) -> StepFlow:
    """Describe a step that was traced, with times and places relative to it."""

    def waits(sources: int) -> Waits:
        numbers = [number for number in range(sources.bit_length()) if sources >> number & 1]
        return tuple((number - block.starts[block.step_of[number]], step - block.step_of[number]) for number in numbers)

    events = [
        Event(traced.kind, waits(traced.waits), traced.size, traced.edges, traced.share)
        for traced in block.events[block.starts[step] : block.starts[step + 1]]
    ]
    return StepFlow(tuple(events), waits(block.results[step]))
