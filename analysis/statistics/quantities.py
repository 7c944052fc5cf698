"""Names, units and better directions of metrics, as recorded by the runs."""

from collections.abc import Mapping, Sequence
from functools import cache

from basinet.sim.experiment.plugged import plugged
from basinet.sim.run.folder import Run
from basinet.sim.run.quantity import QUANTITIES, Quantity, Where, of_every_run

__all__ = ["headings", "main_metric", "metric_quantities", "own_quantities", "quantities", "quantity_of", "registered"]


def metric_quantities(runs: Sequence[Run]) -> dict[str, Quantity]:
    """Collect the descriptions of the metrics of runs, which are measured during the run.

    Args:
        runs: The runs.

    Returns:
        Quantities by metric; those of each run in its order, the main metric first.
    """
    found: dict[str, Quantity] = {}
    for run in runs:
        known = run.metric_quantities
        if known is None:  # a run of an earlier version
            names = {name for row in run.metrics for name in row} - QUANTITIES.keys()
            known = {name: quantity for name, quantity in _usual().items() if name in names} if names else {}
        found |= {name: quantity for name, quantity in known.items() if name not in found}
    return found


def main_metric(runs: Sequence[Run]) -> str:
    """Choose the number by which runs are judged.

    Args:
        runs: The runs.

    Returns:
        The first of their metrics that was measured; the test loss if there is none.
    """
    measured = {name for run in runs for row in run.metrics for name in row}
    return next((name for name in metric_quantities(runs) if name in measured), "test_loss")


def quantities(runs: Sequence[Run]) -> dict[str, Quantity]:
    """Collect the descriptions of the numbers of runs.

    Args:
        runs: The runs.

    Returns:
        Quantities by name: the metrics, those that every run has, then those of the analysis.
    """
    found = metric_quantities(runs) | _of_every_run(runs)
    for run in runs:
        found |= run.quantities
    # Older runs recorded none; the registry of measures, which imports torch, is needed only for these.
    older = (run.metrics for run in runs if not run.quantities)
    if any(name not in found for rows in older for row in rows for name in row):
        found |= {name: known for name, known in registered().items() if name not in found}
    return found


def _of_every_run(runs: Sequence[Run]) -> dict[str, Quantity]:
    return of_every_run(validation=runs and all(run.config.get("validation") for run in runs))


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
    for known in (
        _of_every_run(runs),
        *(part for run in runs for part in (run.metric_quantities or {}, run.quantities)),
    ):
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
    """Collect the descriptions of the values of built-in measures and metrics.

    Returns:
        Quantities by name.
    """
    return dict(_usual()) | {
        name: known
        for measure in plugged("measures").values()
        for name, known in {**measure.quantities, **measure.beside}.items()
    }


@cache
def _usual() -> Mapping[str, Quantity]:
    """Collect the descriptions of the values of built-in metrics with their default settings."""
    made = [metric() for metric in plugged("metrics").values()]
    places: tuple[Where, ...] = ("test", "train")
    return {f"{where}_{metric.name}": metric.quantity(where) for metric in made for where in places}
