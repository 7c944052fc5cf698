"""The folder of one run: written as the run goes, readable at any moment, safe against a crash.

RUN/config.yaml      the resolved experiment of this run
RUN/metrics.jsonl    a JSON object a line, append-only: `step`, `replica`, and what was measured there
RUN/status.json      state, step, which replicas diverged, which engine ran
RUN/topology.csv     receiver, sender, weight: the nonzero entries of the mixing matrix; agents in the graph's order
RUN/partition.csv    replica, agent, label, samples: who holds what
RUN/attackers.csv    replica, agent: who attacks, if anybody does
RUN/analyzed.json    what has been measured already, see `basinet.sim.analyzed`
RUN/density.csv      and other tables of the analysis: spectral densities, slices, surfaces, barriers
RUN/trajectory.bin   where the run has been, if it was recorded; see `basinet.sim.trajectory`
RUN/checkpoint/      state.pt, replaced atomically; step-N.pt, those that an experiment keeps
"""

import csv
import fcntl
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basinet.sim import yaml_files
from basinet.sim.component import ExperimentError

__all__ = [
    "ANALYZED",
    "FINISHED",
    "LOCK",
    "Run",
    "RunFolder",
    "load_record",
    "load_run",
    "load_runs",
    "locked",
    "read_lines",
    "read_table",
    "write_atomically",
]

Row = dict[str, Any]

LOCK = ".lock"

ANALYZED = "analyzed.json"
"""Says what has been measured of the states of a run, see `basinet.sim.analyzed`."""

FINISHED = ("done", "diverged")
"""States of a run that has taken its last step."""

_POINT = ("step", "replica", "agent")


def write_atomically(path: Path, data: str | bytes | memoryview) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    Args:
        path: The file.
        data: Its new content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


