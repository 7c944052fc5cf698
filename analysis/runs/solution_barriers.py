"""Loss barriers between the solutions of different runs."""

from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.measures.surface import barriers, path_losses
from basinet.analysis.runs.context import AnalysisContext
from basinet.analysis.statistics.run_labels import labels
from basinet.analysis.statistics.summary import write_csv
from basinet.sim.agents.state import take_rows
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.digest import digest
from basinet.sim.models.freezing import model_of
from basinet.sim.run.analyzed import analysis_settings, checkpoint_digest
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.folder import RunFolder, load_runs
from basinet.sim.run.lock import alone
from basinet.sim.run.records import FINISHED, Row, read_table
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.setup import Setup
from basinet.sim.setup.sharing import Shared

__all__ = ["TABLE", "measure_between"]

TABLE = "solution_barriers.csv"

_TYPES: dict[str, Callable[[str], Any]] = {"replica": int, "position": float, "loss": float, "barrier": float}


@alone
def measure_between(
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[float, str], None] = lambda done, text: None,
) -> list[Row]:
    """Measure the loss on the straight paths between the centroids of the runs of an experiment.

    Runs of the same task and model are compared, replica by replica: replicas of the same index have the same initial
    values and training samples. Diverged replicas are left out, as are runs with personal parameters, which have no
    centroid; pairs already compared with the same states, settings and training data are kept.

    Args:
        folder: The experiment's folder; it receives `solution_barriers.csv`.
        settings: Keys of an experiment that begin with `analysis`, which override those of the runs.
        progress: Called with the fraction done, from 0 to 1, and the pair being measured.

    Returns:
        One row for each pair of runs, replica and position: `first`, `second`, `replica`, `position`, `loss`,
        `barrier`, and `states`, which identifies the two states and the settings of the comparison.

    Raises:
        ExperimentError: If fewer than two finished runs have the same task and model.
    """
    runs = [run for run in load_runs(folder) if run.status["state"] in FINISHED]
    runs = [run for run in runs if not run.config.get("personal")]
    shared = Shared()
    setups = [
        build_setup(Config.parse({**run.config, "analysis": [], **(settings or {})}), shared).with_frozen(run.path)
        for run in runs
    ]
    same = [(*map(run.config.get, ("task", "seed")), model_of(run.config)) for run in runs]
    pairs = [(a, b) for a, b in combinations(range(len(runs)), 2) if same[a] == same[b]]
    if not pairs:
        raise ExperimentError(
            f"{folder}: two finished runs of the same task, model and seed are needed, without personal parameters"
        )
    states = [load_checkpoint(RunFolder(run.path).checkpoint) for run in runs]
    names = labels(runs)
    digests = [checkpoint_digest(RunFolder(run.path).checkpoint) for run in runs]
    used = [digest(analysis_settings(setup)) for setup in setups]
    before = read_table(folder / TABLE)
    rows: list[Row] = []
    for done, (a, b) in enumerate(pairs):
        progress(done / len(pairs), f"{names[a]} to {names[b]}")
        pair = f"{digests[a]} {digests[b]} {used[a]}"
        if found := [
            row for row in before if (row["first"], row["second"], row["states"]) == (names[a], names[b], pair)
        ]:
            rows += [{key: _TYPES.get(key, str)(value) for key, value in row.items()} for row in found]
            continue
        replicas = [
            replica
            for replica in range(min(setups[a].config.replicas, setups[b].config.replicas))
            if replica not in {*states[a]["diverged"], *states[b]["diverged"]}
        ]
        if replicas:
            new = _between((setups[a], setups[b]), (states[a], states[b]), replicas, (names[a], names[b]))
            rows += [{**row, "states": pair} for row in new]
    progress(1.0, "")
    write_csv(rows, folder / TABLE)
    return rows


def _between(
    setups: tuple[Setup, Setup],
    states: tuple[dict[str, Any], dict[str, Any]],
    replicas: list[int],
    names: tuple[str, str],
) -> list[Row]:
    """Evaluate the paths from each replica of a run to the same replica of another."""
    context = AnalysisContext(setups[0])
    objective = context.objective(1)
    ends = []
    for setup, state in zip(setups, states, strict=True):
        agents = setup.num_agents
        found = [
            AnalysisContext(setup).centroid(take_rows(state, slice(replica * agents, (replica + 1) * agents)), replica)
            for replica in replicas
        ]
        points = torch.cat([point for point, _ in found])
        buffers = {name: torch.cat([b[name] for _, b in found]) for name in found[0][1]}
        ends.append(Curvature(objective, points, buffers))
    positions, losses = path_losses(ends[0], ends[1])
    return [
        {"first": names[0], "second": names[1], "replica": replica, "position": t, "loss": loss, "barrier": height}
        for replica, path, height in zip(replicas, losses.tolist(), barriers(positions, losses).tolist(), strict=True)
        for t, loss in zip(positions.tolist(), path, strict=True)
    ]
