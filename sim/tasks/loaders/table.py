"""Tables in CSV or Parquet files."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from basinet.algorithms import draws
from basinet.sim.data.rows import IGNORED
from basinet.sim.experiment.mistakes import first_line, nearest, shown
from basinet.sim.tasks.supervised import supervised
from basinet.sim.tasks.task import TASKS, Task

__all__ = ["table"]


@TASKS.register()
def table(
    *,
    path: str,
    target: str,
    test_path: str | None = None,
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    inputs: Sequence[str] | None = None,
    columns: Sequence[str] = (),
    classification: bool | None = None,
    standardize: bool = True,
    seed: int = 0,
) -> Task:
    """Load a table in CSV or Parquet files, one of whose columns is the target.

    Inputs are float32 [n, features]: a feature for each column of numbers, and for each value of a column of words. The
    classes of a target are its values in ascending order.

    Args:
        path: The file, or a pattern such as "data/*.csv" for several with the same columns, whose name is then a column
            `file`.
        target: Column of the target: words or integers are classes, other numbers a regression.
        test_path: The file or files of the test data.
        test_share: Share of the rows that are test data instead, chosen at random.
        inputs: Columns of the inputs; by default, all others.
        columns: Columns that are no inputs but by which the samples may be partitioned, such as a user.
        classification: Whether the target is a class; by default, if it is a word or an integer.
        standardize: Whether numbers are shifted and scaled to mean 0 and variance 1 over the training data.
        seed: Seed of the choice of test rows; the simulator supplies it.

    Returns:
        A task.

    Raises:
        ValueError: If a file cannot be read, a column does not exist, differs between files or lacks a value, or test
            data hold a word or a class that the training data do not.
    """
    train = _Table.read(path)
    test = None if test_path is None else _Table.read(test_path)
    for name in (target, *(inputs or ()), *columns):
        train.check(name)
    aside = [*train.aside, *columns]
    kept = [name for name in train.columns if name not in (target, *aside)] if inputs is None else list(inputs)
    if target in kept:
        raise ValueError(f"table: {target!r} is the target, and can be no input")
    if not kept:
        raise ValueError(f"table: {path} has no column besides {', '.join(train.columns)} that could be an input")
    if test_share:
        key = torch.tensor([draws.key(seed, "test rows")])
        order = draws.permutation(key, torch.tensor([len(train)]), len(train))[0].numpy()
        count = round(test_share * len(train))
        if test is not None or not 0 < count < len(train):
            raise ValueError(
                "table: give test_path or test_share, not both"
                if test is not None
                else f"table: a test_share of {test_share:g} takes {count} of {len(train)} rows"
            )
        train, test = train.part(np.sort(order[count:])), train.part(np.sort(order[:count]))
    features = {name: _Feature(train, name, standardize=standardize) for name in kept}
    wanted = _Target(train, target, classification=classification)
    parts = [
        None if part is None else (np.concatenate([f.of(part) for f in features.values()], axis=1), wanted.of(part))
        for part in (train, test)
    ]
    return supervised(
        parts[0],
        parts[1],
        classification=wanted.classes is not None,
        num_outputs=None if wanted.classes is None else len(wanted.classes),
        columns={name: train.columns[name].astype(str) for name in aside},
    )


class _Table:
    """The columns of some files: arrays of numbers, or of words."""

    def __init__(self, columns: dict[str, NDArray[Any]], places: NDArray[Any], aside: list[str]) -> None:
        self.columns, self.places, self.aside = columns, places, aside

    def __len__(self) -> int:
        return len(self.places)

    @classmethod
    def read(cls, path: str) -> "_Table":
        """Read the files of a pattern; raise if their columns differ."""
        given = Path(path)
        files = sorted(given.parent.glob(given.name)) if any(mark in given.name for mark in "*?[") else [given]
        if not files:
            raise ValueError(f"table: no file is called {path}")
        tables: list[dict[str, NDArray[Any]]] = []
        places: list[str] = []
        for file in files:
            found = _read_parquet(file) if file.suffix in (".parquet", ".pq") else _read_csv(file)
            if len(files) > 1:
                found["file"] = np.full(len(next(iter(found.values()), ())), file.name)
            if tables and (other := sorted(found.keys() ^ tables[0].keys())):
                raise ValueError(f"table: {file} and {files[0]} differ in the columns {', '.join(other)}")
            rows = len(next(iter(found.values()), ()))
            if not rows:
                raise ValueError(f"table: {file} has no rows")
            tables.append(found)
            places += [f"row {row} of {file}" for row in range(rows)]
        joined = {name: np.concatenate([found[name] for found in tables]) for name in tables[0]}
        columns = {name: _as_numbers(column) for name, column in joined.items()}
        return cls(columns, np.array(places), ["file"] if len(files) > 1 else [])

    def part(self, rows: NDArray[np.int64]) -> "_Table":
        """Return some rows."""
        return _Table({name: column[rows] for name, column in self.columns.items()}, self.places[rows], self.aside)

    def check(self, name: str) -> None:
        """Raise if there is no such column."""
        if name not in self.columns:
            raise ValueError(f"table: there is no column {name!r}; {nearest(name, self.columns)}")

    def whole(self, name: str) -> NDArray[Any]:
        """Return a column; raise if there is none, or it lacks a value."""
        self.check(name)
        column = self.columns[name]
        missing = column == "" if column.dtype.kind == "U" else ~np.isfinite(column)
        if missing.any():
            row = int(missing.argmax())
            what = "no value" if column.dtype.kind == "U" or np.isnan(column[row]) else shown(column[row].item())
            raise ValueError(f"table: column {name!r} has {what} in {self.places[row]}")
        return column


class _Feature:
    """The numbers that a column becomes."""

    def __init__(self, train: _Table, name: str, *, standardize: bool) -> None:
        self.name = name
        column = train.whole(name)
        self.words = np.unique(column) if column.dtype.kind == "U" else None
        self.shift, self.scale = 0.0, 1.0
        if self.words is None and standardize:
            self.shift, self.scale = float(column.mean()), float(column.std()) or 1.0

    def of(self, part: _Table) -> NDArray[np.float32]:
        """Compute them for a table, [n, features]."""
        column = part.whole(self.name)
        if self.words is None:
            _check_kind(part, self.name, words=False)
            return ((column - self.shift) / self.scale)[:, None].astype(np.float32)
        found = _places(part, self.name, self.words)
        return np.eye(len(self.words), dtype=np.float32)[found]


class _Target:
    """What is to be predicted.

    Attributes:
        classes: The values of its classes; None for a regression.
    """

    def __init__(self, train: _Table, name: str, *, classification: bool | None) -> None:
        self.name = name
        column = train.whole(name)
        words = column.dtype.kind == "U"
        if classification is None:
            classification = words or bool((column == np.rint(column)).all())
        if words and not classification:
            raise ValueError(f"table: the target {name!r} holds words, such as {column[0]!r}, and no numbers")
        self.classes = np.unique(column[column != IGNORED] if not words else column) if classification else None

    def of(self, part: _Table) -> NDArray[Any]:
        """Return the targets of a table."""
        column = part.whole(self.name)
        if self.classes is None:
            _check_kind(part, self.name, words=False)
            return column.astype(np.float64)
        if column.dtype.kind == "U":
            return _places(part, self.name, self.classes)
        ignored = column == IGNORED
        return np.where(ignored, IGNORED, _places(part, self.name, self.classes, ignored))


def _check_kind(part: _Table, name: str, *, words: bool) -> None:
    column = part.columns[name]
    if (column.dtype.kind == "U") != words:
        kinds = ("words", "numbers")
        raise ValueError(
            f"table: column {name!r} holds {kinds[words]} in one file, such as {shown(column[0].item())}, and"
            f" {kinds[not words]} in the training data"
        )


def _places(
    part: _Table, name: str, known: NDArray[Any], ignored: NDArray[np.bool_] | bool = False
) -> NDArray[np.int64]:
    """Find the values of a column among those of the training data."""
    _check_kind(part, name, words=known.dtype.kind == "U")
    column = part.columns[name]
    strange = ~np.isin(column, known) & ~np.asarray(ignored)
    if strange.any():
        row = int(strange.argmax())
        raise ValueError(
            f"table: column {name!r} has {shown(column[row].item())} in {part.places[row]}, which is none of the"
            f" {len(known)} values in the training data"
        )
    return np.searchsorted(known, column).clip(max=len(known) - 1)


def _as_numbers(column: NDArray[Any]) -> NDArray[Any]:
    """Convert words that are all numbers, or missing."""
    if column.dtype.kind != "U":
        return column.astype(np.float64) if column.dtype.kind in "biuf" else column.astype(str)
    missing = column == ""
    try:
        numbers = np.where(missing, "nan", column).astype(np.float64)
    except ValueError:
        return column
    return column if missing.all() else numbers


def _read_csv(file: Path) -> dict[str, NDArray[Any]]:
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            header, *rows = csv.reader(stream)
    except (OSError, ValueError, csv.Error) as error:
        reason = "it is empty" if "unpack" in str(error) else first_line(error)
        raise ValueError(f"table: {file} cannot be read: {reason}") from error
    rows = [row for row in rows if row]
    wrong = next((place for place, row in enumerate(rows) if len(row) != len(header)), None)
    if wrong is not None:
        raise ValueError(f"table: row {wrong} of {file} has {len(rows[wrong])} values for {len(header)} columns")
    return {name.strip(): np.array([row[place].strip() for row in rows]) for place, name in enumerate(header)}


def _read_parquet(file: Path) -> dict[str, NDArray[Any]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError('Parquet files need the package pyarrow: pip install "basinet[datasets]"') from error
    try:
        found = pyarrow.parquet.read_table(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"table: {file} cannot be read: {first_line(error)}") from error
    columns = {}
    for name in found.column_names:
        values = found[name].to_pylist()
        if any(isinstance(value, list | dict) for value in values):
            raise ValueError(f"table: column {name!r} of {file} holds lists; allowed are numbers and words")
        words = any(isinstance(value, str) for value in values)
        columns[name] = np.array(
            [("" if words else float("nan")) if value is None else (str(value) if words else value) for value in values]
        )
    return columns