@dataclass(frozen=True, repr=False)
class Run:
    """A run as read from its folder.

    Attributes:
        name: Name of the folder.
        path: The folder.
        config: The resolved experiment of this run.
        status: `state` (running, done, diverged, interrupted, failed), `step`, `steps`, `diverged`: a mapping
            from replica to the step at which it diverged, `engine`, `error`.
        metrics: Measurements, one mapping a (step, replica) or, where single agents were measured, a
            (step, replica, agent), in the order in which they were taken.
    """

    name: str
    path: Path
    config: dict[str, Any]
    status: dict[str, Any]
    metrics: list[Row]

    def __repr__(self) -> str:
        steps = self.status.get("steps", self.config.get("steps"))
        return f"Run({str(self.path)!r}: {self.status.get('state')} at step {self.status.get('step')} of {steps})"

    @property
    def diverged(self) -> dict[int, int]:
        """Step at which each diverged replica did so."""
        return {int(replica): step for replica, step in self.status.get("diverged", {}).items()}

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
            A mapping from replica to value; a replica whose metric was not finite at the last step has none.
        """
        rows = [row for row in self.metrics if "agent" not in row and row["replica"] not in self.diverged]
        last: dict[int, int] = {}
        for row in rows:
            last[row["replica"]] = max(row["step"], last.get(row["replica"], 0))
        return {row["replica"]: row[metric] for row in rows if metric in row and row["step"] == last[row["replica"]]}


class RunFolder:
    """Writes the folder of one run.

    Args:
        path: The folder; made when first written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint" / "state.pt"

    def kept(self, step: int) -> Path:
        """Name the checkpoint of a step that is kept.

        Args:
            step: The step.

        Returns:
            The file, whether it is there or not.
        """
        return self.checkpoint.with_name(f"step-{step}.pt")

    def checkpoints(self) -> list[Path]:
        """Find the checkpoints.

        Returns:
            Those that were kept, by their steps, and the last one.
        """
        kept = self.checkpoint.parent.glob("step-*.pt")
        return [*sorted(kept, key=lambda path: int(path.stem.removeprefix("step-"))), self.checkpoint]

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved experiment.

        Args:
            config: Plain values.
        """
        write_atomically(self.path / "config.yaml", yaml_files.dump(dict(config)))

    def write_status(self, **status: Any) -> None:
        """Replace the status.

        Args:
            **status: Plain values, `state` and `step` among them.
        """
        write_atomically(self.path / "status.json", json.dumps(status, indent=1) + "\n")

    def write_table(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write a small table as CSV.

        Args:
            name: File name.
            header: Column names.
            rows: Rows in the order of the header.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        write_atomically(self.path / name, text.getvalue())

    def append(self, rows: Iterable[Row]) -> None:
        """Append measurements.

        Args:
            rows: Plain mappings with `step` and `replica`.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    def record(self, rows: Iterable[Row], *, tables: bool = True) -> None:
        """Append what an analysis has found of a replica.

        Args:
            rows: Measurements, as for `append`; in the table that the key `table` names, a CSV file, they take the
                place of the rows of the same replica and agent, and of the replica's rows of other steps.
            tables: Whether tables are written; they hold one state of a replica, the last.
        """
        found: dict[str, list[Row]] = {}
        metrics = []
        for row in rows:
            if "table" in row:
                found.setdefault(row["table"], []).append({key: value for key, value in row.items() if key != "table"})
            else:
                metrics.append(row)
        self.append(metrics)
        for name, new in found.items() if tables else ():
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
            self.write_table(f"{name}.csv", header, ([row.get(key, "") for key in header] for row in everything))

    def forget_after(self, step: int) -> list[Row]:
        """Drop measurements later than a step: a run that resumes from there takes them again.

        Args:
            step: The step of the checkpoint.

        Returns:
            The measurements that stay.
        """
        rows = read_lines(self.path / "metrics.jsonl")
        kept = [row for row in rows if row["step"] <= step]
        if len(kept) < len(rows):  # what an analysis has found of states to come as well
            (self.path / ANALYZED).unlink(missing_ok=True)
        write_atomically(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept))
        return kept


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a table of a run's folder.

    Args:
        path: The CSV file.

    Returns:
        Its rows, by the names in its header; none if there is no such file.
    """
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of an experiment's folder for a while.

    Args:
        folder: The folder.

    Yields:
        Nothing.

    Raises:
        ExperimentError: Another process is at work in it.
    """
    with open(folder / LOCK, "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ExperimentError(f"--out: another process is at work in {folder}; choose another folder") from error
        yield


def load_record(folder: Path) -> dict[str, Any]:
    """Read the record of an experiment.

    Args:
        folder: The experiment's folder.

    Returns:
        The experiment as given, with its runs and versions.
    """
    return _parse(folder / "experiment.yaml", yaml_files.read)


def _parse(path: Path, reader: Callable[[Path], Any]) -> dict[str, Any]:
    try:
        found = reader(path)
    except ValueError as error:
        raise ExperimentError(
            f"{path}: the file is damaged ({error}); run the experiment again with --fresh"
        ) from error
    if not isinstance(found, dict):
        raise ExperimentError(f"{path}: the file is damaged; run the experiment again with --fresh")
    return found


def read_lines(path: Path) -> list[Row]:
    """Read a JSON-lines file.

    Args:
        path: The file.

    Returns:
        Its rows, none if there is no such file; a last line that a crash cut short is left out.

    Raises:
        JSONDecodeError: Another line is damaged.
    """
    rows = []
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, line in enumerate(lines):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines) - 1:
                raise
    return rows


def load_run(path: str | Path) -> Run:
    """Read the folder of one run.

    Args:
        path: The folder.

    Returns:
        The run; measurements at one point are merged into one mapping, later ones win.

    Raises:
        FileNotFoundError: The folder holds no `config.yaml`.
    """
    path = Path(path)
    if not (path / "config.yaml").exists():
        raise FileNotFoundError(f"{path} is not the folder of a run: it holds no config.yaml")
    merged: dict[tuple[Any, ...], Row] = {}
    for row in read_lines(path / "metrics.jsonl"):
        merged.setdefault(tuple(row.get(name) for name in _POINT), {}).update(row)
    status = path / "status.json"
    return Run(
        name=path.name,
        path=path,
        config=_parse(path / "config.yaml", yaml_files.read),
        status=_parse(status, lambda path: json.loads(path.read_bytes()))
        if status.exists()
        else {"state": "running", "step": 0},
        metrics=list(merged.values()),
    )


def load_runs(path: str | Path) -> list[Run]:
    """Read all runs below an experiment's folder.

    Args:
        path: The folder that `basinet run` wrote, or the folder of a single run.

    Returns:
        The runs by the order in which the experiment names them.

    Raises:
        FileNotFoundError: There is no run.
    """
    path = Path(path)
    if (path / "config.yaml").exists():
        return [load_run(path)]
    names = load_record(path).get("runs", []) if (path / "experiment.yaml").exists() else []
    folders = [path / name for name in names if (path / name / "config.yaml").exists()]
    if not folders:
        raise FileNotFoundError(f"{path} holds no runs: give a folder that `basinet run` wrote")
    return [load_run(folder) for folder in folders]
