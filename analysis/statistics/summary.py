"""What runs came to: means and standard errors over the replicas."""

import csv
import io
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, TypeVar

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from basinet.analysis.statistics.columns import split_columns
from basinet.analysis.statistics.provenance import failures, provenance
from basinet.analysis.statistics.quantities import headings, quantities
from basinet.analysis.statistics.run_labels import labels, names, setting, strategy_label, varied
from basinet.analysis.statistics.survival import escape_times, kaplan_meier, mean_time
from basinet.sim.run.files import write_atomically
from basinet.sim.run.folder import Run
from basinet.sim.run.quantity import METRICS
from basinet.sim.run.records import FINISHED

__all__ = [
    "by_condition",
    "cells",
    "excuses",
    "finals",
    "incidents",
    "labels",
    "leaders",
    "listed",
    "moments",
    "plus_minus",
    "ranking",
    "strategy_label",
    "summarize",
    "summary_table",
    "varied",
    "write_csv",
    "write_digits",
    "write_summary",
]

Row = dict[str, Any]
T = TypeVar("T")

_COMPUTED = ("=", "+", "-", "@", "\t")
_NUMBERS = re.compile(r"[-+0-9.eE,%±()\[\] ]*")
"""Text such as "-0.3 [-0.5, -0.1]"."""

MOST_ROWS = 30
"""Rows of a table that are read; of more runs it has the best of each strategy."""


def finals(run: Run, metric: str) -> dict[int, float]:
    """Collect the last finite value of a metric in each replica that did not diverge.

    Args:
        run: A run.
        metric: Name of the metric.

    Returns:
        A mapping from replica to value.
    """
    values = run.final(metric).items()
    return {
        replica: float(value) for replica, value in values if isinstance(value, int | float) and math.isfinite(value)
    }


def moments(values: Collection[float]) -> tuple[float | None, float | None, int]:
    """Compute mean and standard error.

    Args:
        values: Independent values.

    Returns:
        The mean (None of no value), its standard error s / √n with n - 1 in s (None below two values), and n.
    """
    count = len(values)
    error = stdev(values) / math.sqrt(count) if count > 1 else None
    return (fmean(values) if count else None), error, count


def _metrics(runs: Iterable[Run]) -> list[str]:
    rows = (row for run in runs for row in run.metrics if "agent" not in row)
    return [name for name in dict.fromkeys(key for row in rows for key in row) if name not in ("step", "replica")]


def summarize(runs: Sequence[Run]) -> list[Row]:
    """Summarize each run over its replicas.

    Args:
        runs: The runs.

    Returns:
        A row a run: `run`, `label`, the keys that vary, `state`, `step`, `replicas`, `diverged` (how many;
        they are in no mean), and for each metric `_mean`, `_se` (standard error) and `_n` of the last values. Of
        escapes, for which not all replicas have a value: `escaped` (how many), `escape_time_mean` of exponential times
        and `escape_time_median` after Kaplan and Meier, each with `_lower` and `_upper` ends of its 95 % interval.
    """
    keys, rows = varied(runs), []
    for run, label in zip(runs, labels(runs), strict=True):
        row: Row = {"run": run.name, "label": label}
        row |= {key: setting(run.config, key) for key in keys}
        row |= {"state": run.status.get("state"), "step": run.status.get("step")}
        row |= {"replicas": _replicas(run), "diverged": len(run.diverged)}
        if run.config.get("escape"):
            row |= _escapes(run)
        for metric in _metrics([run]):
            if metric == "escape_step":
                continue
            mean, error, count = moments(finals(run, metric).values())
            row |= {f"{metric}_mean": mean, f"{metric}_se": error, f"{metric}_n": count}
        rows.append(row)
    return rows


def _replicas(run: Run) -> int:
    return run.config.get("replicas") or len({line["replica"] for line in run.metrics})


