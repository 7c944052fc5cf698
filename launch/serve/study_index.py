"""The studies and runs below a folder, read again only where files have changed."""

import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from basinet.analysis.compare.efforts import samples_a_step
from basinet.launch.serve.growing_metrics import GrowingMetrics, Series, last_values
from basinet.sim.experiment.mistakes import ExperimentError
from basinet.sim.run.files import is_leftover, read_json
from basinet.sim.run.quantity import Quantity, of_every_run
from basinet.sim.run.records import ANALYZED, METRICS, is_begun, load_config, load_status

__all__ = ["ODD", "Entry", "StudyIndex"]

_DEPTH = 8
"""Most folders below each other in which studies are looked for."""


ODD = (ExperimentError, OSError, ArithmeticError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What is raised for files that do not hold what a run writes."""

_TRIES = 3
"""Attempts to read a run in progress, whose files may change between two reads."""

_FILES = ("config.yaml", "status.json", METRICS, ANALYZED, "topology.csv")

Stamp = tuple[tuple[int, int, int] | None, ...]
"""Length, time of change and inode of each file of a run that exists."""


@dataclass
class Entry:
    """A run as the page lists it.

    Attributes:
        number: Its number for as long as the server runs.
        id: Its folder, as seen from the folder that is served.
        study: The folder that holds it, likewise; "" is the folder itself.
        path: Its folder.
        version: The version of the index in which it last changed.
        state: running, done, diverged, interrupted, failed; waiting if it has not begun; damaged if it cannot be read.
        config: The resolved experiment.
        status: What the run says of itself.
        finals: Mean, standard deviation and number of replicas of the last values, by metric.
        samples: The samples that all agents together draw at a step; NaN if that is not known.
        quantities: What the numbers are called.
        problem: Why it cannot be read; "" if it can.
        changed: When its status or measurements last changed, in seconds since the epoch.
        stamp: What its files looked like when they were read.
    """

    number: int
    id: str
    study: str
    path: Path
    version: int = 0
    state: str = "damaged"
    config: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    finals: dict[str, tuple[float, float | None, int]] = field(default_factory=dict)
    samples: float = math.nan
    quantities: dict[str, Quantity] = field(default_factory=dict)
    problem: str = ""
    changed: float = 0.0
    stamp: Stamp = ()

    @property
    def diverged(self) -> set[int]:
        """Replicas that diverged."""
        return {int(replica) for replica in self.status.get("diverged", {})}


class StudyIndex:
    """The runs below a folder. Links are not followed, since they may lead out of it.

    Args:
        folder: The folder: of a run, of an experiment, or of several.
        age: Seconds for which the folders are not looked at again.

    Attributes:
        version: Grows whenever a run has changed.
        problems: A sentence for each part of the folder that cannot be read.
    """

    def __init__(self, folder: Path, age: float = 0.5) -> None:
        self.folder = folder.resolve()
        self.age = age
        self.version = 0
        self.problems: list[str] = []
        self._entries: dict[str, Entry] = {}
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._metrics: dict[int, GrowingMetrics] = {}
        self._read: dict[int, Stamp] = {}
        self._looked = -math.inf
        self._waiting: list[tuple[Path, Stamp]] = []
        self._lock = threading.Lock()  # of the entries, held for moments
        self._looking, self._measuring = threading.Lock(), threading.Lock()  # held while files are read

    def refresh(self, seconds: float) -> int:
        """Look at the folders again, and read what has changed.

        Args:
            seconds: Time after which to stop reading; the next call goes on.

        Returns:
            Number of changed runs that are still to be read.
        """
        with self._looking:
            end = time.monotonic() + seconds
            if not self._waiting and time.monotonic() - self._looked > self.age:
                self._look()
            while self._waiting:
                self._update(*self._waiting.pop())
                if time.monotonic() > end:
                    break
            return len(self._waiting)

    def entries(self) -> list[Entry]:
        """Return the runs, by their folders."""
        with self._lock:
            return [self._entries[name] for name in sorted(self._entries)]

    def entry(self, number: int) -> Entry:
        """Look up a run.

        Args:
            number: Its number.

        Returns:
            The run.

        Raises:
            LookupError: There is none of this number, or no longer.
        """
        with self._lock:
            return self._entries[self._names[number]]

    def series(self, entry: Entry, metric: str, x: str) -> tuple[Series, int]:
        """Read the measurements of a run as far as they go.

        Args:
            entry: The run.
            metric: The metric.
            x: The horizontal axis: `step`, `samples`, or another measurement.

        Returns:
            The curves of the replicas that did not diverge, none if their places are not known; and `every`: one in so
            many evaluations was kept.

        Raises:
            ExperimentError: The measurements are damaged.
        """
        with self._measuring:
            known = self._metrics.setdefault(entry.number, GrowingMetrics(entry.path))
            if not self.has_read(entry):
                self._read_on(known, entry)
            if x != "samples":
                return known.series(metric, x, entry.diverged), known.every
            found = known.series(metric, "step", entry.diverged) if math.isfinite(entry.samples) else {}
            scaled = {replica: (steps, steps * entry.samples, values) for replica, (steps, _, values) in found.items()}
            return scaled, known.every

    def _read_on(self, known: GrowingMetrics, entry: Entry) -> None:
        for attempt in range(_TRIES):
            try:
                status = load_status(self.confined(entry.path)) if attempt else entry.status
                known.read([part for name, part in status.get("files", {}).items() if name == METRICS])
                break
            except ExperimentError:
                if attempt == _TRIES - 1:
                    raise
        self._read[entry.number] = entry.stamp

    def has_read(self, entry: Entry) -> bool:
        """Return whether all measurements of a run have been read that were there when it was looked at.

        Args:
            entry: The run.

        Returns:
            Whether they have, so that `series` takes no time.
        """
        return self._read.get(entry.number) == entry.stamp

    def confined(self, path: Path) -> Path:
        """Raise if a path leads out of the folder.

        Args:
            path: A path below the folder, which may have been replaced by a link since it was found.

        Returns:
            The path.

        Raises:
            ExperimentError: It leads elsewhere.
        """
        if not path.resolve().is_relative_to(self.folder):
            raise ExperimentError(f"{path}: it leads out of {self.folder}")
        return path

    def _look(self) -> None:
        """Find the runs, forget those that are gone, and note those that changed."""
        self._looked = time.monotonic()
        problems: list[str] = []
        found = dict(self._runs(self.folder, _DEPTH, problems))
        names = {self._name(path): path for path in found}
        gone = self._entries.keys() - names.keys()
        with self._lock:
            for name in gone:
                number = self._entries.pop(name).number
                self._metrics.pop(number, None)
                self._read.pop(number, None)
            if gone or problems != self.problems:
                self.version += 1
            self.problems = problems
        self._waiting = [
            (path, found[path])
            for name, path in sorted(names.items(), reverse=True)
            if name not in self._entries or self._entries[name].stamp != found[path]
        ]

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix() if path != self.folder else path.name

    def _runs(self, folder: Path, depth: int, problems: list[str]) -> Iterator[tuple[Path, Stamp]]:
        """Yield the runs in and below a folder."""
        try:
            names = {entry.name: entry for entry in os.scandir(folder)}
        except OSError as error:
            if folder == self.folder or not isinstance(error, FileNotFoundError):  # deleted meanwhile
                problems.append(f"{folder}: {error.strerror}")
            return
        if "config.yaml" in names:
            yield folder, _stamp(names)
            return
        if names.keys() & {METRICS, "status.json"} and "experiment.yaml" not in names:
            try:
                is_begun(folder)
            except ExperimentError as error:
                problems.append(str(error))
            return
        for name, entry in sorted(names.items()):
            path = folder / name
            if name.startswith(".") or is_leftover(path):
                continue
            if entry.is_symlink():
                if path.is_dir():
                    problems.append(f"{path}: it is a link, which may lead out of the folder")
            elif entry.is_dir() and depth:
                yield from self._runs(path, depth - 1, problems)

    def _update(self, path: Path, stamp: Stamp) -> None:
        """Read a run that has changed."""
        name = self._name(path)
        if name not in self._numbers:
            self._numbers[name] = len(self._names)
            self._names.append(name)
        number = self._numbers[name]
        study = "" if path == self.folder or path.parent == self.folder else self._name(path.parent)
        entry = Entry(number, name, study, path, stamp=stamp)
        entry.changed = max((part[1] for part in stamp[1:3] if part), default=0) / 1e9
        for attempt in range(_TRIES):
            try:
                _fill(entry, self.confined(path))
                break
            except FileNotFoundError:  # deleted meanwhile
                return
            except ODD as error:
                if attempt == _TRIES - 1:
                    entry.state, entry.problem = "damaged", " ".join(str(error).split())
        with self._lock:
            self.version += 1
            entry.version = self.version
            self._entries[name] = entry


def _stamp(names: Mapping[str, os.DirEntry[str]]) -> Stamp:
    found: list[tuple[int, int, int] | None] = []
    for name in _FILES:
        known = None
        if name in names:
            with suppress(OSError):
                stat = names[name].stat(follow_symlinks=False)
                known = stat.st_size, stat.st_mtime_ns, stat.st_ino
        found.append(known)
    return tuple(found)


def _moments(values: Sequence[float]) -> tuple[float, float | None, int]:
    """Compute mean, standard deviation and number, in a tenth of the time of `statistics`; huge values overflow."""
    count, mean = len(values), sum(values) / len(values)
    squares = sum((value - mean) * (value - mean) for value in values)
    return mean, math.sqrt(squares / (count - 1)) if count > 1 and math.isfinite(squares) else None, count


def _fill(entry: Entry, path: Path) -> None:
    """Read what the page lists of a run."""
    begun = any((path / name).exists() for name in ("status.json", METRICS))
    entry.config = load_config(path)
    entry.status = load_status(path)
    entry.samples = samples_a_step(entry.config, entry.status)
    replicas = int(entry.config.get("replicas") or 1)
    values = last_values(path, replicas, entry.diverged)
    finals = {name: _moments([*map(float, found.values())]) for name, found in values.items()}
    entry.finals = {name: found for name, found in finals.items() if math.isfinite(found[0])}
    recorded = dict(entry.status.get("quantities") or {})
    if (path / ANALYZED).exists():
        recorded |= read_json(path / ANALYZED).get("quantities", {})
    entry.quantities = {name: Quantity.read(known) for name, known in recorded.items()}
    usual = of_every_run(validation=entry.config.get("validation"))
    entry.quantities |= {name: known for name, known in usual.items() if name in entry.finals}
    entry.state = str(entry.status["state"]) if begun else "waiting"
