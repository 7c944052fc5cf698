"""CSV files with a header, and the numbers in columns."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basinet.sim.experiment.mistakes import count_of, reason_of
from basinet.topologies.policies.matrix_files import decode

__all__ = ["Columns", "are_finite", "as_numbers", "read_csv", "shift_and_scale", "wanted_columns"]

Columns = tuple[list[str], list[NDArray[Any]], list[str]]
"""Names of columns, their values, and where each row is."""


def read_csv(file: Path, task: str) -> Columns:
    """Read a file.

    Args:
        file: The file.
        task: Who asks, for error messages.

    Returns:
        Names of the columns, their values as words, and the line of each row.

    Raises:
        ValueError: If it cannot be read as UTF-8, or a row has more or fewer values than there are columns.
    """
    rows, places, line = [], [], 1
    try:
        text = decode(file.read_bytes(), file, task)
    except OSError as error:
        raise ValueError(f"{task}: {file} cannot be read: {reason_of(error)}") from error
    try:
        reader = csv.reader(io.StringIO(text, newline=""))
        for row in reader:
            if row:
                rows.append(row)
                places.append(f"line {line}")
            line = reader.line_num + 1  # a value may have several lines
        header, *rows = rows
    except (ValueError, csv.Error) as error:
        reason = "it is empty" if "unpack" in str(error) else reason_of(error)
        raise ValueError(f"{task}: {file} cannot be read: {reason}") from error
    del places[0]
    for row, where in zip(rows, places, strict=True):
        if len(row) != len(header):
            found, wanted = count_of(len(row), "value"), count_of(len(header), "column")
            raise ValueError(f"{task}: {where} of {file} has {found} for {wanted}")
    values = [np.array([row[place].strip() for row in rows]) for place in range(len(header))]
    return [name.strip() for name in header], values, places


def wanted_columns(header: Sequence[str], wanted: Sequence[str]) -> str:
    """Name the columns that a file with others should have, and by what its own only seem to differ.

    Args:
        header: Names of its columns.
        wanted: Names of the columns that are needed.

    Returns:
        The end of a sentence.

    Example:
        >>> wanted_columns(["Filename", "Score"], ["filename", "score"])
        'filename and score, in lower case'
        >>> wanted_columns(["filename;score"], ["filename", "score"])
        "filename and score, separated by a comma, not by ';'"
    """
    names = " and ".join(wanted)
    if len(header) == 1 and (mark := next((mark for mark in ";\t|" if mark in header[0]), None)):
        return f"{names}, separated by a comma, not by {mark!r}"
    cased = {*wanted} - {*header} and {*wanted} <= {name.lower() for name in header}
    return f"{names}, in lower case" if cased else names


def as_numbers(column: NDArray[Any]) -> NDArray[Any]:
    """Convert words that are all numbers, or missing.

    Args:
        column: A column.

    Returns:
        Its numbers, float64, with NaN for missing ones; the column as it is if it holds other words.
    """
    if column.dtype.kind != "U":
        return column.astype(np.float64) if column.dtype.kind in "biuf" else column.astype(str)
    missing = column == ""
    try:
        numbers = np.where(missing, "nan", column).astype(np.float64)
    except ValueError:
        return column
    return column if missing.all() else numbers


def are_finite(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which numbers are finite in float32, too.

    Args:
        values: Numbers.

    Returns:
        Whether each is.
    """
    found: NDArray[np.bool_] = np.abs(values) <= np.finfo(np.float32).max
    return found


def shift_and_scale(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute what standardises columns.

    Args:
        values: Finite numbers, [n, ...].

    Returns:
        The mean and the standard deviation of each column; 1 instead of the latter where the numbers are the same but
        for rounding, since the deviation is then that of the mean.
    """
    mean, deviation = values.mean(0), values.std(0)
    rounding = 4 * np.finfo(values.dtype).eps * np.abs(values).max(0)
    varies = (np.ptp(values, axis=0) > rounding) & (deviation > 0)
    return mean, np.where(varies, deviation, 1.0)
