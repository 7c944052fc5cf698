"""Metrics of runs for loggers, after the fact."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.experiment import parse_loggers
from basinet.sim.run.folder import load_runs
from basinet.sim.run.listeners import Feeds, check_loggers, close_ready

__all__ = ["log_again"]


def log_again(folder: str | Path, loggers: Sequence[Any], out: str | Path) -> list[str]:
    """Let loggers receive what runs have measured; what they have received into the same folder before is left out.

    Args:
        folder: Folder of an experiment, or of a single run.
        loggers: The loggers, as in an experiment.
        out: Where the loggers write, a folder for each run.

    Returns:
        The names of the runs.

    Raises:
        ExperimentError: A logger does not exist, or fails.
    """
    out, parsed = Path(out), parse_loggers(list(loggers))
    check_loggers(parsed)
    try:
        runs = load_runs(folder)
        if out.exists() and not out.is_dir():
            raise ExperimentError(f"OUT: {out} is a file; choose a folder")
        with Feeds(parsed, out, several=len(runs) > 1) as feeds:
            for run in runs:
                (out / run.name).mkdir(parents=True, exist_ok=True)
                feeds.update(run.name, run.path)
                feeds.close(run.name)
    finally:
        close_ready(parsed)
    for name, reason in feeds.failed.items():
        raise ExperimentError(f"loggers: {name} fails: {reason}")
    return [run.name for run in runs]
