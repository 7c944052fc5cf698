"""Summaries of runs: means and standard errors over the replicas."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from basinet.analysis.statistics.replica_values import finals, measured, moments, num_replicas
from basinet.analysis.statistics.run_labels import labels, setting, varied
from basinet.analysis.statistics.survival import escape_times, kaplan_meier, mean_time
from basinet.sim.run.files import write_atomically
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row

__all__ = ["as_csv", "summarize", "write_csv", "write_summary"]

_COMPUTED = ("=", "+", "-", "@", "\t")
_NUMBERS = re.compile(r"[-+0-9.eE,%±()\[\] ]*")
"""Text such as "-0.3 [-0.5, -0.1]"."""


def summarize(runs: Sequence[Run]) -> list[Row]:
    """Summarize each run over its replicas.

    Args:
        runs: The runs.

    Returns:
        One row per run: `run`, `label`, the keys that vary, `state`, `step`, `replicas`, `diverged` (a number,
        excluded from all means), and for each metric `_mean`, `_se` (standard error) and `_n` of the last values. For
        escapes, which may be censored: `escaped` (number of replicas), `escape_time_mean` for exponential times and
        `escape_time_median` (Kaplan-Meier), each with `_lower` and `_upper` ends of its 95 % interval.
    """
    keys, rows = varied(runs), []
    for run, label in zip(runs, labels(runs), strict=True):
        row: Row = {"run": run.name, "label": label}
        row |= {key: setting(run.config, key) for key in keys}
        row |= {"state": run.status.get("state"), "step": run.status.get("step")}
        row |= {"replicas": num_replicas(run), "diverged": len(run.diverged)}
        if run.config.get("escape"):
            row |= _escapes(run)
        for metric in measured([run]):
            if metric == "escape_step":
                continue
            mean, error, count = moments(finals(run, metric).values())
            row |= {f"{metric}_mean": mean, f"{metric}_se": error, f"{metric}_n": count}
        rows.append(row)
    return rows


def _escapes(run: Run) -> Row:
    """Summarize the escape times of the replicas."""
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


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format rows as CSV; missing values are empty, and text that looks like a formula is escaped.

    Args:
        rows: The rows.

    Returns:
        The text, with a header.
    """
    text = io.StringIO()
    header = dict.fromkeys(key for row in rows for key in row)
    writer = csv.DictWriter(text, list(header), lineterminator="\n")
    for row in (dict(zip(header, header, strict=True)), *rows):
        writer.writerow({key: _as_cell(value) for key, value in row.items()})
    return text.getvalue()


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows as CSV, as `as_csv` formats them.

    Args:
        rows: The rows.
        path: The file.
    """
    write_atomically(path, as_csv(rows))


def _as_cell(value: Any) -> Any:
    """Escape text that a spreadsheet would take for a formula."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ")  # it would end the row
    return f"'{text}" if text.startswith(_COMPUTED) and not _NUMBERS.fullmatch(text) else text


def write_summary(runs: Sequence[Run], path: Path) -> None:
    """Write the summary as CSV.

    Args:
        runs: The runs.
        path: The file.
    """
    write_csv(summarize(runs), path)
