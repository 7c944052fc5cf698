"""Experiments in stages: each is an experiment, whose runs start where those of an earlier one have ended."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.config import BESIDE_RUNS, Config
from basinet.sim.experiment.experiment import Experiment, read_description
from basinet.sim.experiment.grids.grid import INSTEAD
from basinet.sim.experiment.mistakes import shown
from basinet.sim.experiment.tuning.tuned_experiment import TunedExperiment
from basinet.sim.experiment.words import as_typed, override
from basinet.sim.setup.sources import OfStage
from basinet.sim.setup.start import Start

__all__ = ["Pipeline", "Source", "make_experiment", "read_experiment"]

_BEFORE = "previous"

_NOT_COMPARED = ("case", "strategy_keys", "tuned", "start")
"""Keys in which runs of two stages may differ although they correspond."""


class Source(NamedTuple):
    """The run of an earlier stage from which a run starts.

    Attributes:
        stage: The stage.
        run: The run.
    """

    stage: str
    run: str


class Pipeline:
    """Experiments one after another, each in a folder of its own.

    A run of a later stage starts from the run of the stage before that has the same values of all keys that vary there,
    as far as its own value is one of them: the same strategy, for example. If the stage before has one run, all start
    from it.

    Args:
        description: `stages`, a list of files and mappings, or a mapping from names to them; and keys that apply to all
            stages that do not set them. `start` among these is that of the first stage.
        folder: Where files are looked for.
        words: Overrides `key=value` of all stages, or of one: `STAGE.key=value`.

    Attributes:
        description: The description as given.
        stages: The experiments by the names of their folders, such as "1-pretrain".
        sources: For each stage, the source of each of its runs that starts from an earlier stage.

    Raises:
        ExperimentError: Something in it is not allowed; the message is one sentence.

    Example:
        >>> common = {"task": "digits", "topology": {"name": "ring", "agents": 4}, "strategy": ["isolated", "relay"]}
        >>> p = Pipeline({**common, "stages": {"pretrain": {"steps": 100}, "finetune": {"trained": ["3.*"]}}})
        >>> list(p.stages), p.sources["2-finetune"]["isolated"]
        (['1-pretrain', '2-finetune'], Source(stage='1-pretrain', run='isolated'))
    """

    def __init__(self, description: Mapping[str, Any], folder: Path = Path(), words: Sequence[str] = ()) -> None:
        self.description = _without_loggers(description)
        common = {key: value for key, value in description.items() if key != "stages"}
        given = _given(description["stages"], folder)
        if "tune" in description or any("tune" in own for _, own in given):
            raise ExperimentError("tune: stages cannot be tuned; tune each as an experiment of its own")
        typed = _by_stage([name for name, _ in given], words)
        self.stages: dict[str, Experiment] = {}
        self.sources: dict[str, dict[str, Source]] = {}
        for number, (name, own) in enumerate(given, 1):
            merged = _merged(common, own, first=number == 1)
            place = f"{number}-{name}"
            try:
                override(merged, typed[number - 1])
                experiment = Experiment(merged)
            except ExperimentError as error:
                raise ExperimentError(f"{name}: {as_typed(str(error), typed[number - 1], name)}") from error
            self.sources[place] = {
                run: self._source(name, run, config)
                for run, config in experiment.runs.items()
                if config.start is not None and config.start.stage is not None
            }
            self.stages[place] = experiment

    @classmethod
    def load(cls, path: str | Path, words: Sequence[str] = ()) -> "Pipeline":
        """Read an experiment in stages from a YAML file.

        Args:
            path: The file; the files of its stages are looked for beside it.
            words: Overrides `key=value` of all stages, or `STAGE.key=value`.

        Returns:
            The stages.

        Raises:
            ExperimentError: A file cannot be read, or something in it is not allowed.
        """
        description = read_description(Path(path))
        if "stages" not in description:
            raise ExperimentError(f"{path}: stages: a value is needed; an experiment without stages is an Experiment")
        return cls(description, Path(path).parent, words)

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(f'{name}: {len(stage.runs)} runs' for name, stage in self.stages.items())})"

    @property
    def runs(self) -> dict[str, Config]:
        """The configuration of each run of each stage, by STAGE/RUN."""
        return {f"{name}/{run}": config for name, stage in self.stages.items() for run, config in stage.runs.items()}

    def reached(self, name: str, out: Path) -> Experiment:
        """Return a stage whose runs start from the folders of the stages before.

        Args:
            name: The stage.
            out: The pipeline's folder.

        Returns:
            The experiment; a start that does not exist is an error once its run is prepared.
        """
        starts: dict[str, Start] = {}
        known: dict[str, Start] = {}  # runs that start from the same point share it
        for run, source in self.sources[name].items():
            start = _start_of(self.stages[name].runs[run])
            there = start.of_run(out / source.stage / source.run)
            if repr(there) not in known:
                known[repr(there)] = start.reached(there)
            starts[run] = known[repr(there)]
        return self.stages[name].with_starts(starts)

    def _source(self, name: str, run: str, config: Config) -> Source:
        """Find the source of a run among the stages so far."""
        wanted = _start_of(config).stage
        assert wanted is not None
        stage = self._earlier(name, wanted.stage)
        runs = self.stages[stage].runs
        found = _corresponding(config, runs)
        if wanted.run is not None:
            if wanted.run not in runs:
                choice = nearest(wanted.run, runs)
                raise ExperimentError(f"{name}: start.run: {stage} has no run '{wanted.run}'; {choice}")
            found = [wanted.run]
        if len(found) != 1:
            several = f"{len(found)} of them: {', '.join(found[:6])}" if found else f"none of {', '.join(runs)}"
            raise ExperimentError(
                f"{name}: start.stage: of the runs of {stage}, {run} corresponds to {several}; name one of them:"
                " start: {stage: " + wanted.stage + ", run: …}"
            )
        if (problem := _lacking(wanted, runs[found[0]], f"{stage}/{found[0]}")) is not None:
            raise ExperimentError(f"{name}: {problem}")
        return Source(stage, found[0])

    def _earlier(self, name: str, wanted: str) -> str:
        """Find an earlier stage by its name, that of its folder, or as the one before."""
        earlier = list(self.stages)
        if not earlier:
            raise ExperimentError(f"{name}: start.stage: got {shown(wanted)}, but there is no stage before the first")
        found = [place for place in earlier if wanted in (place, place.partition("-")[2])]
        if wanted == _BEFORE and not found:
            return earlier[-1]
        if len(found) != 1:
            names = [_BEFORE, *(place if len(found) > 1 else place.partition("-")[2] for place in earlier)]
            raise ExperimentError(f"{name}: start.stage: got {shown(wanted)}; {nearest(wanted, names)}")
        return found[0]


def read_experiment(path: Path, words: Sequence[str] = ()) -> Experiment | Pipeline:
    """Read an experiment, or one in stages, from a YAML file.

    Args:
        path: The file.
        words: Overrides `key=value`.

    Returns:
        The experiment, or the pipeline.

    Raises:
        ExperimentError: A file cannot be read, or something in it is not allowed.
    """
    staged = "stages" in read_description(path)
    return (Pipeline if staged else _kind(read_description(path, words))).load(path, words)


def make_experiment(description: Mapping[str, Any]) -> Experiment | Pipeline:
    """Make an experiment, one in stages, or one that is tuned.

    Args:
        description: Its keys and values.

    Returns:
        The experiment, or the pipeline.
    """
    return _kind(description)(description)


def _kind(description: Mapping[str, Any]) -> type[Experiment | Pipeline]:
    return Pipeline if "stages" in description else Experiment if description.get("tune") is None else TunedExperiment


def _lacking(wanted: OfStage, source: Config, who: str) -> str | None:
    """Say why a run will not have a point, as far as its configuration tells."""
    if wanted.replica != "own" and wanted.replica >= source.replicas:
        return f"start.replica: got {wanted.replica}, but {who} has {source.replicas} replicas"
    if wanted.point == "centroid" and source.personal:
        return f"start.point: agents of {who} have personal parameters and so no centroid; allowed are their numbers"
    if wanted.step is not None and (source.keep_every is None or wanted.step % source.keep_every):
        return (
            f"start.step: got {wanted.step}, but {who} keeps the states at multiples of keep_every: {source.keep_every}"
        )
    return None


def _start_of(config: Config) -> Start:
    assert config.start is not None
    return config.start


def _given(stages: Any, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Read the stages; return the name and the description of each."""
    if isinstance(stages, Mapping):
        items = [(str(name), item) for name, item in stages.items()]
    elif isinstance(stages, list | tuple):
        items = [(Path(item).stem if isinstance(item, str | Path) else "stage", item) for item in stages]
    else:
        items = []
    if not items:
        raise ExperimentError(
            f"stages: got {shown(stages)}; allowed are a list of files and mappings, or a mapping from names to them"
        )
    found = []
    for name, item in items:
        if name in Config.model_fields or not name.replace("_", "").replace("-", "").isalnum():
            raise ExperimentError(
                f"stages: got the name {shown(name)}; allowed are letters, digits, _ and -, but no key of an experiment"
            )
        if isinstance(item, str | Path):
            item = read_description(folder / item)
        if not isinstance(item, Mapping):
            raise ExperimentError(
                f"stages.{name}: got {shown(item)}; allowed are a file, or a mapping of keys to values"
            )
        if "stages" in item:
            raise ExperimentError(f"stages.{name}: a stage cannot have stages of its own")
        found.append((name, dict(item)))
    return found


