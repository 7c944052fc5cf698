"""Names, units and better directions of metrics, as recorded by the runs."""

from collections.abc import Mapping, Sequence
from functools import cache

from basinet.sim.experiment.plugged import plugged
from basinet.sim.run.folder import Run
from basinet.sim.run.quantity import METRICS, Quantity

__all__ = ["headings", "own_quantities", "quantities", "quantity_of", "registered"]


def quantities(runs: Sequence[Run]) -> dict[str, Quantity]:
    """Collect the descriptions of the metrics of runs.

    Args:
        runs: The runs.

    Returns:
        Quantities by metric: those that every run has first, then the measured ones.
    """
    found = dict(METRICS)
    for run in runs:
        found |= run.quantities
    # Older runs recorded none; the registry of measures, which imports torch, is needed only for these.
    older = (run.metrics for run in runs if not run.quantities)
    if any(name not in METRICS for rows in older for row in rows for name in row):
        found |= {name: known for name, known in registered().items() if name not in found}
    return found


def own_quantities(runs: Sequence[Run]) -> list[str]:
    """List the recorded quantities of user-defined measures.

    Args:
        runs: The runs.

    Returns:
        Names of metrics.
    """
    recorded = dict.fromkeys(name for run in runs for name in run.quantities)
    return [name for name in recorded if name not in registered()]


def quantity_of(metric: str, runs: Sequence[Run] = ()) -> Quantity:
    """Look up the description of a metric.

    Args:
        metric: Its name.
        runs: The runs that measured it.

    Returns:
        The quantity; for an unknown metric, one labelled with the name in words.
    """
    for known in (METRICS, *(run.quantities for run in runs)):
        if metric in known:
            return known[metric]
    return registered().get(metric) or Quantity(metric.replace("_", " "))


def headings(runs: Sequence[Run]) -> dict[str, str]:
    """List the metrics of summary tables.

    Args:
        runs: The runs.

    Returns:
        Headings by metric, with an arrow towards better values; metrics that do not compare strategies come last.
    """
    shown = [(name, known) for name, known in quantities(runs).items() if known.heading]
    return {name: known.title for name, known in sorted(shown, key=lambda item: not item[1].compared)}


@cache
def registered() -> Mapping[str, Quantity]:
    """Collect the descriptions of the values of built-in measures.

    Returns:
        Quantities by metric.
    """
    return {
        name: known
        for measure in plugged("measures").values()
        for name, known in {**measure.quantities, **measure.beside}.items()
    }
