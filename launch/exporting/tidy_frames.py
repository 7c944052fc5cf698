"""Measurements of runs as a frame of pandas, and as a table in a file."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
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


def tidy_frame(runs: Iterable[Run]) -> "DataFrame":
    """Collect the measurements of runs.

    Args:
        runs: The runs.

    Returns:
        A row for each run, replica and step, and for each agent that was measured there, whose number is in the column
        `agent`; the columns of the metrics; and those of the keys of the experiment, dotted, such as `optimizer.lr`.

    Raises:
        ExperimentError: pandas is not installed, or nothing has been measured yet.
    """
    pieces = _pieces(runs)
    import pandas as pd

    return pd.concat([make() for make in pieces], ignore_index=True)


def _pieces(runs: Iterable[Run]) -> "list[Callable[..., DataFrame]]":
    """Return what makes the frame of each run, with the columns and types of all; without keys, frames are small."""
    try:
        import pandas as pd
    except ImportError:
        raise ExperimentError('frame: it needs the package pandas: pip install "basinet[frames]"') from None
    measured, settings, empty = [], [], []
    for run in runs:  # may be read one after another: rows take much more memory than columns
        if not run.metrics:
            empty.append(run.name)
            continue
        frame = pd.DataFrame({"run": run.name} | row for row in run.metrics)
        if "agent" not in frame:
            frame["agent"] = None
        numbers = {name: "float64" for name in frame if name not in _PLACE}
        measured.append(frame.astype(numbers | {"agent": "Int64"}))
        settings.append(flat(run.config))
    if not measured:
        raise ExperimentError(f"frame: nothing has been measured yet in {', '.join(empty)}")
    columns = list(dict.fromkeys([*_PLACE, *(name for frame in measured for name in frame)]))
    keys = [key for key in dict.fromkeys(key for known in settings for key in known) if key not in columns]
    of_runs = pd.DataFrame({key: _comparable([known.get(key) for known in settings]) for key in keys})

    def make(place: int, rows: slice = slice(None)) -> "DataFrame":
        frame = measured[place][rows].reindex(columns=columns)
        return pd.concat([frame, of_runs.take([place] * len(frame)).set_index(frame.index)], axis=1)

    return [partial(make, place) for place in range(len(measured))]


def _comparable(values: list[Any]) -> list[Any]:
    """Return values of one kind as they are, and others as text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or (len(kinds) == 1 and kinds <= {str, bool}):
        return values
    return [None if value is None else describe(value) for value in values]


def write_table(runs: Iterable[Run], file: Path) -> tuple[int, int]:
    """Write the measurements of runs to a file, run by run.

    Args:
        runs: The runs.
        file: The file, .csv or .parquet.

    Returns:
        The number of rows and of columns.

    Raises:
        ExperimentError: It cannot be written there, or a package is missing.
    """
    if file.suffix not in TABLES:
        raise ExperimentError(f"FILE: got {file}; allowed endings of tables are {' and '.join(TABLES)}")
    pieces = _pieces(runs)
    file.parent.mkdir(parents=True, exist_ok=True)
    return (_write_csv if file.suffix == ".csv" else _write_parquet)(pieces, file)


def _write_csv(pieces: "Sequence[Callable[..., DataFrame]]", file: Path) -> tuple[int, int]:
    rows = 0
    with open(file, "w", newline="", encoding="utf-8", errors="surrogateescape") as out:
        for make in pieces:
            frame = make()
            frame.to_csv(out, index=False, header=not rows)
            rows += len(frame)
    return rows, frame.shape[1]


def _write_parquet(pieces: "Sequence[Callable[..., DataFrame]]", file: Path) -> tuple[int, int]:
    import pandas as pd

    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ExperimentError('FILE: Parquet needs the package pyarrow: pip install "basinet[frames]"') from None
    # A key that the first run does not have has no type there.
    schema = pyarrow.Schema.from_pandas(pd.concat([make(slice(1)) for make in pieces]), preserve_index=False)
    rows = 0
    with parquet.ParquetWriter(file, schema) as writer:
        for make in pieces:
            table = pyarrow.Table.from_pandas(make(), schema, preserve_index=False)
            writer.write_table(table)
            rows += table.num_rows
    return rows, len(schema)