def _escapes(run: Run) -> Row:
    times, happened = escape_times(run)
    mean, curve = mean_time(times, happened), kaplan_meier(times, happened)
    numbers = {
        "escape_time_mean": mean.value,
        "escape_time_mean_lower": mean.lower,
        "escape_time_mean_upper": mean.upper,
        "escape_time_median": curve.median,
        "escape_time_median_lower": curve.median_interval[0],
        "escape_time_median_upper": curve.median_interval[1],
    }
    return {"escaped": mean.happened} | {name: n if math.isfinite(n) else None for name, n in numbers.items()}


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows as a table; what a row does not have stays empty, and no text is taken for a formula.

    Args:
        rows: The rows.
        path: The file.
    """
    text = io.StringIO()
    header = dict.fromkeys(key for row in rows for key in row)
    writer = csv.DictWriter(text, list(header), lineterminator="\n")
    for row in (dict(zip(header, header, strict=True)), *rows):
        writer.writerow({key: _as_cell(value) for key, value in row.items()})
    write_atomically(path, text.getvalue())


def _as_cell(value: Any) -> Any:
    """Mark as text what a spreadsheet would take for a formula."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ")  # which would end a row
    return f"'{text}" if text.startswith(_COMPUTED) and not _NUMBERS.fullmatch(text) else text


def write_summary(runs: Sequence[Run], path: Path) -> None:
    """Write the summary as CSV.

    Args:
        runs: The runs.
        path: The file.
    """
    write_csv(summarize(runs), path)


def write_digits(values: Sequence[float], mean: float, error: float, *, join: str, sign: str = "") -> str:
    """Write values with as many digits as two significant digits of a standard error carry.

    Args:
        values: What to write.
        mean: The mean, which chooses the power of ten.
        error: Its standard error, which chooses the digits; next to none stands for a value that is exact.
        join: What stands between the values.
        sign: "+" writes the sign of positive values, too.

    Returns:
        The text.
    """
    if error <= 1e-6 * abs(mean):
        # What rounding to float32 or less has made of a number is none.
        return join.join(f"{value:{sign}.4g}" if abs(value) > 2**-23 * abs(mean) else "0" for value in values)
    power = math.floor(math.log10(max(abs(mean), error)))
    power = 0 if -4 < power < 5 else power
    decimals = max(0, 1 + power - int(f"{error:.1e}".split("e")[1]))
    text = join.join(f"{value / 10.0**power:{sign}.{decimals}f}" for value in values)
    return f"({text})e{power}" if power else text


def plus_minus(mean: float | None, error: float | None, *, join: str = " ± ") -> str:
    """Write a mean with as many digits as its standard error carries.

    Args:
        mean: The mean, or None.
        error: Its standard error, or None where it is unknown: the mean alone is written.
        join: What stands between the two.

    Returns:
        The text.

    Example:
        >>> plus_minus(0.96123, 0.00312)
        '0.9612 ± 0.0031'
    """
    if mean is None:
        return "–"
    return f"{mean:.4g}" if error is None else write_digits([mean, error], mean, error, join=join)


def by_condition(items: Sequence[T], condition: Callable[[T], str]) -> list[T]:
    """Bring items of one condition together, in the order in which conditions first appear."""
    order = list(dict.fromkeys(map(condition, items)))
    return sorted(items, key=lambda item: order.index(condition(item)))


def ranking(runs: Sequence[Run]) -> str | None:
    """Choose the metric by which runs are called better or worse.

    Args:
        runs: The runs.

    Returns:
        The first metric of the summary that was measured and has a better direction; None if there is none.
    """
    measured, known = _metrics(runs), quantities(runs)
    return next((name for name in known if known[name].heading and known[name].direction and name in measured), None)


def leaders(runs: Sequence[Run]) -> list[int]:
    """Find the best run of each strategy by the mean of the metric that ranks them.

    Args:
        runs: The runs.

    Returns:
        Their places among the runs, best first; a strategy without a value is last.
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


def cells(
    runs: Sequence[Run], *, join: str = " ± ", places: Sequence[int] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Lay out the summary as text.

    Args:
        runs: The runs.
        join: What stands between mean and standard error.
        places: Which of the runs are shown, in this order; all of them, by condition, if None.

    Returns:
        The headings and the rows: condition, strategy, replicas (used / all), then the metrics that were
        measured.
    """
    rows = summarize(runs)
    titles = headings(runs)
    shown = [name for name in titles if any(row.get(f"{name}_n") for row in rows)]
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


