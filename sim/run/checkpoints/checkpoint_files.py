"""The files of checkpoints, read only if they are intact and of the run and step in whose place they are."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import ExperimentError, first_line
from basinet.sim.run.checkpoints.checkpoint_names import EARLIER
from basinet.sim.run.checkpoints.tensor_files import read_tensor_file
from basinet.sim.run.files import Damaged, not_a_link, plain_file
from basinet.sim.run.records import FINISHED, load_config, load_status, steps_of

__all__ = ["load_checkpoint", "load_frozen"]


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint from its run folder.

    Args:
        path: The file.

    Returns:
        The state of all rows.

    Raises:
        Damaged: The file is missing, corrupt, or from another run or step.
        ExperimentError: A later version wrote it in a form that this one cannot read.
    """
    state: dict[str, Any] = _load(path)
    rows = state.get("rows") if isinstance(state, dict) else None
    if not (isinstance(rows, dict) and isinstance(rows.get("parameters"), Tensor) and "diverged" in state):
        raise Damaged(path, "it does not hold the state of a run")
    _check_origin(path, state)
    return state


def load_frozen(path: Path, expected: str | None = None) -> dict[str, Tensor] | None:
    """Read the frozen parameters of a run, which its checkpoints do not hold.

    Args:
        path: The file.
        expected: Their digest, which every checkpoint records; None if it is not known.

    Returns:
        Tensors by name; None if the file does not hold them.
    """
    if expected == digest({}):
        return {}
    try:
        values: dict[str, Tensor] = _load(path)
    except Damaged:
        return None
    return values if expected in (None, digest(values)) else None


def _load(path: Path) -> Any:
    """Read a file of a checkpoint; raise `Damaged` if it does not hold what was written, not if it cannot be read."""
    not_a_link(path.parent)
    if not plain_file(path).exists():
        raise Damaged(path, "it is missing")
    try:
        return _load_earlier(path) if path.suffix == EARLIER else read_tensor_file(path)
    except Exception as error:  # a damaged file may raise anything
        if isinstance(error, PermissionError | MemoryError | ExperimentError):
            raise
        raise Damaged(path, first_line(error)) from error


def _load_earlier(path: Path) -> Any:
    """Read a file of an earlier version."""
    with zipfile.ZipFile(path) as archive:  # torch writes checksums but does not verify them
        if wrong := archive.testzip():
            raise ValueError(f"the checksum of {wrong} is wrong")
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_origin(path: Path, state: dict[str, Any]) -> None:
    """Raise if the state is from another run or another step."""
    run = path.parents[1]
    if "run" in state and state["run"] != steps_of(load_config(run)):
        raise Damaged(path, "it is from another run")
    if path.stem.startswith("step-"):
        expected = int(path.stem.removeprefix("step-"))
    else:
        try:
            status = load_status(run)
        except Damaged:  # says nothing about the checkpoint
            return
        expected = status["step"] if path.stem == "state" and status["state"] in FINISHED else state["step"]
    if state["step"] != expected:
        raise Damaged(path, f"it is from step {state['step']}, not {expected}")
