"""Checks of the data of figures: rows of plain values, which are also written to a file beside each figure."""

from collections.abc import Mapping, Sequence, Sized
from typing import Any

from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.run.folder import Run

__all__ = [
    "NoDataError",
    "kind_of",
    "require",
    "require_measured",
    "require_rows",
    "require_runs",
]


class NoDataError(ExperimentError):
    """Raised if a figure would be empty; the message is one sentence that says what data there are."""


def require(data: Sized, otherwise: str) -> None:
    """Raise if there is nothing to draw.

    Args:
        data: The data to draw.
        otherwise: The message: a sentence that says why there may be no data, and what to do.

    Raises:
        NoDataError: If there are no data.
    """
    if not len(data):
        raise NoDataError(otherwise)


def require_runs(runs: Any) -> None:
    """Raise unless a value is a list of runs.

    Args:
        runs: The value.

    Raises:
        ExperimentError: If it is something else.
    """
    if not isinstance(runs, Sequence) or not all(isinstance(run, Run) for run in runs):
        raise ExperimentError(f"runs: expected a list of runs, as load_runs returns it, not {kind_of(runs)}")


def require_rows(rows: Any, *columns: str, otherwise: str) -> None:
    """Raise unless a value is a nonempty table.

    Args:
        rows: The value.
        columns: Columns that each row needs.
        otherwise: The message for an empty table: why there may be no data, and what to do.

    Raises:
        ExperimentError: If it is something else, or columns are missing.
    """
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise ExperimentError(f"rows: expected a list of mappings with {', '.join(columns)}, not {kind_of(rows)}")
    require(rows, otherwise)
    missing = [column for column in columns if any(column not in row for row in rows)]
    if missing:
        raise ExperimentError(f"rows: each needs {', '.join(columns)}; there are rows without {', '.join(missing)}")


def kind_of(value: Any) -> str:
    """Describe the type of an unexpected value.

    Args:
        value: Anything.

    Returns:
        A few words.
    """
    if isinstance(value, str):
        return f"the text '{value}'"
    if isinstance(value, list | tuple) and value:
        kinds = sorted({type(item).__name__ for item in value})
        return f"a {type(value).__name__} of {' and '.join(kinds)}"
    return "None" if value is None else type(value).__name__


def require_measured(rows: Sized, runs: Sequence[Run], *columns: str, agents: bool = False) -> None:
    """Raise if runs have no data to draw, and explain why.

    Args:
        rows: The data to draw.
        runs: The runs that they come from.
        columns: Names of the measurements that each row needs.
        agents: Whether measurements of single agents are needed instead of the centroid's.

    Raises:
        NoDataError: If there are no data.
    """
    if len(rows):
        return
    require(runs, "there are no runs to draw")
    lines = [(run, row) for run in runs for row in run.metrics if ("agent" in row) == agents]
    states = ", ".join(f"{run.name} is {run.status.get('state')}" for run in runs)
    if agents:
        require(lines, "no agents were measured; measure them with analysis_points: [centroid, agents]")
    require(lines, f"nothing has been measured yet: {states}")
    kept = [row for run, row in lines if row["replica"] not in run.diverged]
    require(kept, f"all replicas have diverged: {states}")
    known = list(dict.fromkeys(name for row in kept for name in row if name not in ("replica", "agent")))
    for column in columns:
        require([column] if column in known else [], f"no run has measured '{column}'; {nearest(column, known)}")
    raise NoDataError(f"no replica has finite values of all of these at once: {', '.join(dict.fromkeys(columns))}")
