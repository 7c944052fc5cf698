"""The summary as a table of text."""

import json
from collections.abc import Sequence
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from basinet.analysis.statistics.columns import split_columns
from basinet.analysis.statistics.quantities import headings
from basinet.analysis.statistics.ranking import MOST_ROWS, best_of, by_condition, leaders
from basinet.analysis.statistics.replica_values import finals, measured
from basinet.analysis.statistics.rounding import plus_minus
from basinet.analysis.statistics.run_labels import names, setting
from basinet.analysis.statistics.summary import summarize
from basinet.sim.run.folder import Run
from basinet.sim.run.quantity import QUANTITIES
from basinet.sim.run.records import FINISHED

__all__ = ["baseline_cells", "cells", "summary_table"]


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


def summary_table(runs: Sequence[Run], width: int = 100) -> Group:
    """Format the summary for a terminal.

    Args:
        runs: The runs.
        width: Width of the terminal; metrics that do not fit go to a further table below.

    Returns:
        Tables of mean ± standard error over the replicas that did not diverge, by condition; for many runs, of the best
        run of each strategy.
    """
    many = len(runs) > MOST_ROWS
    titles, rows = cells(runs, join=" ±", places=leaders(runs)[:MOST_ROWS] if many else None)
    rows = by_condition([*rows, *baseline_cells(runs)], lambda row: row[0])
    notes = [f"{best_of(runs)} All: --json, or summary.csv in each folder."] if many else []
    notes.append("mean ± standard error over the replicas that did not diverge")
    if any("Hessian" in title for title in titles):
        notes[-1] += "; a smaller Hessian is flatter"
    if any(setting(run.config, "attack.name") not in (None, "none") for run in runs):
        notes[-1] += "; under attack, of the honest agents"
    if many:  # not grouped by condition, so each row names its own
        rows = [["", f"{row[1]}\n{row[0]}" if row[0] else row[1], *row[2:]] for row in rows]
    # A wide table leaves redundant metrics to the report.
    spare = (QUANTITIES["test_loss"].title, QUANTITIES["consensus_distance"].title) if len(titles) > 8 else ()
    kept = [i for i in range(1, len(titles)) if titles[i] not in spare]
    lines = {i: [titles[i].replace(" ", "\n", 1), *(row[i].replace(" (", "\n(") for row in rows)] for i in kept}
    widths = [2 + max(cell_len(line) for text in lines[i] for line in text.split("\n")) for i in kept]
    widths[0] = min(widths[0], max(20, width - max(widths[1:], default=0)))
    tables = []
    for columns in split_columns(widths, width - 1):
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for column in columns:
            number = bool(column)
            table.add_column(
                lines[kept[column]][0],
                justify="right" if number else "left",
                no_wrap=number,
                min_width=widths[column] - 2 if number else None,
            )
        for condition, group in groupby(range(len(rows)), key=lambda place: rows[place][0]):
            texts = [[lines[kept[column]][1 + place] for column in columns] for place in group]
            texts = [row for row in texts if {*row[1:]} - {"–", ""} or not row[0].endswith("(baseline)")]
            if condition and texts:
                table.add_section()
                table.add_row(Text(condition, "bold"))
            for row in texts:
                table.add_row(*map(Text, row))
        tables.append(table)
    return Group(*tables, *(Text(note, "dim italic") for note in notes))
