"""The command that takes an experiment up again."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from basinet.launch.status.run_states import RunState
from basinet.sim.experiment.mistakes import ExperimentError
from basinet.sim.run.files import read_yaml
from basinet.sim.run.records import PIPELINE, TUNING, load_config
from basinet.sim.runtimes import ON_RANKS

__all__ = ["how_to_go_on"]

_UNKNOWN = "give the command that began it again"


def how_to_go_on(runs: Sequence[RunState]) -> str:
    """Tell how an experiment goes on.

    Args:
        runs: Runs of the experiment.

    Returns:
        A command for the shell; or a few words, if its record alone does not begin it again.
    """
    folder = runs[0].experiment
    records = [path for path in (folder / PIPELINE, folder / "experiment.yaml") if path.exists()]
    try:
        if not records or (folder / TUNING).exists() or read_yaml(records[0]).get("objects"):
            return _UNKNOWN
        runtime = load_config(runs[0].folder).get("runtime")
    except (ExperimentError, OSError):
        return _UNKNOWN
    words = shlex.join(["run", _shown(records[0]), "--out", _shown(folder)])
    if not (isinstance(runtime, dict) and runtime.get("name") in ON_RANKS):
        return f"basinet {words}"
    workers = max((run.workers for run in runs), key=len)
    if len({worker["host"] for worker in workers}) != 1:
        return _UNKNOWN
    return f"torchrun --standalone --nproc_per_node={len(workers)} -m basinet {words}"


def _shown(path: Path) -> str:
    """Write a path as seen from the present folder, if it is below that."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
