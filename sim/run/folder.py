"""The folder of one run: written during the run, readable at any time, and crash-safe.

RUN/config.yaml      the resolved experiment of this run
RUN/metrics.jsonl    one JSON object per line, append-only: `step`, `replica`, and the values measured there
RUN/status.json      state, step, the replicas that diverged, the engine, what the metrics are called, and the values of
                     trivial baselines; an identifier of the run, and the lengths and checksums of the measurements and
                     the trajectory up to this step
RUN/usage.json       what the workers use, and how the run gets on; see `basinet.sim.run.execution.usage_record`
RUN/topology.csv     receiver, sender, weight: the nonzero entries of the mixing matrix; agents in the graph's order
RUN/partition.csv    replica, agent, label, samples, and the column that they were dealt out by: who holds what
RUN/attackers.csv    replica, agent: the attackers, if there are any
RUN/tokens.json      the tokens of a task with text, as a tokenizer.json; none if they are bytes
RUN/standards.json   how a task of video quality standardises its features, if it has any, and its extractors
RUN/analyzed.json    what has already been measured; see `basinet.sim.run.analyzed`
RUN/density.csv      and other tables of the analysis: spectral densities, slices, surfaces, barriers
RUN/trajectory.bin   the recorded trajectory, if any; see `basinet.sim.run.trajectory`
RUN/checkpoint/      state.safetensors, replaced atomically; before.safetensors, the previous one, during the run;
                     step-N.safetensors, those that the experiment keeps; frozen.safetensors, the frozen parameters, if
                     any; under the same names with .pt, what earlier versions wrote
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from basinet.sim.experiment.component import ExperimentError, look_in
from basinet.sim.run.checkpoints.checkpoint_names import CHECKPOINTS, EARLIER, SUFFIX, on_disk
from basinet.sim.run.files import (
    ANEW,
    Content,
    Damaged,
    GrowingFile,
    Vouched,
    not_a_link,
    sealed_json,
    sealed_yaml,
    sync_folders,
    write_atomically,
)
from basinet.sim.run.quantity import Quantity
from basinet.sim.run.records import (
    ANALYZED,
    FINISHED,
    METRICS,
    OF_THE_SETUP,
    SEARCH,
    Row,
    csv_text,
    is_begun,
    load_config,
    load_journal,
    load_record,
    load_status,
    read_last_lines,
    read_lines,
    read_table,
    stages_of,
    steps_of,
    vouched_content,
)

__all__ = [
    "Run",
    "RunFolder",
    "each_run",
    "load_run",
    "load_runs",
    "read_run",
    "recorded_lines",
    "run_folders",
]

_KEPT = re.compile(rf"step-(\d+)(?:{re.escape(SUFFIX)}|{re.escape(EARLIER)})", re.ASCII)

_TRIES = 3
"""Number of attempts to read a run in progress, whose files may change between two reads."""


@dataclass(frozen=True, repr=False)
class Run:
    """A run as read from its folder.

    Attributes:
        name: Name of the folder.
        path: The folder.
        config: The resolved experiment of this run.
        status: `state` (running, paused, done, diverged, interrupted, failed), `step`, `steps`, `diverged`: a mapping
            from replica to the step at which it diverged, `engine`, `error`, `quantities` of the metrics, `baselines`,
            and `model`, what the task gives to the maker of the model.
        metrics: Measurements in the order taken, one mapping per (step, replica), or per (step, replica, agent) if
            single agents were measured.
    """

    name: str
    path: Path
    config: dict[str, Any]
    status: dict[str, Any]
    metrics: list[Row]

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self.progress})"

    @property
    def progress(self) -> str:
        """State and step, such as "interrupted at step 4 of 20": a run that failed did so after the last known one."""
        state, step = self.status.get("state"), self.status.get("step")
        steps = self.status.get("steps", self.config.get("steps"))
        return f"{state} {'after' if state == 'failed' else 'at'} step {step}{f' of {steps}' if steps else ''}"

    @property
    def diverged(self) -> dict[int, int]:
        """Step at which each diverged replica diverged."""
        return {int(replica): step for replica, step in self.status.get("diverged", {}).items()}

    @cached_property
    def quantities(self) -> dict[str, Quantity]:
        """Labels and units of the values of the analysis by name, as the analysis recorded them."""
        recorded = load_journal(self.path).get("quantities", {})
        return {name: Quantity.read(known) for name, known in recorded.items()}

    @cached_property
    def metric_quantities(self) -> dict[str, Quantity] | None:
        """Labels and units of the metrics by name, the main one first; None for a run that recorded none."""
        recorded = self.status.get("quantities")
        return None if recorded is None else {name: Quantity.read(known) for name, known in recorded.items()}

    @property
    def baselines(self) -> dict[str, dict[str, float]]:
        """Losses and metrics of trivial predictions, by the name of the prediction."""
        return dict(self.status.get("baselines", {}))

    def series(self, metric: str) -> dict[int, tuple[list[int], list[float]]]:
        """Collect one metric of the centroid over the steps.

        Args:
            metric: Name of the metric.

        Returns:
            A mapping from replica to steps and values.
        """
        curves: dict[int, tuple[list[int], list[float]]] = {}
        for row in sorted(self.metrics, key=lambda row: int(row["step"])):
            if metric in row and "agent" not in row:
                steps, values = curves.setdefault(row["replica"], ([], []))
                steps.append(row["step"])
                values.append(row[metric])
        return curves

    def final(self, metric: str) -> dict[int, float]:
        """Collect the value of a metric at the last step of each replica that did not diverge.

        Args:
            metric: Name of the metric.

        Returns:
            A mapping from replica to value, without replicas whose metric was not finite at the last step.
        """
        diverged = self.diverged
        rows = [row for row in self.metrics if "agent" not in row and row["replica"] not in diverged]
        last: dict[int, int] = {}
        for row in rows:
            last[row["replica"]] = max(row["step"], last.get(row["replica"], 0))
        return {row["replica"]: row[metric] for row in rows if metric in row and row["step"] == last[row["replica"]]}


class RunFolder:
    """Writes the folder of one run.

    Args:
        path: The folder; created when the configuration is written.
        config: What its configuration holds, if that has been read already.
    """

    def __init__(self, path: Path, config: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.config = config
        self.metrics = GrowingFile(path / METRICS)

    @cached_property
    def identity(self) -> str:
        """A digest that distinguishes the run from those that take other steps."""
        return steps_of(self.config or load_config(self.path))

    @property
    def checkpoint(self) -> Path:
        """The path of the last checkpoint; the file may not exist."""
        return self._state("state")

    @property
    def before(self) -> Path:
        """The path of the checkpoint before the last; the file may not exist."""
        return self._state("before")

    @property
    def frozen(self) -> Path:
        """The path of the frozen parameters; the file may not exist."""
        return self._state("frozen")

    def _state(self, name: str) -> Path:
        return on_disk(self.path / CHECKPOINTS / f"{name}{SUFFIX}")

    def kept(self, step: int) -> Path:
        """Return the path of the kept checkpoint of a step.

        Args:
            step: The step.

        Returns:
            The path; the file may not exist.
        """
        return self._state(f"step-{step}")

    def kept_of_task(self, setting: str) -> Path:
        """Return the path of what is kept of the data; see `basinet.sim.tasks.kept.Kept`.

        Args:
            setting: The setting of the task.

        Returns:
            The path; the file may not exist.
        """
        return self.path / f"{setting}.json"

    def checkpoints(self) -> list[Path]:
        """List the checkpoints.

        Returns:
            The kept ones by step, then the last one.
        """
        found = {name[1] for file in (self.path / CHECKPOINTS).glob("*") if (name := _KEPT.fullmatch(file.name))}
        return [*map(self.kept, sorted(map(int, found))), self.checkpoint]

    def write_checkpoint(self, path: Path, content: Content) -> None:
        """Write a checkpoint, or the frozen parameters.

        Args:
            path: The file, which an earlier version may have written.
            content: Its new content.
        """
        new = path.with_suffix(SUFFIX)
        self.write(new, content)
        sync_folders(new)
        if path.suffix == EARLIER:
            path.unlink(missing_ok=True)

    def replace_checkpoint(self, content: Content) -> None:
        """Write the last checkpoint; if it turns out to be damaged, the run goes on from the one before.

        Args:
            content: Its content.
        """
        if (last := self.checkpoint).exists():
            os.replace(last, last.with_stem("before"))
        self.write(self.checkpoint, content)
        sync_folders(self.checkpoint)

    def take_before(self) -> None:
        """Put the checkpoint before the last in the place of the last."""
        self.checkpoint.unlink(missing_ok=True)  # it may have another suffix
        os.replace(self.before, self.before.with_stem("state"))

    def forget_before(self) -> None:
        """Remove the checkpoint before the last."""
        for path in (self.path / CHECKPOINTS).glob("before.*"):
            path.unlink(missing_ok=True)

    def write(self, path: Path, data: Content) -> None:
        """Write a file of the run.

        Args:
            path: The file.
            data: Its new content.

        Raises:
            ExperimentError: The run's folder was removed.
        """
        if not self.path.is_dir():
            raise ExperimentError(f"{self.path}: the folder was removed during the run")
        not_a_link(path.parent)
        write_atomically(path, data)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved experiment.

        Args:
            config: Plain values.
        """
        # Not synced before the run begins, since there may be thousands; one lost in a power failure is written again.
        write_atomically(self.path / "config.yaml", sealed_yaml(config), sync=(self.path / "status.json").exists())

    def begin(self) -> None:
        """Make the configuration survive a power failure, before other files rely on it."""
        with open(self.path / "config.yaml", "rb") as file:
            os.fsync(file.fileno())
        sync_folders(self.path / "config.yaml")

    def write_status(self, **status: Any) -> None:
        """Replace the status.

        Args:
            **status: Plain values, including `state` and `step`.
        """
        self.write(self.path / "status.json", sealed_json(status))

    def write_table(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write a small table as CSV.

        Args:
            name: File name.
            header: Column names.
            rows: Rows in the order of the header.
        """
        self.write(self.path / name, csv_text(header, rows))

    def forget_analysis(self) -> None:
        """Remove the record and tables of the analysis; its measurements are cut off by the next writer."""
        (self.path / ANALYZED).unlink(missing_ok=True)
        for table in self.path.glob("*.csv"):
            if table.name not in OF_THE_SETUP:
                table.unlink()

    def tables(self, rows: Iterable[Row]) -> dict[str, str]:
        """Merge rows into the tables of the analysis.

        Args:
            rows: Rows whose key `table` names a table; they replace those of the same replica and agent, and the
                replica's rows of other steps.

        Returns:
            The new content of each table, by file name.
        """
        found: dict[str, list[Row]] = {}
        for row in rows:
            found.setdefault(row["table"], []).append({key: value for key, value in row.items() if key != "table"})
        contents = {}
        for name, new in found.items():
            steps = {str(row["replica"]): str(row["step"]) for row in new}
            points = {(str(row["replica"]), str(row.get("agent", ""))) for row in new}
            kept = [
                row
                for row in read_table(self.path / f"{name}.csv")
                if (row["replica"], row.get("agent", "")) not in points
                and row["step"] == steps.get(row["replica"], row["step"])
            ]
            header = list(dict.fromkeys(key for row in [*kept, *new] for key in row))
            everything = sorted([*kept, *new], key=lambda row: int(row["replica"]))
            contents[f"{name}.csv"] = csv_text(header, ([row.get(key, "") for key in header] for row in everything))
        return contents


def load_run(path: str | Path) -> Run:
    """Read the folder of one run.

    Args:
        path: The folder.

    Returns:
        The run; measurements at the same point are merged into one mapping, and later values win.

    Raises:
        Damaged: A file does not hold what was written.
    """
    path = Path(path)
    if (path.parent / "experiment.yaml").exists():
        with suppress(Damaged):
            _look_in_homes(path.parent, load_record(path.parent))
    return read_run(path)


def _look_in_homes(folder: Path, record: Mapping[str, Any]) -> None:
    """Let the user's modules be found where the record of an experiment says."""
    look_in(*(folder / home for home in record.get("modules", [])))


def read_run(path: Path, *, last: bool = False) -> Run:
    """Read the folder of one run for its numbers alone: modules of the user that it names are not looked for.

    Args:
        path: The folder.
        last: Whether to read, of a finished run, only the measurements at its last step, which is quicker.

    Returns:
        The run, as from `load_run`.

    Raises:
        Damaged: A file does not hold what was written.
    """
    for _ in range(_TRIES - 1):
        with suppress(Damaged):
            return _read(path, last)
    return _read(path, last)


def _read(path: Path, last: bool) -> Run:
    config = load_config(path)
    status = load_status(path)
    if "run" in status and status["run"] != steps_of(config):
        raise Damaged(path / "config.yaml", "it is from another run than status.json", ANEW)
    vouched = _vouched(path, status)
    if last and status["state"] in FINISHED:
        rows = read_last_lines(path / METRICS, vouched, status["step"])
    else:
        rows = read_lines(path / METRICS, vouched)
    merged: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        merged.setdefault((row["step"], row["replica"], row.get("agent")), {}).update(row)
    return Run(path.name, path, config, status, list(merged.values()))


def _vouched(path: Path, status: Mapping[str, Any]) -> list[Vouched]:
    """List the recorded beginnings of the measurements."""
    files = [status.get("files", {}), load_journal(path).get("files", {})]
    return [part[METRICS] for part in files if METRICS in part]


def recorded_lines(run: Run) -> bytes | None:
    """Read the file of measurements of a run, unless it is not exactly as recorded when the run was read.

    Args:
        run: The run.

    Returns:
        The lines, as `basinet.sim.run.records.lines_of` writes them; None if more or less was recorded.
    """
    with suppress(Damaged):
        vouched = _vouched(run.path, run.status)
        content = vouched_content(run.path / METRICS, vouched)
        if content is not None and len(content) == max(part["bytes"] for part in vouched):
            return content
    return None


def run_folders(path: str | Path, begun: Callable[[Path], bool] = is_begun) -> dict[str, Path]:
    """Find all runs below an experiment's folder.

    Args:
        path: The folder that `basinet run` wrote, or the folder of a single run.
        begun: Whether a folder has a run; by default, it raises if the folder has only a part of one.

    Returns:
        The folders of the runs that have begun by name, in the order of the experiment; runs of stages have names
        STAGE/RUN.

    Raises:
        FileNotFoundError: There are no runs.
    """
    path = Path(path)
    if (path / "config.yaml").exists():
        return {path.name: path}
    if stages := [stage for stage in stages_of(path) if (stage / "experiment.yaml").exists()]:
        return {f"{stage.name}/{name}": run for stage in stages for name, run in run_folders(stage, begun).items()}
    record = load_record(path) if (path / "experiment.yaml").exists() else {}
    found = {name: path / name for name in record.get("runs", []) if begun(path / name)}
    if not found:
        if searched := sorted(str(file.parent) for file in (path / SEARCH).glob("*/experiment.yaml")):
            raise FileNotFoundError(f"{path} holds no runs yet; those of its search are in {', '.join(searched)}")
        raise FileNotFoundError(f"{path} holds no runs: give a folder that `basinet run` wrote")
    return found


def load_runs(path: str | Path) -> list[Run]:
    """Read all runs below an experiment's folder.

    Args:
        path: As for `each_run`.

    Returns:
        The runs.
    """
    return list(each_run(path))


def each_run(path: str | Path) -> Iterator[Run]:
    """Read the runs below an experiment's folder, one after another.

    Args:
        path: The folder that `basinet run` wrote, or the folder of a single run.

    Yields:
        The runs in the order of the experiment; those of stages have names STAGE/RUN.
    """
    found = run_folders(path)
    for home in dict.fromkeys(run.parent for run in found.values()):
        if (home / "experiment.yaml").exists():
            with suppress(Damaged):  # of a single run, it need not be readable
                _look_in_homes(home, load_record(home))
    for name, run in found.items():
        yield replace(read_run(run), name=name)