def best_of(runs: Sequence[Run]) -> str:
    """Say which of many runs a table shows.

    Args:
        runs: All runs.

    Returns:
        The sentence.
    """
    metric, strategies = ranking(runs), len({strategy for strategy, _ in names(runs)})
    by = f" by {quantities(runs)[metric].heading}" if metric else ""
    few = "" if strategies <= MOST_ROWS else f", and of {strategies} strategies the best {MOST_ROWS}"
    return f"Of {len(runs)} runs the best of each strategy{by}, best first{few}."


def summary_table(runs: Sequence[Run], width: int = 100) -> Group:
    """Lay out the summary for a terminal.

    Args:
        runs: The runs.
        width: Columns of the terminal; where they do not suffice for all metrics, there is a table below for the
            others. No number is broken.

    Returns:
        Tables: mean ± standard error over the replicas that did not diverge, by condition; of many runs, the best of
        each strategy.
    """
    many = len(runs) > MOST_ROWS
    titles, rows = cells(runs, join=" ±", places=leaders(runs)[:MOST_ROWS] if many else None)
    notes = [f"{best_of(runs)} All: --json, or summary.csv in each folder."] if many else []
    notes.append("mean ± standard error over the replicas that did not diverge")
    if any("Hessian" in title for title in titles):
        notes[-1] += "; a smaller Hessian is flatter"
    if any(setting(run.config, "attack.name") not in (None, "none") for run in runs):
        notes[-1] += "; under attack, of the honest agents"
    if many:  # sorted, so that a condition is said in its row
        rows = [["", f"{row[1]}\n{row[0]}" if row[0] else row[1], *row[2:]] for row in rows]
    # A wide table leaves to the report what accuracy and strategy already say.
    spare = (METRICS["test_loss"].title, METRICS["consensus_distance"].title) if len(titles) > 8 else ()
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
            if condition:
                table.add_section()
                table.add_row(Text(condition, "bold"))
            for place in group:
                table.add_row(*(Text(lines[kept[column]][1 + place]) for column in columns))
        tables.append(table)
    return Group(*tables, *(Text(note, "dim italic") for note in notes))


def excuses(impossible: Mapping[str, str]) -> list[str]:
    """Say which runs are left out, reason by reason.

    Args:
        impossible: Why each of them is impossible, by its name.

    Returns:
        A sentence a reason.
    """
    reasons: dict[str, list[str]] = {}
    for name, reason in impossible.items():
        reasons.setdefault(reason, []).append(name)
    return [f"left out as impossible: {listed(names)} ({reason})" for reason, names in reasons.items()]


def listed(names: Sequence[str], join: str = ", ") -> str:
    """Write names one after the other, of many the first five.

    Args:
        names: The names.
        join: What stands between them.

    Returns:
        The text.
    """
    more = f" and {len(names) - 5:,} more" if len(names) > 6 else ""
    return join.join(names[: 5 if more else None]) + more


def incidents(runs: Sequence[Run]) -> list[str]:
    """Say what a reader of the numbers must know.

    Which replicas diverged, which eigenvalues have not converged, which values were measured otherwise than the run
    says, which could not be measured, and which runs are unfinished.

    Args:
        runs: The runs.

    Returns:
        A sentence each.
    """
    sentences = []
    for label, run in zip(labels(runs), runs, strict=True):
        if run.diverged:
            steps = ", ".join(str(step) for _, step in sorted(run.diverged.items()))
            count = f"{len(run.diverged)} of {_replicas(run)} replicas"
            sentences.append(f"{label}: {count} diverged at step {steps}.")
        unsure = {r["replica"] for r in run.metrics if any(name.endswith("converged") and not r[name] for name in r)}
        if unsure:
            count = f"{len(unsure)} of {_replicas(run)} replicas"
            sentences.append(f"{label}: extreme eigenvalues of {count} have not converged; see their errors.")
        sentences += [f"{label}: {sentence}." for sentence in (*provenance(run), *failures(run))]
        if run.status.get("state") not in FINISHED:
            planned, error = run.status.get("steps", run.config.get("steps")), run.status.get("error")
            progress = f"{run.status.get('state')} at step {run.status.get('step')}" + (
                f" of {planned}" if planned else ""
            )
            sentences.append(f"{label}: {progress}" + (f" ({error})." if error else "."))
    return sentences
