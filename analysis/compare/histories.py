"""Columns of what was measured during a run, read without parsing what is not asked for."""

import json
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from basinet.sim.run.folder import Run, read_run, recorded_lines
from basinet.sim.run.records import Row

__all__ = ["history"]

Array = NDArray[np.float64]

_Column = tuple[NDArray[np.int64], Array]
"""The numbers of the lines that have a value, and the values."""


def history(run: Run, names: Iterable[str]) -> dict[str, Array]:
    """Read what was measured at the centroids of a run, from its file.

    Args:
        run: The run.
        names: The metrics.

    Returns:
        A column for `step`, `replica` and each of the names, in the order of the steps; NaN where nothing was measured.
    """
    content = recorded_lines(run)
    if content is not None and b"\\" not in content:  # no key holds the end of another one
        ends = np.flatnonzero(np.frombuffer(content, dtype=np.uint8) == ord("\n"))
        number, column = len(ends), _column_of_lines(content, ends)
    else:
        rows = read_run(run.path).metrics
        number, column = len(rows), _column_of_rows(rows)
    (_, steps), (_, replicas) = column("step"), column("replica")
    of_centroids = np.full(number, True)
    of_centroids[column("agent")[0]] = False
    size = 1 + int(replicas.max(initial=0))
    points, places = np.unique((steps * size + replicas)[of_centroids].astype(int), return_inverse=True)
    place_of = np.zeros(number, dtype=int)
    place_of[of_centroids] = places
    found = {"step": np.floor_divide(points, size).astype(float), "replica": (points % size).astype(float)}
    for name in names:
        lines, values = column(name)
        kept = of_centroids[lines]
        found.setdefault(name, np.full(len(points), np.nan))[place_of[lines[kept]]] = values[kept]
    return found


def _column_of_lines(content: bytes, ends: NDArray[np.int64]) -> Callable[[str], _Column]:
    """Return a function that finds the values of a key in lines as runs write them."""

    def column(name: str) -> _Column:
        key = f"{json.dumps(name)}: ".encode()
        if key not in content:
            return np.empty(0, dtype=int), np.empty(0)
        value = re.compile(re.escape(key) + rb"([^,}\n]+)")
        found = value.findall(content)
        if len(found) == len(ends):
            lines = np.arange(len(ends))
        else:
            lines = np.searchsorted(ends, [match.start() for match in value.finditer(content)])
        return lines, np.array(list(map(float, found)))

    return column


def _column_of_rows(rows: Sequence[Row]) -> Callable[[str], _Column]:
    """Return a function that collects the values of a key in rows."""

    def column(name: str) -> _Column:
        lines = [line for line, row in enumerate(rows) if name in row]
        return np.array(lines, dtype=int), np.array([rows[line][name] for line in lines], dtype=float)

    return column
