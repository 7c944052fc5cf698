"""Resumption from the intact contents of a run's folder; damaged files that can be recreated are."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from basinet.sim.run.analyzed import Analyzed, analysis_settings
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.files import Damaged, check_vouched, inside
from basinet.sim.run.folder import RunFolder
from basinet.sim.run.records import FINISHED, METRICS, load_journal, load_status, read_lines
from basinet.sim.setup.setup import Setup

__all__ = ["is_analyzed", "is_whole", "kept_steps", "latest", "lost_step", "sound_status"]

_log = logging.getLogger(__name__)


def sound_status(folder: RunFolder) -> dict[str, Any]:
    """Read the status of a run; drop damaged parts of its analysis, and anything beyond its recorded rows.

    Args:
        folder: The run's folder.

    Returns:
        The status; that of a run that has just begun if some steps have to be taken again.
    """
    status: dict[str, Any] = {}
    try:
        status = load_status(folder.path)
        if status["state"] not in FINISHED:
            return status
        _check(folder, status)
    except Damaged as error:
        _log.warning("%s", error)
        # The engine stays, since another one rounds differently.
        return {"state": "running", "step": 0} | {key: status[key] for key in ("engine",) if key in status}
    try:
        files = _vouched(folder, status)
    except Damaged as error:
        _log.warning("%s", error)
        folder.forget_analysis()
        files = status.get("files", {})
    if METRICS in files and folder.metrics.path.stat().st_size > files[METRICS]["bytes"]:
        folder.metrics.cut(files[METRICS])
    return status


def is_whole(folder: RunFolder) -> bool:
    """Return whether a run is finished and complete; the folder is not changed.

    Args:
        folder: The run's folder.

    Returns:
        Whether it is.
    """
    try:
        status = load_status(folder.path)
        if status["state"] not in FINISHED:
            return False
        _check(folder, status)
        _vouched(folder, status)
    except Damaged:
        return False
    return True


def lost_step(folder: RunFolder, steps: Iterable[int], settings: Mapping[str, Any]) -> int | None:
    """Find a state that should have been kept and still has to be measured, but is lost.

    Args:
        folder: The run's folder.
        steps: The steps of the states that the experiment keeps.
        settings: States already measured under these settings are skipped.

    Returns:
        The first such step, or None.
    """
    for step in steps:
        path = folder.kept(step)
        if not Analyzed(path, dict(settings)).is_known:
            try:
                load_checkpoint(path)
            except Damaged as error:
                _log.warning("%s", error)
                return step
    return None


def kept_steps(setup: Setup, status: Mapping[str, Any]) -> list[int]:
    """Find the steps at which checkpoints are kept.

    Args:
        setup: The parts of the run.
        status: Its status.

    Returns:
        The steps up to the one at which the run ended.
    """
    every, end = setup.config.keep_every, min(status["step"] + 1, setup.num_steps)
    kept = set(range(0, end, every)) if every else set()
    return sorted(kept | {step for step in [status.get("best_step", end)] if step < end})


def is_analyzed(setup: Setup, folder: RunFolder, status: Mapping[str, Any]) -> bool:
    """Return whether everything that the experiment asks for has been measured.

    Args:
        setup: The parts of the run.
        folder: Its folder.
        status: Its status.

    Returns:
        Whether it has.
    """
    if not setup.config.analysis:
        return True
    replicas = set(range(setup.config.replicas)) - {int(replica) for replica in status.get("diverged", {})}
    settings = analysis_settings(setup)
    files = [*map(folder.kept, kept_steps(setup, status)), folder.checkpoint]
    known = [Analyzed(file, settings) for file in files]
    return not any(part.missing(setup.config, replica) for part in known for replica in replicas)


def latest(folder: RunFolder, before: int | None = None) -> dict[str, Any] | None:
    """Load the last intact checkpoint that relies on nothing that is lost.

    Args:
        folder: The run's folder.
        before: A step that has to be taken again.

    Returns:
        The checkpoint; None if the run has to start from the beginning.
    """
    damaged = False
    for path in (folder.checkpoint, folder.before, *reversed(folder.checkpoints()[:-1])):
        if not path.exists():
            continue
        try:
            saved = load_checkpoint(path)
            if before is not None and saved["step"] >= before:
                continue
            _check(folder, saved)
        except Damaged as error:
            damaged = True
            _log.warning("%s", error)
        else:
            if path == folder.before:
                folder.take_before()
            if damaged or before is not None:
                _log.warning("%s: the run continues from step %d", folder.path, saved["step"])
            return saved
    if damaged or before is not None:
        _log.warning("%s: the run starts again", folder.path)
    return None


def _vouched(folder: RunFolder, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the records of the files of a finished run; raise if measurements that they rely on are lost."""
    journal = load_journal(folder.path)
    files: dict[str, Any] = (journal or status).get("files", {})
    _check(folder, {"files": {name: files[name] for name in files if name == METRICS}})
    return files


def _check(folder: RunFolder, vouching: Mapping[str, Any]) -> None:
    """Raise if a status or checkpoint is from another run, or relies on something that is lost."""
    if vouching.get("run", folder.identity) != folder.identity:
        raise Damaged(folder.path / "status.json", "it is from another run")
    if "files" not in vouching:  # written by an earlier version
        read_lines(folder.metrics.path)
    for name, vouched in vouching.get("files", {}).items():
        check_vouched(inside(folder.path, name), vouched)
