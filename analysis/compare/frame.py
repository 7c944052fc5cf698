"""Runs as columns: a row for each replica, with the keys of its experiment and what was measured at its end."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from basinet.analysis.compare.graph_columns import GRAPH, graph_numbers
from basinet.analysis.statistics.run_labels import describe, setting, strategy_label
from basinet.sim.experiment import yaml_files
from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.mistakes import first_line
from basinet.sim.run.folder import Run, read_run, run_folders
from basinet.sim.run.quantity import QUANTITIES, Quantity
from basinet.sim.run.records import METRICS, Row

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Frame", "frame_of", "read", "spent"]

Array = NDArray[np.float64]

_EFFORT = {
    "step": Quantity("steps"),
    "samples": Quantity("samples"),
    "bytes": Quantity("communication", unit="bytes"),
    "seconds": Quantity("time", unit="s"),
}
"""What a replica has spent up to its last step."""

_PLACES = ("run", "seed", "replica", "state")


@dataclass(frozen=True, eq=False)
class Frame:
    """Replicas of runs, a row each.

    Attributes:
        runs: The runs, with the measurements at their last step; see `curves` for the others.
        places: The index of the run of each row, [n].
        replicas: The number of the replica of each row, [n].
        notes: A sentence for each folder or part of one that was left out.
    """

    runs: tuple[Run, ...]
    places: NDArray[np.int64]
    replicas: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.places)

    def __repr__(self) -> str:
        return f"Frame({len(self.runs)} runs, {len(self)} replicas, {len(self.metrics)} metrics)"

    @cached_property
    def keys(self) -> list[str]:
        """The dotted keys of the experiments, without components."""
        return list(dict.fromkeys(key for run in self.runs for key in _flat(run.config)))

    @cached_property
    def components(self) -> list[str]:
        """The components of the experiments, whose columns have their names."""
        return [key.removesuffix(".name") for key in self.keys if key.endswith(".name")]

    @cached_property
    def metrics(self) -> list[str]:
        """The metrics and measures of the centroid, in order of first appearance."""
        return list(dict.fromkeys(name for values in self._finals for name in values if name != "step"))

    @property
    def names(self) -> list[str]:
        """The names of all columns."""
        return list(dict.fromkeys([*_PLACES, *self.components, *self.keys, *_EFFORT, *self.metrics, *GRAPH]))

    @cached_property
    def _finals(self) -> list[Row]:
        """The finite values at the last step, by row of the frame; none of a replica that diverged."""
        ends = [_ends(run) for run in self.runs]
        return [
            ends[place].get(replica, {}) for place, replica in zip(self.places, self.replicas.tolist(), strict=True)
        ]

    def column(self, name: str) -> list[Any] | Array:
        """Return a column.

        Args:
            name: A dotted key of the experiment, or a component (`strategy`, `topology`), of which the column has the
                name; `run` (the folder), `seed`, `replica` or `state` (of the run, or diverged); `step`, `samples`,
                `bytes` or `seconds`, spent by all agents up to the last step; a metric; or `spectral_gap` or `degree`
                of the graph.

        Returns:
            A list of values for keys, None where a run has no such key; an array for numbers, NaN where there is none.

        Raises:
            ExperimentError: There is no such column.
        """
        if name not in self._kept:
            self._kept[name] = self._column(name)
        found: list[Any] | Array = self._kept[name]
        return found

    def _column(self, name: str) -> list[Any] | Array:
        if name == "replica":
            return list(map(int, self.replicas))
        if name == "state":
            pairs = [(self.runs[place], replica) for place, replica in zip(self.places, self.replicas, strict=True)]
            return ["diverged" if replica in run.diverged else run.status.get("state") for run, replica in pairs]
        if name in self.metrics:
            return np.array([row.get(name, math.nan) for row in self._finals], dtype=float)
        if name in _EFFORT:
            return np.array(
                [
                    spent(self.runs[place], row, name)
                    for place, row in zip(self.places.tolist(), self._finals, strict=True)
                ]
            )
        if name in GRAPH:
            return self._spread([graph_numbers(run).get(name, math.nan) for run in self.runs], as_array=True)
        return self._spread(self.of_runs(name))

    def of_runs(self, key: str) -> list[Any]:
        """Return the values of a key, one for each run.

        Args:
            key: As for `column`: a dotted key, a component, or `run`.

        Returns:
            The values, None where a run has no such key.

        Raises:
            ExperimentError: No run has such a key.
        """
        if key == "run":
            return [str(run.path) for run in self.runs]
        if key == "strategy":
            return [strategy_label(run.config) for run in self.runs]
        found = [setting(run.config, key) for run in self.runs]
        if all(value is None for value in found) and key not in self.names:
            raise ExperimentError(f"{key}: no run has this key or metric; {nearest(key, self.names)}")
        return [value.get("name", describe(value)) if isinstance(value, Mapping) else value for value in found]

    def _spread(self, values: Sequence[Any], as_array: bool = False) -> list[Any] | Array:
        """Give each row the value of its run."""
        return np.array(values, dtype=float)[self.places] if as_array else [values[place] for place in self.places]

    def numbers(self, name: str) -> Array:
        """Return a column of numbers.

        Args:
            name: As for `column`.

        Returns:
            The numbers, [n]; NaN where there is none.

        Raises:
            ExperimentError: There is no such column, or it has no numbers.
        """
        values = self.column(name)
        if isinstance(values, np.ndarray):
            return values
        numbers = [float(v) if isinstance(v, int | float) and not isinstance(v, bool) else math.nan for v in values]
        if all(map(math.isnan, numbers)) and len(values):
            raise ExperimentError(f"{name}: got {describe(values[0])}, where numbers are needed, as of a metric")
        return np.array(numbers)

    def select(self, rows: Iterable[int] | NDArray[np.bool_]) -> "Frame":
        """Keep some of the rows.

        Args:
            rows: Their indices, or whether each is kept, [n].

        Returns:
            The frame of these rows and their runs.
        """
        chosen = np.asarray(list(rows))
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(int)
        used, places = np.unique(self.places[chosen], return_inverse=True)
        return Frame(tuple(self.runs[run] for run in used), places, self.replicas[chosen], self.notes)

    def where(self, conditions: Iterable[str]) -> "Frame":
        """Keep the rows that meet all conditions.

        Args:
            conditions: Each `key=value` or `key=value,value`, with a key as for `column`.

        Returns:
            The frame of these rows.

        Raises:
            ExperimentError: A condition is not written so, or there is no such key, or no row has such a value.
        """
        kept = np.ones(len(self), dtype=bool)
        for condition in conditions:
            key, equals, text = condition.partition("=")
            if not (equals and key.strip() and text.strip()):
                raise ExperimentError(f"--where: got {condition}; allowed is key=value, such as strategy=diffusion")
            try:
                wanted = {describe(value).casefold() for value in _several(text)}
            except ValueError as error:
                raise ExperimentError(f"--where: {condition}: {error}") from error
            key = key.strip()
            had = list(map(describe, self.column(key)))
            meets = np.array([value.casefold() in wanted for value in had], dtype=bool)
            if key == "strategy":  # by its plain name, too: diffusion besides diffusion ATC
                plain = self.column("strategy.name") if "strategy.name" in self.keys else had
                meets |= np.array([describe(value).casefold() in wanted for value in plain], dtype=bool)
            if len(self) and not meets.any():
                raise ExperimentError(f"--where: no run has {condition}; {nearest(text, dict.fromkeys(had))}")
            kept &= meets
        if len(self) and not kept.any():
            raise ExperimentError(f"--where: no run has {' and '.join(conditions)} at once")
        return self.select(kept)

    def quantity(self, name: str) -> Quantity:
        """Look up what a column of numbers means.

        Args:
            name: Its name.

        Returns:
            Its label, unit and better direction; for an unknown one, the name in words.
        """
        known = {**QUANTITIES, **GRAPH, **_EFFORT}
        runs = [self.runs[place] for place, row in zip(self.places, self._finals, strict=True) if name in row][:1]
        for run in runs if name not in known else []:
            known |= run.metric_quantities or {}
            known |= run.quantities
            if name not in known and run.metric_quantities is None:  # of an earlier version; this takes long
                from basinet.analysis.statistics.quantities import registered

                known |= registered()
        return known.get(name) or Quantity(name.replace("_", " "))

    def curves(self, metric: str, *, x: str = "step") -> list[tuple[Array, Array]]:
        """Read a metric over the steps, from the files of the runs.

        Args:
            metric: A metric of the centroid.
            x: `step`, `samples`, `bytes` or `seconds`, or another metric, for the horizontal axis.

        Returns:
            For each row, the places on the axis and the finite values there, in the order of the steps.
        """
        found = []
        for place, rows in zip(self.places.tolist(), self.measurements(), strict=True):
            known = [row for row in rows if math.isfinite(row.get(metric, math.nan))]
            across = [spent(self.runs[place], row, x) for row in known]
            found.append((np.array(across, dtype=float), np.array([row[metric] for row in known], dtype=float)))
        return found

    def measurements(self) -> list[list[Row]]:
        """Read all that was measured at the centroid, from the files of the runs.

        Returns:
            For each row of the frame, the measurements in the order of the steps.
        """
        for place, run in enumerate(self.runs):
            if ("rows", place) not in self._kept:
                rows: dict[int, list[Row]] = {}
                for row in sorted(read_run(run.path).metrics, key=lambda row: int(row["step"])):
                    if "agent" not in row:
                        rows.setdefault(row["replica"], []).append(row)
                self._kept["rows", place] = rows
        pairs = zip(self.places.tolist(), self.replicas.tolist(), strict=True)
        return [self._kept["rows", place].get(replica, []) for place, replica in pairs]

    def frame(self) -> "DataFrame":
        """Return all columns as a frame of pandas.

        Returns:
            The frame; lists and mappings of an experiment are written as text.

        Raises:
            ExperimentError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ExperimentError('frame needs the package pandas: pip install "basinet[series]"') from error
        columns = {name: self.column(name) for name in self.names}
        return pd.DataFrame(
            {
                name: [describe(value) if isinstance(value, list | dict) else value for value in values]
                for name, values in columns.items()
            }
        )


