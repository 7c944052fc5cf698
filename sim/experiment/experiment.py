"""The experiment: a description from YAML, `key=value` or Python objects, and its grid of runs.

A list or a range in place of a single value makes a grid; `cases` gives named sets of values that override the
experiment's, `axes` lists of values that go together, and `exclude` points that are left out. Every point of the grid
is a `Config`: one run.
"""

import copy
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from basinet.sim.experiment import yaml_files
from basinet.sim.experiment.component import Component, ExperimentError, look_in
from basinet.sim.experiment.config import KINDS, Config
from basinet.sim.experiment.grids.exclusions import Exclusions
from basinet.sim.experiment.grids.grid import expand, frozen
from basinet.sim.experiment.grids.run_names import run_name
from basinet.sim.experiment.mistakes import shown
from basinet.sim.experiment.words import as_typed, override
from basinet.sim.setup.start import Start

__all__ = ["Experiment", "parse_loggers", "read_description"]


class Experiment:
    """A description and the runs it stands for.

    Args:
        description: Keys and values: see `Config` for the keys; `cases`, a mapping from a case's name to values that
            override the experiment's in that case; `axes`, a mapping from names of axes to keys with equally many
            values, which go together; `exclude`, mappings from keys to one or several values, each of which leaves out
            the runs whose values are among these; `skip`, "impossible" to leave out runs whose parts do not fit
            together; `about`, a text for the report; and `loggers`, a list of what else receives the metrics, which no
            folder records. A strategy's mapping may hold keys of the experiment besides
            its own settings: they override the experiment's for that strategy.
        **values: The same as keywords.

    Attributes:
        description: The experiment as given, without its loggers.
        loggers: The loggers.
        runs: Configuration of each run by name.
        points: The names of each run's values on the axes of the grid, and its description.
        parser: Parses descriptions of runs, which share the objects made from equal values.
        skips_impossible: Whether runs whose parts do not fit together are left out; otherwise, they are an error.

    Raises:
        ExperimentError: Something in it is not allowed; the message is one sentence.

    Example:
        >>> e = Experiment(task="digits", topology={"name": "ring", "agents": 4}, strategy=["isolated", "diffusion"])
        >>> list(e.runs)
        ['isolated', 'diffusion-atc']
    """

    def __init__(self, description: Mapping[str, Any] | None = None, /, **values: Any) -> None:
        self.description = {**(description or {}), **values}
        self.loggers = parse_loggers(self.description.pop("loggers", None))
        skip = self.description.get("skip")
        if skip not in (None, "impossible"):
            raise ExperimentError(f"skip: got {shown(skip)}; allowed is impossible, or leave this key out")
        self.skips_impossible = skip is not None
        if self.description.get("tune") is not None and type(self) is Experiment:
            raise ExperimentError("tune: what is tuned is a TunedExperiment, which basinet.run also takes")
        self.runs: dict[str, Config] = {}
        self.points: dict[str, tuple[dict[str, str], dict[str, Any]]] = {}
        self.parser, names = _Parser(), _Names()
        excluded = Exclusions(self.description.get("exclude"), self.description.get("axes") or ())
        for axes, point in expand(self.description):
            config = self.parser.parse(point)
            if not excluded.leave_out(config, axes):
                name = names.give(run_name(config, axes), config)
                self.runs[name], self.points[name] = config, (axes, point)
        excluded.check()

    def __repr__(self) -> str:
        names = list(self.runs)
        shown = ", ".join(names if len(names) <= 8 else [*names[:7], "…"])
        return f"Experiment({len(names)} {'run' if len(names) == 1 else 'runs'}: {shown})"

    def with_starts(self, starts: Mapping[str, Start]) -> Self:
        """Return the same experiment with other starts, which belong to the runs and are no conditions to compare.

        Args:
            starts: Starts of some runs, by name.

        Returns:
            The experiment.
        """
        runs = dict(self.runs)
        for name, start in starts.items():
            keys = dict.fromkeys([*(self.runs[name].strategy_keys or ()), "start"])
            runs[name] = self.runs[name].model_copy(update={"start": start, "strategy_keys": tuple(keys)})
        return self.with_runs(runs)

    def with_runs(self, runs: Mapping[str, Config]) -> Self:
        """Return the same experiment with other runs.

        Args:
            runs: Configuration of each run by name.

        Returns:
            The experiment.
        """
        changed = copy.copy(self)
        changed.runs = dict(runs)
        return changed

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read an experiment from a YAML file.

        Args:
            path: The file.
            overrides: Words `key=value`; see `override`.

        Returns:
            The experiment.

        Raises:
            ExperimentError: The file cannot be read, or something in it is not allowed.
        """
        description = read_description(Path(path), overrides)
        try:
            return cls(description)
        except ExperimentError as error:
            raise ExperimentError(as_typed(str(error), overrides, path)) from None


def read_description(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read the description of an experiment from a YAML file; modules beside it will be found.

    Args:
        path: The file.
        overrides: Words `key=value`; see `override`.

    Returns:
        Keys and values, without what the record of an experiment holds besides.

    Raises:
        ExperimentError: The file cannot be read, or holds an object that only Python can give.
    """
    try:
        description = yaml_files.read(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ExperimentError(f"{path}: the experiment cannot be read: {reason}") from None
    if not isinstance(description, dict):
        raise ExperimentError(f"{path}: an experiment is a mapping of keys to values")
    look_in(path.parent, *(path.parent / home for home in description.pop("modules", ())))
    description.pop("versions", None)
    description.pop("runs", None)
    objects = {key: description.get(key) for key in description.pop("objects", ())}
    description.pop("impossible", None)
    override(description, overrides)
    for key, value in objects.items():
        if description.get(key) == value:
            raise ExperimentError(
                f"{key}: {path} records an object that was given from Python, which no file holds; rerun the script"
                f" that gave it, or give another one: {key}=…"
            )
    return description


def parse_loggers(given: Any) -> tuple[Component, ...]:
    """Parse loggers.

    Args:
        given: A list of loggers, or a single one, each as any component of an experiment; None for none.

    Returns:
        The loggers.
    """
    listed = given if isinstance(given, list | tuple) else [] if given is None else [given]
    return tuple(map(KINDS["loggers"].parse, listed))


class _Parser:
    """Parses points of a grid, which share the objects made from equal values."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, Hashable], Any] = {}

    def parse(self, point: Mapping[str, Any]) -> Config:
        """Validate a point."""
        places = {key: (key, frozen(point[key]) if key in point else None) for key in Config.model_fields}
        known = {key: self.known[place] for key, place in places.items() if place in self.known}
        config = Config.parse({**point, **known})
        for key, place in places.items():
            self.known.setdefault(place, getattr(config, key))
        return config


class _Names:
    """Gives runs distinct names, even on case-insensitive file systems."""

    def __init__(self) -> None:
        self.given: dict[str, Config] = {}

    def give(self, name: str, config: Config) -> str:
        """Return the name, with a number appended if it is taken."""
        place, number = name, 1
        while (other := self.given.setdefault(place.casefold(), config)) is not config:
            if other.describe() == config.describe():
                raise ExperimentError(f"{name}: two runs of the grid are the same")
            number += 1
            place = f"{name}-{number}"
        return place
