"""How many steps a budget pays for: of samples, or of bytes sent."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from basinet.algorithms.strategies import StrategyTraits
from basinet.sim.agents.messages.edges import KINDS_OF_EDGES, num_messages
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import MOST
from basinet.sim.setup.rehearsal import rows_sent
from basinet.sim.setup.setup import Setup

__all__ = ["cycle_of", "rows_in_steps", "steps_by_bytes", "steps_by_samples", "steps_to_rehearse"]

_CYCLES = 3
"""Cycles that are rehearsed: the first may be different, and the others have to agree."""

_LEAST, _LONGEST = 12, 3000
"""Least and largest number of steps that are rehearsed."""

Rows = Sequence[Mapping[str, int]]


def steps_by_samples(samples: int, batch_size: int, num_agents: int) -> int:
    """Return the step at which the agents of a replica have drawn as many samples.

    Args:
        samples: The budget, of all agents together.
        batch_size: Samples of an agent in a step.
        num_agents: Number of agents.

    Returns:
        The number of steps, the last of which reaches the budget.
    """
    return -(-samples // (batch_size * num_agents))


def rows_in_steps(setup: Setup) -> tuple[Rows, int]:
    """Find out what the strategy sends in each step along an edge, until this repeats.

    Args:
        setup: The parts of the run, whose number of steps does not matter.

    Returns:
        The bytes along each kind of edge in each of the first steps; and after how many steps these repeat, once as
        many have been taken.

    Raises:
        ExperimentError: They do not repeat.
    """
    steps = steps_to_rehearse(setup)
    rows = rows_sent(setup, steps)
    cycle = cycle_of(rows)
    if cycle is None:
        raise ExperimentError(
            f"bytes: what {setup.config.strategy.name} sends does not repeat within {steps or _LONGEST} steps, so that"
            " the end of the run is not known in advance; give steps, epochs or samples"
        )
    return rows[: 2 * cycle], cycle


def steps_to_rehearse(setup: Setup) -> int:
    """Return in how many steps a strategy shows what it repeats.

    Args:
        setup: The parts of the run.

    Returns:
        Some cycles of the strategy; 0 if they are too long to be rehearsed.
    """
    strategy = setup.strategy()
    periods = [getattr(strategy, "period", 1)]
    if StrategyTraits.of(strategy).shares_subspaces:
        periods.append(setup.config.optimizer.describe().get("period", 1))
    steps = max(_LEAST, *(_CYCLES * period for period in periods if isinstance(period, int)))
    return steps if steps <= _LONGEST else 0


def cycle_of(seen: Sequence[Any]) -> int | None:
    """Find after how many steps what was seen in each repeats.

    Args:
        seen: One item a step.

    Returns:
        The shortest cycle, the first of which may be different; None if they do not repeat.
    """
    for cycle in range(1, len(seen) // _CYCLES + 1):
        if seen[cycle:-cycle] == seen[2 * cycle :]:
            return cycle
    return None


def steps_by_bytes(setup: Setup, rows: Rows, cycle: int) -> int:
    """Return the step at which the agents of a replica have sent the budget of bytes.

    Args:
        setup: The parts of the run.
        rows: Bytes along each kind of edge in the first steps.
        cycle: After how many steps these repeat; there are two cycles of them, the first of which may be different.

    Returns:
        The number of steps, the last of which reaches the budget.

    Raises:
        ExperimentError: Nothing is sent, or hardly anything.
    """
    budget = setup.config.bytes or 0
    messages = num_messages(setup)

    def sent(step: int) -> int:
        row = rows[step if step < cycle else cycle + step % cycle]
        return sum(row[kind] * messages[kind][step % len(messages[kind])] for kind in KINDS_OF_EDGES if messages[kind])

    # Steps and graphs repeat together after so many.
    both = math.lcm(cycle, *(len(counts) for counts in messages.values() if counts))
    left = budget - sum(map(sent, range(both)))
    each = sum(map(sent, range(both, 2 * both)))
    if each == 0:
        raise ExperimentError(
            f"bytes: {setup.config.strategy.name} sends nothing here, so that a number of bytes does not end the run;"
            " give steps, epochs or samples"
        )
    whole = max(0, left - 1) // each if left > 0 else -1
    step, left = (1 + whole) * both, (left - whole * each if whole >= 0 else budget)
    while left > 0:
        left -= sent(step)
        step += 1
    if step > MOST:
        raise ExperimentError(f"bytes: got {budget}, which are {step:.3g} steps; allowed are {MOST:g}")
    return step
