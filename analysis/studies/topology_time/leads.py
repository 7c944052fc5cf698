"""Which topology leads until when, and how long each needs to reach a target."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from basinet.analysis.compare.targets import Reached, median_of
from basinet.analysis.studies.flatness_tradeoff.comparisons import Difference
from basinet.analysis.studies.topology_time.timed_trainings import Timed

__all__ = ["Lead", "leads", "median_to"]

_MOMENTS = 120


class Lead(NamedTuple):
    """A time in which a topology leads.

    Attributes:
        topology: Its name.
        since: Begin in seconds.
        until: End in seconds; of the last one, when the last training ends.
        accuracy: Its mean accuracy at the end.
    """

    topology: str
    since: float
    until: float
    accuracy: float


def leads(timed: Sequence[Timed]) -> list[Lead]:
    """Find who leads when.

    The lead passes to the best of those that are shown to be above the one that leads: the paired 95 % interval of the
    difference lies above 0. The first to lead is likewise shown to be above its own start.

    Args:
        timed: The trainings under the same conditions, with the same replicas.

    Returns:
        The leads in order.
    """
    first = min(float(one.seconds[1].min()) for one in timed)
    last = max(float(one.seconds.max()) for one in timed)
    found: list[tuple[Timed, float]] = []
    for moment in np.geomspace(first / 2, last, _MOMENTS).tolist():
        now = {one: one.at(moment) for one in timed}
        above = [one for one in timed if Difference(now[one], now[found[-1][0]] if found else one.accuracy[0]).low > 0]
        if above:
            found.append((max(above, key=lambda one: float(np.nanmean(now[one]))), moment))
    ends = [since for _, since in found[1:]] + [last] * bool(found)
    return [
        Lead(one.topology, since, until, float(np.nanmean(one.at(until))))
        for (one, since), until in zip(found, ends, strict=True)
    ]


def median_to(timed: Timed, target: float) -> Reached:
    """Find how long a training needs to reach a target.

    Args:
        timed: The training.
        target: The accuracy.

    Returns:
        The median over the replicas in seconds, of which those that do not reach it in their steps take for ever: ends
        depend on the conditions, and some are before others reach it.
    """
    times = timed.reached(target)
    return median_of(times.tolist(), np.isfinite(times).tolist())
