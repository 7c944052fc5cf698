"""The trajectories of several runs in one plane, and the loss there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.measures.surface import Plane, plane_losses, principal_plane
from basinet.analysis.runs.context import AnalysisContext
from basinet.analysis.statistics.run_labels import labels
from basinet.analysis.statistics.summary import write_csv
from basinet.sim.agents.state import take_rows
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.digest import digest
from basinet.sim.models.freezing import model_of
from basinet.sim.run.analyzed import analysis_settings, samples_used
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.folder import Run, RunFolder, load_runs
from basinet.sim.run.lock import alone
from basinet.sim.run.records import Row, read_table
from basinet.sim.run.trajectory import load_trajectory
from basinet.sim.setup.build import build_setup

__all__ = ["TABLE", "Trajectories", "measure_trajectories", "principal_trajectories", "whole_replica"]

TABLE = "trajectory_surface.csv"
"""File of the loss in the plane, in the experiment's folder."""

GRID = 21

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trajectories:
    """The centroids of some runs at their evaluations, projected into the plane in which they spread most.

    Attributes:
        replica: Index of the replica.
        labels: Labels of the runs.
        plane: The plane through the mean of the points, with equal weight for each run; `explained` is the fraction of
            their variance along each axis.
        steps: Steps of each run, [F] each.
        paths: Centroids of each run in the plane, [F, 2] each.
        distances: Their distances from the plane, [F] each.
        digest: Identifies the points.
    """

    replica: int
    labels: tuple[str, ...]
    plane: Plane
    steps: tuple[NDArray[np.int64], ...]
    paths: tuple[Array, ...]
    distances: tuple[Array, ...]
    digest: str

    def rows(self, runs: Sequence[Run]) -> list[Row]:
        """List the points.

        Args:
            runs: The runs.

        Returns:
            One row per point: `label`, `step`, `x`, `y`, `off_plane` (distance from the plane), and `train_loss` (of
            the point itself, not of its projection).
        """
        known = {
            (label, row["step"]): row.get("train_loss")
            for run, label in zip(runs, labels(runs), strict=True)
            for row in run.metrics
            if row["replica"] == self.replica and "agent" not in row
        }
        return [
            {"label": label, "step": step, "x": x, "y": y, "off_plane": off, "train_loss": known.get((label, step))}
            for label, steps, path, distances in zip(self.labels, self.steps, self.paths, self.distances, strict=True)
            for step, (x, y), off in zip(steps.tolist(), path.tolist(), distances.tolist(), strict=True)
        ]


def whole_replica(runs: Sequence[Run]) -> int:
    """Choose a replica whose recorded trajectories can be shown.

    Args:
        runs: The runs.

    Returns:
        The first replica that diverged in the fewest of the runs that recorded trajectories; 0 if none did.
    """
    recorded = [(found.points.shape[1], run.diverged) for run in runs if (found := load_trajectory(run.path))]
    counts = [
        sum(replica < count and replica not in diverged for count, diverged in recorded)
        for replica in range(max((count for count, _ in recorded), default=1))
    ]
    return counts.index(max(counts))


def principal_trajectories(runs: Sequence[Run], replica: int | None = None) -> Trajectories | None:
    """Compute the principal plane of the recorded trajectories of runs' centroids.

    A random walk in many dimensions has most of its variance in two components, too (Antognini, Sohl-Dickstein: PCA of
    high dimensional random walks, NeurIPS 2018, arXiv:1806.08805), and what looks like a path along the contours of the
    loss may lie far off the plane: check the distances as well.

    Args:
        runs: The runs; left out are those without a trajectory, in which the replica diverged, or whose number of
            parameters differs from the first.
        replica: Index of the replica; by default `whole_replica`.

    Returns:
        The trajectories, or None.
    """
    replica = whole_replica(runs) if replica is None else replica
    names: list[str] = []
    steps: list[NDArray[np.int64]] = []
    points: list[torch.Tensor] = []
    for run, label in zip(runs, labels(runs), strict=True):
        found = load_trajectory(run.path)
        if found is None or replica in run.diverged or replica >= found.points.shape[1]:
            continue
        centroids = torch.from_numpy(np.array(found.points[:, replica, 0], dtype=np.float64))
        if points and centroids.shape[1] != points[0].shape[1]:
            continue
        names.append(label)
        steps.append(found.steps)
        points.append(centroids)
    if not points:
        return None
    weights = torch.cat([torch.full((len(part),), 1 / len(part) / len(points)) for part in points])
    everything = torch.cat(points)
    plane = principal_plane(everything, weights.double() / weights.double().sum())
    off = (everything - plane.origin - plane.coordinates @ plane.axes).norm(dim=1)
    counts = [len(part) for part in points]
    return Trajectories(
        replica=replica,
        labels=tuple(names),
        plane=plane,
        steps=tuple(steps),
        paths=tuple(part.numpy() for part in torch.split(plane.coordinates, counts)),
        distances=tuple(part.numpy() for part in torch.split(off, counts)),
        digest=digest([replica, names, everything]),
    )


