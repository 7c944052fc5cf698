"""Waves: operations that do not need each other's results, and are computed at once."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from basinet.algorithms.strategies import Row
from basinet.sim.clock.row_operations import Gradient, Mix, Operation

__all__ = ["Wave", "waves"]


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
    groups: dict[tuple[int, int, str], tuple[list[int], list[Operation]]] = {}
    for replica, operations in programs:
        ready: dict[Row, tuple[int, int]] = {}
        latest: dict[tuple[str, int], tuple[int, int]] = {}
        for operation in operations:
            kind, agent = type(operation).__name__, operation.result.agent
            after = [ready.get(row, (0, 0)) for row in operation.reads]
            if not isinstance(operation, Mix):
                after.append(latest.get((kind, agent), (0, 0)))
            number, wave = max(after)
            place = (number + 1, 0) if isinstance(operation, Gradient) else (number, wave + 1)
            ready[operation.result] = place
            latest[kind, agent] = place
            own, group = groups.setdefault((*place, kind), ([], []))
            own.append(replica)
            group.append(operation)
    return [Wave(*groups[place]) for place in sorted(groups)]
