"""Ranking of runs, and the choice of those that a table shows."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from basinet.analysis.statistics.quantities import quantities
from basinet.analysis.statistics.replica_values import finals, measured, moments
from basinet.analysis.statistics.run_labels import names
from basinet.sim.run.folder import Run

__all__ = ["MOST_ROWS", "best_of", "by_condition", "leaders", "ranking"]

T = TypeVar("T")

MOST_ROWS = 30
"""Maximum number of runs in a table; beyond it, only the best of each strategy is shown."""


def by_condition(items: Sequence[T], condition: Callable[[T], str]) -> list[T]:
    """Group items by condition, in the order in which conditions first appear."""
    order = list(dict.fromkeys(map(condition, items)))
    return sorted(items, key=lambda item: order.index(condition(item)))


def ranking(runs: Sequence[Run]) -> str | None:
    """Choose the metric that ranks runs.

    Args:
        runs: The runs.

    Returns:
        The first measured metric of the summary that has a better direction, or None.
    """
    found, known = measured(runs), quantities(runs)
    return next((name for name in known if known[name].heading and known[name].direction and name in found), None)


def leaders(runs: Sequence[Run]) -> list[int]:
    """Find the best run of each strategy by the mean of the ranking metric.

    Args:
        runs: The runs.

    Returns:
        Their indices, best first; strategies without a value come last.
    """
    metric = ranking(runs)
    sign = -1.0 if metric and quantities(runs)[metric].direction == "larger" else 1.0
    found = [moments(finals(run, metric).values())[0] if metric else None for run in runs]
    scores = [math.inf if mean is None else sign * mean for mean in found]
    best: dict[str, int] = {}
    for place, (strategy, _) in enumerate(names(runs)):
        if scores[place] < scores[best.setdefault(strategy, place)]:
            best[strategy] = place
    return sorted(best.values(), key=lambda place: scores[place])


def best_of(runs: Sequence[Run]) -> str:
    """Describe which of many runs a table shows.

    Args:
        runs: All runs.

    Returns:
        The sentence.
    """
    metric, strategies = ranking(runs), len({strategy for strategy, _ in names(runs)})
    by = f" by {quantities(runs)[metric].heading}" if metric else ""
    few = "" if strategies <= MOST_ROWS else f", and of {strategies} strategies the best {MOST_ROWS}"
    return f"Of {len(runs)} runs the best of each strategy{by}, best first{few}."
