"""Runs as columns: a row for each replica, with the keys of its experiment and what was measured at its end."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from basinet.analysis.compare.efforts import EFFORTS, RECORDED, spent
from basinet.analysis.compare.graph_columns import GRAPH, graph_numbers
from basinet.analysis.compare.histories import history
from basinet.analysis.statistics.run_labels import describe, setting, strategy_label
from basinet.sim.experiment import yaml_files
from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.digest import flat
from basinet.sim.run.folder import Run, read_run
from basinet.sim.run.quantity import Quantity, of_every_run
from basinet.sim.run.records import Row, final_values

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Frame"]

Array = NDArray[np.float64]

_PLACES = ("run", "seed", "replica", "state")


@dataclass(frozen=True, eq=False)
class Frame:
    """Replicas of runs, a row each.

    Attributes:
        runs: The runs, with the measurements at their last step; see `curves` for the others.
        places: The index of the run of each row, [n].
        replicas: The number of the replica of each row, [n].
        notes: A sentence for each folder or part of one that was left out.
        axes: The keys that go together on each named axis of the experiments, whose points are a column, too.
    """

    runs: tuple[Run, ...]
    places: NDArray[np.int64]
    replicas: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.places)

    def __repr__(self) -> str:
        return f"Frame({len(self.runs)} runs, {len(self)} replicas, {len(self.metrics)} metrics)"

    @cached_property
    def keys(self) -> list[str]:
        """The dotted keys of the experiments, without components."""
        return list(dict.fromkeys(key for run in self.runs for key in flat(run.config)))

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
        return list(dict.fromkeys([*_PLACES, *self.components, *self.keys, *EFFORTS, *self.metrics, *GRAPH]))

    @cached_property
    def _finals(self) -> list[Row]:
        """The finite values at the last step, by row of the frame; none of a replica that diverged."""
        ends = [final_values(run.metrics, run.diverged) for run in self.runs]
        return [
            ends[place].get(replica, {}) for place, replica in zip(self.places, self.replicas.tolist(), strict=True)
        ]

    @cached_property
    def samples(self) -> NDArray[np.int64]:
        """For each row the first one with the same steps, [n]: itself, but for copies.

        A strategy that does not use its graph takes the same steps on all graphs. Rows are the same sample if their
        experiments differ in nothing but the graph, and they agree in all metrics and bytes to the last digit.
        """
        apart = {"topology", "replicas", "analysis", "case", "strategy_keys", *self.axes}
        settings = [repr({k: v for k, v in run.config.items() if k not in apart}) for run in self.runs]
        recorded = [{*(run.metric_quantities or self.metrics), "step", "communicated_bytes"} for run in self.runs]
        first: dict[Any, int] = {}
        found = []
        for row, (place, values) in enumerate(zip(self.places.tolist(), self._finals, strict=True)):
            ends = frozenset(pair for pair in values.items() if pair[0] in recorded[place])
            alike = settings[place], int(self.replicas[row]), ends
            found.append(first.setdefault(alike if len(ends) > 2 else row, row))
        return np.array(found, dtype=int)

    def is_chosen(self, name: str) -> bool:
        """Return whether a column has what was chosen for a run, not what was measured.

        Args:
            name: Its name.

        Returns:
            Whether it is a key of the experiments, or says which run or replica it is.
        """
        return name not in self.metrics and name in (*_PLACES, *self.components, *self.keys)

    def column(self, name: str) -> list[Any] | Array:
        """Return a column.

        Args:
            name: A dotted key of the experiment, or a component (`strategy`, `topology`), of which the column has the
                name; `run` (the folder), `seed`, `replica` or `state` (of the run, or diverged); `step`, `samples`,
                `bytes`, `seconds` or `simulated_time`, spent by all agents up to the last step; a metric; or
                `spectral_gap` or `degree` of the graph.

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
        if name in EFFORTS:
            finals = zip(self.places.tolist(), self._finals, strict=True)
            return np.array([spent(self.runs[place], row, name) for place, row in finals], dtype=float)
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
        return Frame(tuple(self.runs[run] for run in used), places, self.replicas[chosen], self.notes, self.axes)

    def axis_of(self, key: str) -> str | None:
        """Look up the named axis that a key is on.

        Args:
            key: A key or component, or the name of an axis.

        Returns:
            The name of the axis, None if it is on none.
        """
        for axis, keys in self.axes.items():
            if key == axis or any(_is_part(key, of) or _is_part(of, key) for of in keys):
                return axis
        return None

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
        runs = [self.runs[place] for place, row in zip(self.places, self._finals, strict=True) if name in row]
        validation = runs and all(run.config.get("validation") for run in runs)
        known = {**of_every_run(validation=validation), **GRAPH, **EFFORTS}
        for run in runs[:1] if name not in known else []:
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
            x: `step`, `samples`, `bytes`, `seconds` or `simulated_time`, or another metric, for the horizontal axis.

        Returns:
            For each row, the places on the axis and the finite values there, in the order of the steps.

        Raises:
            ExperimentError: No run has measured them.
        """
        found = []
        for place, replica in zip(self.places.tolist(), self.replicas.tolist(), strict=True):
            columns = self.history(place, (metric, x, *RECORDED))
            values = columns[metric]
            kept = (columns["replica"] == replica) & np.isfinite(values)
            across = np.broadcast_to(spent(self.runs[place], columns, x), values.shape)
            found.append((across[kept], values[kept]))
        if not any(np.isfinite(places).any() for places, _ in found):
            known = dict.fromkeys([*EFFORTS, *chain(*(row for run in self.runs for row in read_run(run.path).metrics))])
            for name in (metric, x):
                if name not in known:
                    raise ExperimentError(f"{name}: no run has measured it during training; {nearest(name, known)}")
        return found

    def history(self, place: int, names: Iterable[str]) -> dict[str, Array]:
        """Read what was measured at the centroids of a run, from its file.

        Args:
            place: The index of the run.
            names: The metrics.

        Returns:
            Columns in the order of the steps, `step`, `replica` and the metrics among them; NaN where nothing was
            measured.
        """
        columns: dict[str, Array] = self._kept.setdefault(("history", place), {})
        if missing := [name for name in names if name not in columns]:
            columns |= history(self.runs[place], missing)
        return columns

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
            raise ExperimentError('frame: it needs the package pandas: pip install "basinet[frames]"') from error
        columns = {name: self.column(name) for name in self.names}
        return pd.DataFrame(
            {
                name: [describe(value) if isinstance(value, list | dict) else value for value in values]
                for name, values in columns.items()
            }
        )


def _is_part(key: str, of: str) -> bool:
    """Return whether a key is another one, or within it."""
    return f"{key}.".startswith(f"{of}.")


def _several(text: str) -> list[Any]:
    """Read values that are separated by commas, as on the command line."""
    found = yaml_files.load(f"[{text}]")
    return found if isinstance(found, list) else [found]
