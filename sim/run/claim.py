"""Ownership of an experiment's folder: its record and configurations are written, or compared with existing ones."""

import os
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from basinet.sim.experiment.changes import DIGESTS, Change, changes
from basinet.sim.experiment.component import ExperimentError, homes
from basinet.sim.experiment.config import KINDS
from basinet.sim.experiment.digest import importable, plain
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.experiment.mistakes import shown
from basinet.sim.run.files import (
    Damaged,
    discard,
    discard_leftovers,
    inside,
    is_leftover,
    plain_file,
    sealed_yaml,
    write_atomically,
)
from basinet.sim.run.folder import RunFolder
from basinet.sim.run.lock import locked
from basinet.sim.run.records import SEARCH, TUNING, essence, is_begun, load_config, load_record

__all__ = ["claim", "forget", "found_modules", "versions"]


def claim(experiment: Experiment, out: Path, impossible: Mapping[str, str], *, fresh: bool) -> None:
    """Write the record and configurations of an experiment into its folder, unless it belongs to another experiment.

    Args:
        experiment: The experiment.
        out: Its folder, which is locked.
        impossible: Why runs are left out, by name.
        fresh: Whether to discard what the folder holds.

    Raises:
        ExperimentError: The folder belongs to another experiment.
    """
    path = out / "experiment.yaml"
    description = {name: config.describe() for name, config in experiment.runs.items()}
    written: set[str] = set()
    discard_leftovers(out)
    if fresh:
        _discard(out, description)
    elif any(not (is_leftover(entry) or entry.name in (SEARCH, TUNING)) for entry in out.iterdir()):
        written = _check_same(out, description)
    record = sealed_yaml(_record(experiment, impossible, description, out))
    # The record comes first: a folder with runs but no record would belong to nobody.
    if not plain_file(path).exists() or path.read_bytes() != record.encode():
        write_atomically(path, record)
    for name, config in description.items():
        if name not in impossible and name not in written:
            RunFolder(inside(out, name)).write_config(config)


def forget(out: Path) -> None:
    """Remove an experiment from its folder: its record, and the runs that this names.

    Args:
        out: The folder.
    """
    with locked(out):
        _discard(out, {})
        (out / "experiment.yaml").unlink(missing_ok=True)


def _check_same(out: Path, description: Mapping[str, Any]) -> set[str]:
    """Raise if a folder holds any other runs than these; return those whose configuration already exists."""
    folders = {name: inside(out, name) for name in description}
    if (out / "experiment.yaml").exists():
        named = {*load_record(out).get("runs", [])}
    else:  # lost
        named = {file.parent.name for file in out.glob("*/config.yaml")}
        if not named:
            raise ExperimentError(f"--out: {out} is not empty and holds no experiment; choose another folder")
    reasons = [f"this one has no run {name}" for name in sorted(named - {*description})]  # a grid may grow
    differences = [Change() for _ in reasons]
    written = set()
    for name, config in description.items():
        if is_begun(folders[name]):
            try:
                old = load_config(folders[name])
            except Damaged:
                if (folders[name] / "status.json").exists():
                    raise
                continue  # lost in a power failure before the run began
            if old == config:
                written.add(name)
            else:
                found = [*_differences(old, config)]
                differences += found
                if Change() in found:
                    reasons.insert(0, f"of its run {name}, {_first_difference(essence(old), essence(config))}")
    if Change() in differences:
        raise ExperimentError(
            f"--out: {out} holds another experiment ({reasons[0]}); choose another folder, or --fresh (fresh=True) to"
            " discard it"
        )
    if differences:
        raise ExperimentError(f"{differences[0].sentence}; choose another folder, or --fresh (fresh=True) starts anew")
    return written


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Compare the run in a folder with a new one, ignoring where and how they are executed."""
    before, now = essence(old), essence(new)
    for key in dict.fromkeys([*now, *before]):
        yield from changes(key, before.get(key), now.get(key))


def _first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Name the first key in which two descriptions differ, and both values."""
    keys = sorted(dict.fromkeys([*new, *old]), key=lambda key: key in DIGESTS)
    key = next(key for key in keys if Change() in changes(key, old.get(key), new.get(key)))
    before, now = old.get(key), new.get(key)
    if isinstance(before, Mapping) and isinstance(now, Mapping) and before.get("name") == now.get("name"):
        return f"{key}.{_first_difference(before, now)}"
    before, now = (value.get("name", value) if isinstance(value, Mapping) else value for value in (before, now))
    return f"{key} is {shown(before)}, not {shown(now)}"


def _discard(out: Path, description: Mapping[str, Any]) -> None:
    """Remove only the runs named by the folder's record or by the new experiment."""
    try:
        recorded = {*load_record(out).get("runs", [])} if (out / "experiment.yaml").exists() else set()
    except Damaged:
        recorded = set()
    for name in sorted({*recorded, *description}):
        folder = inside(out, name)
        if name in recorded or any((folder / file).exists() for file in ("config.yaml", "status.json")):
            discard(folder)
        elif folder.exists() and any(not is_leftover(entry) for entry in folder.iterdir()):
            raise ExperimentError(f"--out: {folder} holds no run; choose another folder, or move it away")


def _record(
    experiment: Experiment, impossible: Mapping[str, str], description: Mapping[str, Any], out: Path
) -> dict[str, Any]:
    """Collect the experiment as given, the keys of objects that cannot be stored, its runs, modules, and versions."""
    objects = list(dict.fromkeys(_objects(experiment.description)))
    return {
        **plain(experiment.description, importable),
        **({"objects": objects} if objects else {}),
        "runs": [name for name in experiment.runs if name not in impossible],
        **({"impossible": dict(impossible)} if impossible else {}),
        **found_modules(description, out),
        "versions": versions(),
    }


def found_modules(description: Any, out: Path) -> dict[str, Any]:
    """Record where the user's modules are, for commands that are given in another folder.

    Args:
        description: An experiment in plain values.
        out: The folder of the record.

    Returns:
        `modules`, the folders that hold them as seen from there; nothing if there are none.
    """
    found = sorted(os.path.relpath(home, out.resolve()) for home in homes(description))
    return {"modules": found} if found else {}


def _objects(given: Any, *path: str) -> Iterator[str]:
    """Find the top-level keys with objects that cannot be stored by name."""
    if isinstance(given, Mapping):
        for key, value in given.items():
            yield from _objects(value, *path, str(key))
    elif isinstance(given, list | tuple):
        for value in given:
            yield from _objects(value, *path)
    elif not isinstance(given, bool | int | float | str | np.generic | os.PathLike | None):
        chosen = path[-1] == "name" or path[-1] in KINDS
        if not (chosen and importable(given)):
            yield path[0]


@cache
def versions() -> dict[str, str]:
    """Collect package versions.

    Returns:
        The version of each package that may affect results.
    """
    packages = ("basinet", "torch", "numpy", "scipy", "networkx", "ray")
    return {package: version(package) for package in packages}
