"""The data flow of a run, found in a rehearsal."""

from collections.abc import Sequence

from basinet.algorithms.strategies.strategy import Participation
from basinet.sim.clock.data_flow import DataFlow, Event, StepFlow, Waits
from basinet.sim.clock.tensor_sources import numbers_in
from basinet.sim.clock.tracing import TracedBlock
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.runtimes.inline import InlineTeam
from basinet.sim.setup.blame import blaming
from basinet.sim.setup.rehearsal import with_few
from basinet.sim.setup.setup import Setup
from basinet.sim.setup.spending import cycle_of, steps_to_rehearse

__all__ = ["data_flow"]


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
    strategy = setup.strategy()
    sent = strategy.sent_share if isinstance(strategy, Participation) else 1.0
    held = sum(map(len, setup.holdings[0])) if setup.holdings else setup.config.batch_size * setup.num_agents
    sweep = held / (setup.config.batch_size * setup.num_agents)

    def trace(team: InlineTeam) -> Sequence[StepFlow]:
        block = TracedBlock(team.worker.block, sweep)
        with blaming(setup):
            block.advance(steps)
        return [_step(block, step, sent) for step in range(steps)]

    found = with_few(setup, trace)
    cycle = cycle_of(found)
    if cycle is None:
        raise ExperimentError(
            f"strategy: what {setup.config.strategy.name} waits for does not repeat from step to step, so that its time"
            " is not known"
        )
    return DataFlow(tuple(found[:cycle]), tuple(found[cycle : 2 * cycle]))


def _step(block: TracedBlock, step: int, sent: float) -> StepFlow:
    """Describe a step that was traced, with times and places relative to it, and messages of full size."""

    def waits(sources: int) -> Waits:
        numbers = reversed([*numbers_in(sources)])
        return tuple((number - block.starts[block.step_of[number]], step - block.step_of[number]) for number in numbers)

    events = [
        Event(traced.kind, waits(traced.waits), round(traced.size / sent), traced.edges, traced.share)
        for traced in block.events[block.starts[step] : block.starts[step + 1]]
    ]
    return StepFlow(tuple(events), waits(block.results[step]))
