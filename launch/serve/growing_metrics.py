"""The measurements of one run, read as they are appended, and thinned so that a thousand runs fit into memory."""

import os
import re
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from basinet.sim.run.files import LOST, Damaged, Vouched, plain_file
from basinet.sim.run.records import METRICS, Row, final_values, parse_lines

__all__ = ["GrowingMetrics", "Series", "last_values"]

_CHUNK = 4 * 2**20
_TAIL = 4 * 2**10
_TAIL_OF_REPLICA = 700
"""Bytes that are read at first from the end of a file, and more of them for each replica."""

_LONGEST_TAIL = 16 * 2**20
_SEEN = 256
"""Bytes before the place read last that must be the same for reading to continue there."""

_MOST_ROWS = 2048
_FEWEST_STEPS = 64
"""A run with many replicas keeps at least as many evaluations, whatever the number of rows."""

_LINE = re.compile(rb'^\{"step": (\d+), "replica": (\d+)(, "agent")?[^\n]*\n', re.MULTILINE)
"""A line as runs write it."""

_EVALUATION = ("train_loss", "communicated_bytes", "epoch")
"""Any of these is in the rows of evaluations, and in no row of the analysis."""

Series = dict[int, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]
"""Steps, horizontal places and values by replica."""


class GrowingMetrics:
    """The measurements of the centroids of a run, from a file that another process appends to.

    Of more than 2,048 rows every second evaluation is kept, then every fourth, and so on, and always the last one.

    Args:
        folder: The run's folder.

    Attributes:
        every: One in so many evaluations is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS
        self._restart()

    def _restart(self) -> None:
        self.every = 1
        self._file = 0
        self._offset, self._crc, self._lines = 0, 0, 0
        self._seen = b""
        self._evaluations, self._step = 0, -1
        self._here: set[int] = set()
        self._columns: dict[str, NDArray[np.float64]] = {}
        self._numbers = np.zeros(0, np.int64)  # of the evaluation that a row belongs to
        self._last: list[tuple[int, Row]] = []
        self._later: dict[tuple[int, int], Row] = {}
        self._asked: tuple[Any, Series] | None = None

    def read(self, vouched: Sequence[Vouched] = ()) -> None:
        """Read what has been appended since the last time; a file that was cut or replaced is read again.

        Args:
            vouched: Recorded beginnings of the file.

        Raises:
            Damaged: A line is not a row, or recorded content is missing.
        """
        if not plain_file(self.path).exists():
            self._restart()
            if any(part["bytes"] for part in vouched):
                raise Damaged(self.path, LOST)
            return
        try:
            self._read(sorted(vouched, key=lambda part: int(part["bytes"])))
        except Damaged:
            self._restart()
            raise

    def _read(self, vouched: Sequence[Vouched]) -> None:
        with open(self.path, "rb") as file:
            file.seek(self._offset - len(self._seen))
            if self._file != _identity(file) or file.read(len(self._seen)) != self._seen:
                self._restart()
                self._file = _identity(file)
                file.seek(0)
            rest = b""
            waiting = [part for part in vouched if part["bytes"] > self._offset]
            while chunk := file.read(_CHUNK):
                content = rest + chunk
                complete = content[: content.rfind(b"\n") + 1]
                rest = content[len(complete) :]
                if not complete:
                    continue
                while waiting and waiting[0]["bytes"] <= self._offset + len(complete):
                    part = waiting.pop(0)
                    beginning = memoryview(complete)[: part["bytes"] - self._offset]
                    if f"{zlib.crc32(beginning, self._crc):08x}" != part["crc32"]:
                        raise Damaged(self.path, LOST)
                self._add(complete)
                self._offset += len(complete)
                self._crc = zlib.crc32(complete, self._crc)
                self._seen = (self._seen + complete)[-_SEEN:]
            if waiting:
                raise Damaged(self.path, f"rows after line {self._lines} are missing")

    def _add(self, content: bytes) -> None:
        """Add the rows of centroids in some complete lines; the analysis adds values to the rows of earlier steps."""
        self._asked = None
        ends = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n")) + 1
        heads = _LINE.findall(content)
        if len(heads) != len(ends):  # not written by a run
            rows = parse_lines(content, self.path, self._lines + 1)
            heads = [(row["step"], row["replica"], "agent" in row) for row in rows]
        steps, replicas = (np.array([head[part] for head in heads]).astype(np.int64) for part in (0, 1))
        centroid = np.array([not head[2] for head in heads])
        highest = np.maximum(np.maximum.accumulate(np.where(centroid, steps, -1)), self._step)
        pairs = np.stack([steps, replicas], 1)
        new = np.zeros(len(steps), bool)
        front = np.flatnonzero(centroid & (steps == highest))
        new[front[np.unique(pairs[front], axis=0, return_index=True)[1]]] = True
        new &= (steps > self._step) | ~np.isin(replicas, list(self._here))
        found, numbers = np.unique(np.concatenate([[self._step], steps[new]]), return_inverse=True)
        numbers = numbers[1:] + self._evaluations - 1
        self._evaluations += len(found) - 1
        if len(found) > 1:
            self._step, self._here = int(found[-1]), set()
        self._here |= set(replicas[new & (steps == self._step)].tolist())
        last = self._evaluations - 1
        self._thin(numbers)
        kept = (numbers % self.every == 0) | (numbers == last)
        # Lines of evaluations that are not kept are not parsed, which saves most of the time.
        places = np.concatenate([np.flatnonzero(new)[kept], np.flatnonzero(centroid & ~new)])
        starts = np.concatenate([[0], ends[:-1]])
        try:
            some = b"".join(content[starts[place] : ends[place]] for place in places)
            rows = parse_lines(some, self.path)
        except Damaged:
            parse_lines(content, self.path, self._lines + 1)  # which names the line
            raise
        self._lines += len(ends)
        known = self._last + list(zip(numbers[kept].tolist(), rows, strict=False))
        self._last = [pair for pair in known if pair[0] == last]
        self._append([pair for pair in known if pair[0] % self.every == 0 and pair[0] != last])
        for row in rows[kept.sum() :]:
            self._later.setdefault((row["step"], row["replica"]), {}).update(row)

    def _thin(self, new: NDArray[np.int64]) -> None:
        """Keep fewer evaluations if there are too many rows."""
        numbers = np.concatenate([self._numbers, new])
        while (numbers % self.every == 0).sum() > _MOST_ROWS and self._evaluations > _FEWEST_STEPS * self.every:
            self.every *= 2
        kept = self._numbers % self.every == 0
        if not kept.all():
            self._numbers = self._numbers[kept]
            self._columns = {name: values[kept] for name, values in self._columns.items()}

    def _append(self, pairs: Sequence[tuple[int, Row]]) -> None:
        if not pairs:
            return
        before = len(self._numbers)
        self._numbers = np.concatenate([self._numbers, [number for number, _ in pairs]])
        for name in dict.fromkeys([*self._columns, *(name for _, row in pairs for name in row)]):
            old = self._columns.get(name, np.full(before, np.nan))
            self._columns[name] = np.concatenate([old, [row.get(name, np.nan) for _, row in pairs]])

    def series(self, metric: str, x: str, left_out: Collection[int] = ()) -> Series:
        """Return the curves of the replicas.

        Args:
            metric: The metric.
            x: The horizontal axis: `step`, or another measurement.
            left_out: Replicas that diverged.

        Returns:
            Steps, places and finite values by replica, in the order of the steps.
        """
        asked = metric, x, frozenset(left_out)
        if self._asked is None or self._asked[0] != asked:
            self._asked = asked, self._series(metric, x, left_out)
        return self._asked[1]

    def _series(self, metric: str, x: str, left_out: Collection[int]) -> Series:
        names = ("replica", "step", x, metric)
        missing = np.full(len(self._numbers), np.nan)
        kept = np.stack([self._columns.get(name, missing) for name in names], 1)
        rows = [[row.get(name, np.nan) for name in names] for _, row in self._last]
        rows += [[replica, step, np.nan, row.get(metric, np.nan)] for (step, replica), row in self._later.items()]
        table = np.concatenate([kept, np.array(rows, np.float64).reshape(-1, len(names))])
        found: Series = {}
        for replica in np.unique(table[:, 0]).astype(int).tolist():
            if replica in left_out:
                continue
            mine = table[table[:, 0] == replica]
            known = mine[np.isfinite(mine[:, 2])]
            known = known[np.argsort(known[:, 1], kind="stable")]
            mine = mine[np.isfinite(mine[:, 3])]
            if not len(known) or not len(mine):
                continue
            _, first = np.unique(mine[:, 1], return_index=True)
            steps, places, values = mine[first, 1], mine[first, 2], mine[first, 3]
            # What the analysis adds has no place of its own; places grow evenly with the steps.
            places = np.where(np.isfinite(places), places, np.interp(steps, known[:, 1], known[:, 2]))
            found[replica] = (steps, places, values)
        return found


def _identity(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_ino


def last_values(folder: Path, replicas: int, diverged: Collection[int] = ()) -> dict[str, dict[int, float]]:
    """Read the last values of the centroids from the end of a file of measurements.

    Args:
        folder: The run's folder.
        replicas: Number of replicas.
        diverged: Those that diverged, which are left out.

    Returns:
        Values by metric and replica, at the last step of each replica, as `Run.final` returns them.

    Raises:
        Damaged: A line is not a row.
    """
    path = folder / METRICS
    if not plain_file(path).exists():
        return {}
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        length = min(size, _TAIL + _TAIL_OF_REPLICA * replicas)
        while True:
            file.seek(size - length)
            content = file.read(length)
            begin = content.find(b"\n") + 1 if length < size else 0
            rows = parse_lines(content[begin : content.rfind(b"\n") + 1], path)
            rows = [row for row in rows if "agent" not in row and row["replica"] not in diverged]
            last: dict[int, int] = {}
            for row in rows:
                last[row["replica"]] = max(row["step"], last.get(row["replica"], 0))
            whole = {r["replica"] for r in rows if r["step"] < last[r["replica"]] and _is_evaluation(r)}
            if length == size or length >= _LONGEST_TAIL or len(whole) >= replicas - len(diverged):
                break
            length = min(size, 4 * length)
    values: dict[str, dict[int, float]] = {}
    for replica, found in final_values(rows).items():
        for name, value in found.items():
            if name != "step":
                values.setdefault(name, {})[replica] = value
    return values


def _is_evaluation(row: Mapping[str, Any]) -> bool:
    return any(name in row for name in _EVALUATION)
