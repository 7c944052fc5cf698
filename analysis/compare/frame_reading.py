"""Frames of the runs in folders; what cannot be read is named and left out."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from basinet.analysis.compare.frame import Frame
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.grids.named_axes import NamedAxis, named_axes
from basinet.sim.experiment.grids.run_names import point_of
from basinet.sim.experiment.mistakes import first_line
from basinet.sim.run.folder import Run, read_run, run_folders
from basinet.sim.run.records import METRICS, PIPELINE, load_record

__all__ = ["frame_of", "read"]

_RUNS = ("config.yaml", "experiment.yaml", PIPELINE)
"""Files in folders that hold runs."""


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
            inner = sorted({file.parent for kind in _RUNS for file in folder.glob(f"*/{kind}")})
            hint = f", such as {inner[0]} in it" if inner and isinstance(error, FileNotFoundError) else ""
            notes.append(f"{first_line(error)}{hint}; left out")
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
        raise ExperimentError(
            "; ".join(note.removesuffix("; left out") for note in notes)
            or "DIR: no folder is given; give folders that `basinet run` wrote"
        )
    return frame_of(runs.values(), notes).where(list(where))


def frame_of(runs: Iterable[Run], notes: Iterable[str] = ()) -> Frame:
    """Arrange runs that have been read as a frame.

    Args:
        runs: The runs.
        notes: Sentences about what was left out.

    Returns:
        A row for each replica.
    """
    axes: dict[str, tuple[str, ...]] = {}
    runs = tuple(_with_points(runs, axes))
    rows = [
        (place, replica)
        for place, run in enumerate(runs)
        for replica in sorted({*range(run.config.get("replicas") or 0), *(row["replica"] for row in run.metrics)})
    ]
    places, replicas = np.array(rows, dtype=int).reshape(-1, 2).T
    return Frame(runs, places, replicas, tuple(notes), axes)


def _with_points(runs: Iterable[Run], keys: dict[str, tuple[str, ...]]) -> Iterator[Run]:
    """Add the points of runs on the named axes of their experiments to their settings, and the keys of the axes."""
    known: dict[Path, list[NamedAxis]] = {}
    for run in runs:
        home = run.path.parent
        if home not in known:
            known[home] = _axes_of(home)
            for axis in known[home]:
                keys[axis.name] = tuple(dict.fromkeys([*keys.get(axis.name, ()), *axis.points[0]]))
        found = {axis.name: point_of(run.path.name, axis.name, axis.texts) for axis in known[home]}
        points = {axis: text for axis, text in found.items() if text is not None}
        yield replace(run, config=run.config | points) if points else run


def _axes_of(home: Path) -> list[NamedAxis]:
    """Read the named axes from the record of an experiment, if there is one that can be read."""
    with suppress(ExperimentError, OSError):
        return named_axes(load_record(home).get("axes"))
    return []


def _half_written(path: Path) -> bool:
    """Return whether a process has died in the middle of a line."""
    if not path.exists() or not path.stat().st_size:
        return False
    with open(path, "rb") as file:
        file.seek(-1, 2)
        return file.read(1) != b"\n"