def read(folders: Iterable[str | Path], where: Iterable[str] = ()) -> Frame:
    """Read runs, as far as they have come; of finished ones, only what is needed of their last step.

    Args:
        folders: Folders that `run` wrote, or folders of single runs.
        where: Conditions, as for `Frame.where`.

    Returns:
        A row for each replica. What cannot be read is left out and named in the notes.

    Raises:
        ExperimentError: There is nothing left, or a condition is wrong.
    """
    notes: list[str] = []
    runs: dict[Path, Run] = {}
    for folder in map(Path, folders):
        try:
            found = run_folders(folder, Path.is_dir)
        except (ExperimentError, OSError) as error:
            notes.append(f"{first_line(error)}; left out")
            continue
        for name, path in found.items():
            if (known := path.resolve()) in runs:
                continue
            try:
                run = read_run(path, last=True)
            except (ExperimentError, OSError) as error:
                notes.append(f"{first_line(error)}; left out")
                continue
            if not run.metrics:
                notes.append(f"{path}: nothing has been measured yet ({run.status.get('state')}); left out")
                continue
            if _half_written(path / METRICS):
                notes.append(f"{path / METRICS}: the last line is half written; it is left out")
            runs[known] = run if run.name == name else Run(name, path, run.config, run.status, run.metrics)
    if not runs:
        raise ExperimentError("; ".join(notes) or "DIR: no folder is given; give folders that `basinet run` wrote")
    return frame_of(runs.values(), notes).where(list(where))