@alone
def measure_trajectories(
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[float, str], None] = lambda done, text: None,
    *,
    replica: int | None = None,
) -> Trajectories:
    """Evaluate the loss in the plane of the trajectories of an experiment.

    A loss already evaluated in the same plane, with the same settings and training data, is kept. The loss is over all
    samples of the analysis. Running statistics of the model are those at the end of the first run, in the whole plane.

    Args:
        folder: The folder of an experiment or of a run; it receives `trajectory_surface.csv`.
        settings: Keys of an experiment that begin with `analysis`, which override those of the first run.
        progress: Called with the fraction done, from 0 to 1, and a description.
        replica: Index of the replica; by default `whole_replica`.

    Returns:
        The trajectories.

    Raises:
        ExperimentError: If none was recorded, all have diverged, or the runs differ in task or model.
    """
    runs = load_runs(folder)
    found = principal_trajectories(runs, replica)
    if found is None:
        raise ExperimentError(f"{folder}: {_lacking(runs, replica)}")
    replica = found.replica
    shown = [run for run, label in zip(runs, labels(runs), strict=True) if label in found.labels]
    setup = build_setup(Config.parse({**shown[0].config, "analysis": [], **(settings or {})}))
    setup = setup.with_frozen(shown[0].path)
    for run in shown[1:]:
        for key, found_in in (("task", lambda config: config.get("task")), ("model", model_of)):
            if found_in(run.config) != found_in(shown[0].config):
                raise ExperimentError(
                    f"{run.path}: its {key} differs from that of {shown[0].name}, so they share no loss"
                )
    samples, used = str(samples_used(setup) or "all"), digest(analysis_settings(setup))
    if any(
        (row["trajectories"], row.get("settings")) == (found.digest, used) for row in read_table(folder / TABLE)[:1]
    ):
        return found
    state = load_checkpoint(RunFolder(shown[0].path).checkpoint)
    context = AnalysisContext(setup)
    rows = slice(replica * setup.num_agents, (replica + 1) * setup.num_agents)
    curvature = Curvature(context.objective(1), *context.centroid(take_rows(state, rows), replica))
    ticks = [_ticks(np.concatenate([path[:, axis] for path in found.paths])) for axis in (0, 1)]
    table: list[dict[str, Any]] = []
    for done, x in enumerate(ticks[0]):
        progress(done / len(ticks[0]), "loss in the plane of the trajectories")
        losses = plane_losses(curvature, *_on(found.plane, curvature), [x], ticks[1])
        table += [
            {
                "replica": replica,
                "x": x,
                "y": y,
                "loss": loss,
                "samples": samples,
                "settings": used,
                "trajectories": found.digest,
            }
            for y, loss in zip(ticks[1], losses[0].tolist(), strict=True)
        ]
    progress(1.0, "")
    write_csv(table, folder / TABLE)
    return found


def _lacking(runs: Sequence[Run], replica: int | None) -> str:
    """Explain why there is no trajectory."""
    recorded = [(run, found.points.shape[1]) for run in runs if (found := load_trajectory(run.path))]
    if not recorded:
        return "no trajectory was recorded; give the experiment trajectory: centroid"
    if replica is None:
        return "all replicas of the runs that recorded trajectories have diverged"
    if all(replica >= count for _, count in recorded):
        last = max(count for _, count in recorded) - 1
        return f"there is no replica {replica}; allowed {f'are 0 to {last}' if last else 'is 0'}"
    return f"replica {replica} has diverged in the runs that recorded its trajectory; give another one"


def _ticks(values: Array) -> list[float]:
    """Choose grid positions over the range of some values, extended by a fifth."""
    low, high = float(values.min()), float(values.max())
    margin = 0.2 * (high - low) or 1e-6
    return [float(t) for t in np.linspace(low - margin, high + margin, GRID)]


def _on(plane: Plane, curvature: Curvature) -> tuple[torch.Tensor, torch.Tensor]:
    device = curvature.points.device
    return plane.origin.to(device), plane.axes.to(device)
