"""Renewed measurement of finished runs, with other measures or settings."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from basinet.analysis.runs.check_analysis import check_analysis
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.sim.agents.state import take_rows
from basinet.sim.agents.worker import measure_some
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import KINDS, Config
from basinet.sim.run.analyzed import Analyzed, analysis_settings
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.folder import RunFolder, load_runs
from basinet.sim.run.lock import alone
from basinet.sim.run.records import FINISHED
from basinet.sim.runtimes.torchrun import analysts
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.sharing import Shared

__all__ = ["measure_again"]


def _again(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Override the analysis settings of a run."""
    asked = {**config, **settings}
    if config.get("personal") and set(settings.get("analysis_points", [])) == {"centroid", "agents"}:
        asked["analysis_points"] = ["agents"]  # there is no centroid
    return asked


@alone
def measure_again(
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[float, str], None] = lambda done, text: None,
) -> None:
    """Measure finished runs again, in all states that they kept, and append the results to their folders.

    Values that were measured at the same state with the same settings are kept; failed ones are retried. The ranks of
    `basinet.sim.runtimes.torchrun.together` share the samples.

    Args:
        folder: Folder of a run or of an experiment.
        settings: Keys of an experiment that begin with `analysis`, which override those of the runs. For runs with
            personal parameters, which have no centroid, only the agents are measured.
        progress: Called with the fraction done, from 0 to 1, and the run being measured.

    Raises:
        ExperimentError: If a measure is unknown or not available, or a run is not finished.
    """
    settings = settings or {}
    runs = load_runs(folder)
    for run in runs:
        if run.status["state"] not in FINISHED:
            raise ExperimentError(f"{run.path}: the run is not finished, but {run.status['state']}")
        if not (settings.get("analysis") or run.config.get("analysis")):
            raise ExperimentError(
                f"--only: the run names no measure; give some of {', '.join(KINDS['analysis'].registry)}"
            )
    shared = Shared()
    setups = [build_setup(Config.parse(_again(run.config, settings)), shared).with_frozen(run.path) for run in runs]
    for setup in setups:
        check_analysis(setup)
    writers = [RunFolder(run.path) for run in runs]
    total = sum(s.config.replicas * len(w.checkpoints()) for s, w in zip(setups, writers, strict=True))
    done = 0
    for run, setup, writer in zip(runs, setups, writers, strict=True):
        wanted = analysis_settings(setup)
        with analysts(setup) as analyze:
            for file in writer.checkpoints():
                state, known = load_checkpoint(file), Analyzed(file, wanted)
                for replica in range(setup.config.replicas):
                    progress(done / total, run.name)
                    missing = known.missing(setup.config, replica, retry=True)
                    if missing and replica not in run.diverged:
                        rows = slice(replica * setup.num_agents, (replica + 1) * setup.num_agents)
                        measure = partial(measure_some, measure_replica, tuple(missing))
                        found = analyze(measure, take_rows(state, rows), replica)
                        known.record(writer, found, setup.config, missing, replica)
                    done += 1
    progress(1.0, "")