def _merged(common: Mapping[str, Any], own: Mapping[str, Any], *, first: bool) -> dict[str, Any]:
    """Lay the keys of a stage over the common ones, and let it start from the stage before."""
    replaced = {other for key in own for other in INSTEAD.get(key, ())} | (set() if first else {"start"})
    merged = {key: value for key, value in common.items() if key not in replaced} | dict(own)
    if first:
        return merged
    start = merged.setdefault("start", {"stage": _BEFORE})
    if isinstance(start, Mapping) and start and set(start) <= set(Start.FITTING):
        given = not any(isinstance(value, Tensor) for value in start.values())
        merged["start"] = {"stage": _BEFORE, **start} if given else start
    return merged


def _without_loggers(given: Any) -> Any:
    """Leave out the loggers of an experiment and of its stages, whose settings may hold addresses with passwords."""
    if isinstance(given, Mapping):
        return {key: _without_loggers(value) for key, value in given.items() if key != "loggers"}
    return [_without_loggers(value) for value in given] if isinstance(given, list) else given


def _by_stage(names: Sequence[str], words: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each stage."""
    split = [(word, *word.partition(".")[::2]) for word in words]
    common = [word for word, first, _ in split if first not in names]
    known = [*names, *Config.model_fields, *BESIDE_RUNS]
    wrong = next((key for word in common if (key := word.partition("=")[0].partition(".")[0]) not in known), None)
    if wrong is not None:
        raise ExperimentError(f"{wrong}: got neither a key of an experiment nor a stage; {nearest(wrong, known)}")
    found = []
    for name in names:
        own = [rest for _, first, rest in split if first == name]
        set_here = {word.partition("=")[0] for word in own}
        found.append([word for word in common if word.partition("=")[0] not in set_here] + own)
    return found


def _corresponding(config: Config, runs: Mapping[str, Config]) -> list[str]:
    """Find the runs that have the same value of every key that varies among them, where the run's own is among them."""
    described = {name: other.describe() for name, other in runs.items()}
    own, left = config.describe(), list(runs)
    for key in dict.fromkeys(key for values in described.values() for key in values):
        values = [values.get(key) for values in described.values()]
        if key not in _NOT_COMPARED and any(value != values[0] for value in values) and own.get(key) in values:
            left = [name for name in left if described[name].get(key) == own.get(key)]
    return left
