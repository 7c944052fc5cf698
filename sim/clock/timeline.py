"""What agents do when: a record of some steps on the clock."""

from typing import NamedTuple

import numpy as np

from basinet.sim.clock.clock import Clock, Doing

__all__ = ["Activity", "timeline"]


class Activity(NamedTuple):
    """What an agent does for some time.

    Attributes:
        replica: Its replica.
        agent: Its number.
        doing: What it does.
        step: The step that this belongs to, from 1: for waiting, that of the computation afterwards.
        start: Nanoseconds from the start of the run.
        end: Likewise.
    """

    replica: int
    agent: int
    doing: Doing
    step: int
    start: int
    end: int


def timeline(clock: Clock, first: int, last: int) -> list[Activity]:
    """Record what agents do in some steps.

    Args:
        clock: The clock of a run, at step 0.
        first: The first step, from 1.
        last: The last step, up to whose end agents wait.

    Returns:
        The activities, by replica, agent and start.
    """
    found: list[Activity] = []

    def observe(doing: Doing, step: int, start: np.ndarray, end: np.ndarray) -> None:
        for agent, replica in np.argwhere(end > start).tolist():
            times = int(start[agent, replica]), int(end[agent, replica])
            found.append(Activity(replica, agent, doing, step, *times))

    clock.advance(first - 1)
    clock.advance(last, observe)
    return sorted(found, key=lambda one: (one.replica, one.agent, one.start, one.end))
