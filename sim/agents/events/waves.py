"""Waves: operations that do not need each other's results, and are computed at once."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from basinet.algorithms.strategies import Row
from basinet.sim.clock.row_operations import Gradient, Mix, Operation

__all__ = ["Wave", "waves"]

_PASS = 2**32
"""More than the waves of a pass."""


class Wave(NamedTuple):
    """Operations of one kind that are computed at once.

    Attributes:
        replicas: The replica of each.
        operations: The operations.
    """

    replicas: list[int]
    operations: list[Operation]


def waves(programs: Iterable[tuple[int, Sequence[Operation]]]) -> list[Wave]:
    """Sort operations such that few passes compute all gradients.

    Each gradient belongs to the first pass that has its point; all else follows the pass that it needs, one wave after
    another. An agent's gradients are in different passes, and its optimizer steps in different waves.

    Args:
        programs: Replicas and their operations, in an order in which they can be computed.

    Returns:
        The waves, in order.
    """
    groups: dict[tuple[int, int], tuple[list[int], list[Operation]]] = {}
    for replica, operations in programs:
        ready: dict[Row, int] = {}  # where each row is computed: the pass times `_PASS`, and the wave after it
        latest: dict[tuple[int, int], int] = {}
        for operation in operations:
            kind, result = operation.kind, operation.result
            after = max([ready.get(row, 0) for row in operation.reads])
            if kind != Mix.kind:
                after = max(after, latest.get((kind, result.agent), 0))
            place = (after // _PASS + 1) * _PASS if kind == Gradient.kind else after + 1
            ready[result] = latest[kind, result.agent] = place
            own, group = groups.setdefault((place, kind), ([], []))
            own.append(replica)
            group.append(operation)
    return [Wave(*groups[place]) for place in sorted(groups)]
