"""Waves: operations that do not need each other's results, and are computed at once."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from basinet.algorithms.strategies import Row
from basinet.sim.clock.row_operations import Evaluation, Mix, Operation

__all__ = ["Program", "Task", "waves"]

_PASS = 2**32
"""More than the waves of a pass."""


class Program(NamedTuple):
    """What is computed in a step of a replica.

    Attributes:
        replica: The replica.
        step: The step, from 0.
        rate: The schedule's factor on the learning rate.
        operations: The operations, in an order in which they can be computed.
    """

    replica: int
    step: int
    rate: float
    operations: Sequence[Operation]


class Task(NamedTuple):
    """An operation of a program."""

    program: Program
    operation: Operation


def waves(programs: Iterable[Program]) -> list[list[Task]]:
    """Sort operations such that few passes compute all gradients.

    Each gradient belongs to the first pass that has its point, in whichever step it is, and is used at once if that is
    where the agent steps from; all else follows the pass that it needs, one wave after another. An agent's gradients
    are in different passes, and its other optimizer steps in different waves.

    Args:
        programs: The programs, those of a replica in the order of its steps.

    Returns:
        The waves, in order, all of one of one kind.
    """
    groups: dict[tuple[int, int], list[Task]] = {}
    ready: dict[Row, int] = {}  # where each row is computed: the pass times `_PASS`, and the wave after it
    latest: dict[tuple[int, int, int], int] = {}
    for program in programs:
        for operation in program.operations:
            kind, result = operation.kind, operation.result
            after = max([ready.get(row, 0) for row in operation.reads])
            if kind != Mix.kind:
                agent = kind, program.replica, result.agent
                after = max(after, latest.get(agent, 0))
                latest[agent] = place = (after // _PASS + 1) * _PASS if kind == Evaluation.kind else after + 1
            else:
                place = after + 1
            ready[result] = place
            groups.setdefault((place, kind), []).append(Task(program, operation))
    return [groups[place] for place in sorted(groups)]