def frame_of(runs: Iterable[Run], notes: Iterable[str] = ()) -> Frame:
    """Arrange runs that have been read as a frame.

    Args:
        runs: The runs.
        notes: Sentences about what was left out.

    Returns:
        A row for each replica.
    """
    runs = tuple(runs)
    rows = [
        (place, replica)
        for place, run in enumerate(runs)
        for replica in sorted({*range(run.config.get("replicas") or 0), *(row["replica"] for row in run.metrics)})
    ]
    places, replicas = np.array(rows, dtype=int).reshape(-1, 2).T
    return Frame(runs, places, replicas, tuple(notes))


def _half_written(path: Path) -> bool:
    """Return whether a process has died in the middle of a line."""
    if not path.exists() or not path.stat().st_size:
        return False
    with open(path, "rb") as file:
        file.seek(-1, 2)
        return file.read(1) != b"\n"


def _several(text: str) -> list[Any]:
    """Read values that are separated by commas, as on the command line."""
    found = yaml_files.load(f"[{text}]")
    return found if isinstance(found, list) else [found]


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    """List the dotted keys of an experiment that have plain values."""
    keys: list[str] = []
    for key, value in config.items():
        keys += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else [f"{prefix}{key}"]
    return keys


def _ends(run: Run) -> dict[int, Row]:
    """Collect the finite values at the last step of each replica that did not diverge."""
    ends: dict[int, Row] = {}
    for row in run.metrics:
        replica, step = row["replica"], row["step"]
        if "agent" in row or replica in run.diverged or step < ends.get(replica, row)["step"]:
            continue
        if replica not in ends or step > ends[replica]["step"]:
            ends[replica] = {}
        ends[replica].update((name, v) for name, v in row.items() if name != "replica" and math.isfinite(v))
    return ends


def spent(run: Run, row: Mapping[str, float], what: str) -> float:
    """Compute what a replica has spent when it was measured.

    Args:
        run: Its run.
        row: The measurement.
        what: `step`, `samples`, `bytes` or `seconds`; or another metric, which is taken as it is.

    Returns:
        The amount, of all agents together; NaN if it was not recorded.
    """
    if what != "samples":
        return float(row.get("communicated_bytes" if what == "bytes" else what, math.nan))
    agents = run.status.get("agents") or setting(run.config, "topology.agents") or math.nan
    return float(row.get("step", math.nan) * run.config.get("batch_size", math.nan) * agents)
