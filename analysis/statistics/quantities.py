"""What the metrics of runs are called, and which direction is better: as the runs have recorded it."""

from collections.abc import Sequence

from basinet.sim.experiment.plugged import plugged
from basinet.sim.run.folder import Run
from basinet.sim.run.quantity import METRICS, Quantity

__all__ = ["headings", "quantities", "quantity_of"]


def quantities(runs: Sequence[Run]) -> dict[str, Quantity]:
    """Collect what is known of the metrics of runs.

    Args:
        runs: The runs.

    Returns:
        Quantities by the names of metrics: those of every run first, then what was measured.
    """
    found = dict(METRICS)
    for run in runs:
        found |= run.quantities
    # Runs of before have recorded none; what can be measured takes torch to import, and others need no torch.
    older = (run.metrics for run in runs if not run.quantities)
    if any(name not in METRICS for rows in older for row in rows for name in row):
        found |= {name: known for name, known in _registered().items() if name not in found}
    return found


def quantity_of(metric: str, runs: Sequence[Run] = ()) -> Quantity:
    """Look up what is known of a metric.

    Args:
        metric: Its name.
        runs: Those that have measured it.

    Returns:
        The quantity; of an unknown one the name in words.
    """
    for known in (METRICS, *(run.quantities for run in runs)):
        if metric in known:
            return known[metric]
    return _registered().get(metric) or Quantity(metric.replace("_", " "))


def headings(runs: Sequence[Run]) -> dict[str, str]:
    """List the metrics of summary tables.

    Args:
        runs: The runs.

    Returns:
        Headings by metric, with an arrow towards better values; what strategies are not compared by comes last.
    """
    shown = [(name, known) for name, known in quantities(runs).items() if known.heading]
    return {name: known.title for name, known in sorted(shown, key=lambda item: not item[1].compared)}


def _registered() -> dict[str, Quantity]:
    return {
        name: known
        for measure in plugged("measures").values()
        for name, known in {**measure.quantities, **measure.beside}.items()
    }
