"""The summary as a table of text."""

import json
from collections.abc import Sequence

from basinet.analysis.statistics.quantities import headings
from basinet.analysis.statistics.ranking import by_condition
from basinet.analysis.statistics.replica_values import finals, measured
from basinet.analysis.statistics.rounding import plus_minus
from basinet.analysis.statistics.run_labels import names
from basinet.analysis.statistics.summary import summarize
from basinet.sim.run.folder import Run
from basinet.sim.run.records import FINISHED

__all__ = ["baseline_cells", "cells"]


def cells(
    runs: Sequence[Run], *, join: str = " ± ", places: Sequence[int] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Format the summary as text.

    Args:
        runs: The runs.
        join: Separator of mean and standard error.
        places: Indices of the runs to show, in this order; None for all, by condition.

    Returns:
        The headings and the rows: condition, strategy, replicas (used / all), then the measured metrics.
    """
    rows, titles, shown = summarize(runs), headings(runs), _shown(runs)
    texts = []
    for row, (strategy, condition) in zip(rows, names(runs), strict=True):
        note = "" if row["state"] in FINISHED else f" ({row['state']} at {row['step']})"
        text = [condition, strategy + note, f"{row['replicas'] - row['diverged']}/{row['replicas']}"]
        text += [plus_minus(row.get(f"{name}_mean"), row.get(f"{name}_se"), join=join) for name in shown]
        texts.append(text)
    columns = ["condition", "strategy", "replicas", *(titles[name] for name in shown)]
    if places is not None:
        return columns, [texts[place] for place in places]
    return columns, by_condition(texts, lambda text: text[0])


def _shown(runs: Sequence[Run]) -> list[str]:
    """List the metrics that the summary shows."""
    found = measured(runs)
    return [name for name in headings(runs) if name in found and any(finals(run, name) for run in runs)]


def baseline_cells(runs: Sequence[Run]) -> list[list[str]]:
    """Format the trivial baselines of runs as text.

    Args:
        runs: The runs.

    Returns:
        Rows in the columns of `cells`, one for each baseline; if runs have different ones, under the conditions of
        their runs.
    """
    shown, conditions = _shown(runs), [condition for _, condition in names(runs)]
    places: dict[str, list[str]] = {}
    for run, condition in zip(runs, conditions, strict=True):
        for name, values in run.baselines.items():
            row = [f"{name} (baseline)", "", *(plus_minus(values.get(metric), None) for metric in shown)]
            places.setdefault(json.dumps(row), []).append(condition)
    rows = []
    for text, of in places.items():
        everywhere = {*of} == {*conditions} and len({*of}) > 1
        where = ["all conditions"] if everywhere else list(dict.fromkeys(of))
        rows += [[condition, *json.loads(text)] for condition in where]
    return rows
