"""What the figures are drawn from: rows of plain values, which also go into the file beside each figure."""

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
    """A figure would show nothing; the message is one sentence that says what there is."""


def require(data: Sized, otherwise: str) -> None:
    """Raise if there is nothing to draw.

    Args:
        data: What is to be drawn.
        otherwise: The sentence that says why there may be nothing, and what to do.

    Raises:
        NoDataError: There is nothing.
    """
    if not len(data):
        raise NoDataError(otherwise)


def require_runs(runs: Any) -> None:
    """Raise if something is no list of runs.

    Args:
        runs: What was given.

    Raises:
        ExperimentError: It is something else.
    """
    if not isinstance(runs, Sequence) or not all(isinstance(run, Run) for run in runs):
        raise ExperimentError(f"runs: expected a list of runs, as load_runs returns it, not {kind_of(runs)}")


def require_rows(rows: Any, *columns: str, otherwise: str) -> None:
    """Raise if something is no table, or an empty one.

    Args:
        rows: What was given.
        columns: What each row needs.
        otherwise: The sentence that says why there may be nothing, and what to do.

    Raises:
        ExperimentError: It is something else, or columns are missing.
    """
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise ExperimentError(f"rows: expected a list of mappings with {', '.join(columns)}, not {kind_of(rows)}")
    require(rows, otherwise)
    missing = [column for column in columns if any(column not in row for row in rows)]
    if missing:
        raise ExperimentError(f"rows: each needs {', '.join(columns)}; there are rows without {', '.join(missing)}")


def kind_of(value: Any) -> str:
    """Say what was given instead of something else.

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
    """Raise if there is nothing to draw of runs, and say what they have.

    Args:
        rows: What is to be drawn.
        runs: The runs that it is from.
        columns: Names of the measurements that each row needs.
        agents: Whether those of single agents are needed, not those of the centroid.

    Raises:
        NoDataError: There is nothing.
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
