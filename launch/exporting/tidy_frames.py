"""Measurements of runs as a frame of pandas, and as a table in a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from basinet.analysis.statistics.run_labels import describe
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.digest import flat
from basinet.sim.run.folder import Run

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["TABLES", "tidy_frame", "write_table"]

TABLES = (".csv", ".parquet")
"""Endings of the files that hold tables."""

_PLACE = ("run", "replica", "step", "agent")


def tidy_frame(runs: Sequence[Run]) -> "DataFrame":
    """Collect the measurements of runs.

    Args:
        runs: The runs.

    Returns:
        A row for each run, replica and step, and for each agent that was measured there, whose number is in the column
        `agent`; the columns of the metrics; and those of the keys of the experiment, dotted, such as `optimizer.lr`.

    Raises:
        ExperimentError: pandas is not installed, or nothing has been measured yet.
    """
    try:
        import pandas as pd
    except ImportError:
        raise ExperimentError('frame: it needs the package pandas: pip install "basinet[frames]"') from None
    rows = [{"run": run.name, **row} for run in runs for row in run.metrics]
    if not rows:
        raise ExperimentError(f"frame: nothing has been measured yet in {', '.join(run.name for run in runs)}")
    names = list(dict.fromkeys(key for row in rows for key in row if key not in _PLACE))
    found = pd.DataFrame(rows, columns=[*_PLACE, *names])
    found["agent"] = found["agent"].astype("Int64")
    settings = [flat(run.config) for run in runs]
    keys = [key for key in dict.fromkeys(key for known in settings for key in known) if key not in found]
    of_runs = pd.DataFrame({key: _comparable([known.get(key) for known in settings]) for key in keys})
    place = {run.name: number for number, run in enumerate(runs)}
    repeated = of_runs.take([place[row["run"]] for row in rows]).set_index(found.index)
    return pd.concat([found, repeated], axis=1)


def _comparable(values: list[Any]) -> list[Any]:
    """Return values of one kind as they are, and others as text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or (len(kinds) == 1 and kinds <= {str, bool}):
        return values
    return [None if value is None else describe(value) for value in values]


def write_table(runs: Sequence[Run], file: Path) -> tuple[int, int]:
    """Write the measurements of runs to a file.

    Args:
        runs: The runs.
        file: The file, .csv or .parquet.

    Returns:
        The number of rows and of columns.

    Raises:
        ExperimentError: It cannot be written there, or a package is missing.
    """
    found = tidy_frame(runs)
    if file.suffix not in TABLES:
        raise ExperimentError(f"FILE: got {file}; allowed endings of tables are {' and '.join(TABLES)}")
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".csv":
        found.to_csv(file, index=False)
    else:
        try:
            found.to_parquet(file, index=False)
        except ImportError:
            raise ExperimentError('FILE: Parquet needs the package pyarrow: pip install "basinet[frames]"') from None
    rows, columns = found.shape
    return int(rows), int(columns)
