"""Tables in CSV or Parquet files."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from basinet.algorithms import draws
from basinet.sim.data.rows import IGNORED
from basinet.sim.experiment.mistakes import nearest, reason_of, shown
from basinet.sim.tasks.loaders.csv_files import Columns, are_finite, as_numbers, read_csv, shift_and_scale
from basinet.sim.tasks.supervised import supervised
from basinet.sim.tasks.task import TASKS, Task

__all__ = ["table"]

_log = logging.getLogger(__name__)


@TASKS.register()
def table(
    *,
    path: str,
    target: str,
    test_path: str | None = None,
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    inputs: Sequence[str] | None = None,
    columns: Sequence[str] = (),
    words: Sequence[str] = (),
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
        words: Columns whose values are words although most or all are numbers, such as codes.
        classification: Whether the target is a class; by default, if it is a word or an integer.
        standardize: Whether numbers are shifted and scaled to mean 0 and variance 1 over the training data.
        seed: Seed of the choice of test rows; the simulator supplies it.

    Returns:
        A task.

    Raises:
        ValueError: If a file cannot be read, a column does not exist, appears twice, differs between files, lacks a
            value or holds words among numbers, or test data hold a word or a class that the training data do not.
    """
    train = _Table.read(path, words)
    test = None if test_path is None else _Table.read(test_path, words)
    for name in (target, *(inputs or ()), *columns, *words):
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


_FEW_ROWS = 20
"""Tables of so few rows may hold a different word in each."""


class _Table:
    """The columns of some files: arrays of numbers, or of words.

    Attributes:
        columns: Them, by name.
        places: Where each row is, in words.
        aside: Columns that are no inputs.
        words: Columns that hold words, whatever they look like.
    """

    def __init__(
        self, columns: dict[str, NDArray[Any]], places: NDArray[Any], aside: list[str], words: Sequence[str]
    ) -> None:
        self.columns, self.places, self.aside, self.words = columns, places, aside, words

    def __len__(self) -> int:
        return len(self.places)

    @classmethod
    def read(cls, path: str, words: Sequence[str]) -> "_Table":
        """Read the files of a pattern; raise if their columns differ."""
        given = Path(path)
        files = sorted(given.parent.glob(given.name)) if any(mark in given.name for mark in "*?[") else [given]
        if not files:
            raise ValueError(f"table: no file is called {path}")
        tables: list[dict[str, NDArray[Any]]] = []
        places: list[str] = []
        for file in files:
            is_parquet = file.suffix in (".parquet", ".pq")
            header, values, found_in = _read_parquet(file) if is_parquet else read_csv(file, "table")
            if len(files) > 1:
                header, values = [*header, "file"], [*values, np.full(len(found_in), file.name)]
            twice = next((name for name in header if header.count(name) > 1), None)
            if twice is not None:
                own = ", besides the one of the files' names" if twice == "file" and len(files) > 1 else ""
                raise ValueError(f"table: column {twice!r} appears twice in {file}{own}")
            found = dict(zip(header, values, strict=True))
            if tables and (other := sorted(found.keys() ^ tables[0].keys())):
                raise ValueError(f"table: {file} and {files[0]} differ in the columns {', '.join(other)}")
            if not found_in:
                raise ValueError(f"table: {file} has no rows")
            tables.append(found)
            places += [f"{place} of {file}" for place in found_in]
        joined = {name: np.concatenate([found[name] for found in tables]) for name in tables[0]}
        columns = {name: (_as_words if name in words else as_numbers)(column) for name, column in joined.items()}
        return cls(columns, np.array(places), ["file"] if len(files) > 1 else [], words)

    def part(self, rows: NDArray[np.int64]) -> "_Table":
        """Return some rows."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return _Table(columns, self.places[rows], self.aside, self.words)

    def check(self, name: str) -> None:
        """Raise if there is no such column."""
        if name not in self.columns:
            raise ValueError(f"table: there is no column {name!r}; {nearest(name, self.columns)}")

    def whole(self, name: str) -> NDArray[Any]:
        """Return a column; raise if there is none, it lacks a value, or it holds words among numbers."""
        self.check(name)
        column = self.columns[name]
        missing = column == "" if column.dtype.kind == "U" else ~are_finite(column)
        if missing.any():
            row = int(missing.argmax())
            what = "no value"
            if column.dtype.kind != "U" and not np.isnan(column[row]):
                what = f"{shown(column[row].item())}, which is not finite in float32,"
            raise ValueError(f"table: column {name!r} has {what} in {self.places[row]}")
        if column.dtype.kind == "U" and name not in self.words:
            numbers = _are_numbers(column)
            if 2 * numbers.sum() > len(column):
                row = int(numbers.argmin())
                raise ValueError(
                    f"table: column {name!r} has {shown(column[row].item())} in {self.places[row]}, and numbers in"
                    f" {numbers.sum()} of {len(column)} rows; allowed are numbers alone, or `words: [{name}]`, which"
                    " makes a word of each value"
                )
        return column


class _Feature:
    """The numbers that a column becomes."""

    def __init__(self, train: _Table, name: str, *, standardize: bool) -> None:
        self.name = name
        column = train.whole(name)
        self.words = np.unique(column) if column.dtype.kind == "U" else None
        if self.words is not None and 2 * len(self.words) > len(column) > _FEW_ROWS:
            _log.warning(
                "table: column '%s' has %d different words in %d rows, each of which becomes a feature; inputs leaves"
                " it out, and columns keeps it for a partition",
                name,
                len(self.words),
                len(column),
            )
        self.shift, self.scale = 0.0, 1.0
        if self.words is None and standardize:
            self.shift, self.scale = map(float, shift_and_scale(column))

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
        row = 0 if words else int(_are_numbers(column).argmin())
        raise ValueError(
            f"table: column {name!r} holds {kinds[words]} in one file, such as {shown(column[row].item())} in"
            f" {part.places[row]}, and {kinds[not words]} in the training data"
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


def _as_words(column: NDArray[Any]) -> NDArray[np.str_]:
    """Convert numbers to words, of which missing ones are empty."""
    found = column.astype(str)
    return np.where(found == "nan", "", found) if column.dtype.kind == "f" else found


def _are_numbers(column: NDArray[Any]) -> NDArray[np.bool_]:
    """Find the words that are numbers."""

    def is_number(word: str) -> bool:
        try:
            float(word)
        except ValueError:
            return False
        return True

    known, places = np.unique(column, return_inverse=True)
    found: NDArray[np.bool_] = np.array([is_number(word) for word in known])[places]
    return found


def _read_parquet(file: Path) -> Columns:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError('Parquet files need the package pyarrow: pip install "basinet[datasets]"') from error
    try:
        found = pyarrow.parquet.read_table(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"table: {file} cannot be read: {reason_of(error)}") from error
    columns = []
    for name, column in zip(found.column_names, found.columns, strict=True):
        values = column.to_pylist()
        if any(isinstance(value, list | dict) for value in values):
            raise ValueError(f"table: column {name!r} of {file} holds lists; allowed are numbers and words")
        words = any(isinstance(value, str) for value in values)
        columns.append(
            np.array(
                [
                    ("" if words else float("nan")) if value is None else (str(value) if words else value)
                    for value in values
                ]
            )
        )
    return found.column_names, columns, [f"row {row}" for row in range(1, found.num_rows + 1)]
