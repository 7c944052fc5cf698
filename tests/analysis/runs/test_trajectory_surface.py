"""Trajectories of several runs in one plane: its axes, what lies off it, and the loss there."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from basinet.analysis.plots import plot_trajectories
from basinet.analysis.plots.trajectory_plane import trajectory_drawing
from basinet.analysis.report.report import write_report
from basinet.analysis.runs import trajectory_surface as trajectories
from basinet.analysis.runs.trajectory_surface import TABLE, measure_trajectories, principal_trajectories, whole_replica
from basinet.launch.api import run
from basinet.launch.cli import main
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import Run, load_runs
from basinet.sim.run.records import read_table
from basinet.sim.run.trajectory import load_trajectory
from tests.reports import without_reports

CURVATURE = [3.0, 1.0, 0.2]
BASE = {
    "task": {"name": "quadratic", "curvature": CURVATURE, "minimum": 0.0, "noise": 0.5},
    "model": {"name": "point", "start": 2.0},
    "topology": {"name": "ring", "agents": 4},
    "strategy": ["centralized", "consensus"],
    "batch_size": 1,
    "steps": 40,
    "evaluate_every": 5,
    "replicas": 2,
    "analysis": ["hessian_trace"],
    "trajectory": "centroid",
    "runtime": {"dtype": "float64", "device": "cpu"},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    with without_reports():
        run(**BASE, out=out, quiet=True)
    return out


def test_the_plane_is_that_of_a_singular_value_decomposition(finished):
    runs = load_runs(finished)
    found = principal_trajectories(runs, 1)
    points = np.concatenate([load_trajectory(run.path).points[:, 1, 0] for run in runs])
    assert found.labels == ("centralized", "consensus") and points.shape == (18, 3)
    _, values, axes = np.linalg.svd(points - points.mean(0))
    assert found.plane.explained.numpy() == pytest.approx(values[:2] ** 2 / (values**2).sum(), rel=1e-9)
    paths = np.concatenate(found.paths)
    wanted = (points - points.mean(0)) @ axes[:2].T
    np.testing.assert_allclose(np.abs(paths), np.abs(wanted), rtol=1e-9, atol=1e-12)
    off = np.abs((points - points.mean(0)) @ axes[2])
    np.testing.assert_allclose(np.concatenate(found.distances), off, rtol=1e-6, atol=1e-9)


def test_the_loss_is_that_of_points_in_the_plane(finished):
    found = measure_trajectories(finished, replica=1)
    table = read_table(finished / TABLE)
    assert len(table) == 21**2
    for row in table[::40]:
        w = (
            found.plane.origin
            + torch.tensor([float(row["x"]), float(row["y"])], dtype=torch.float64) @ found.plane.axes
        )
        loss = float((torch.tensor(CURVATURE, dtype=torch.float64) * w.square()).sum() / 2)
        assert float(row["loss"]) == pytest.approx(loss, rel=1e-9)
    # The loss beside each point is that of the point itself.
    for run_, path, steps in zip(load_runs(finished), found.paths, found.steps, strict=True):
        points = load_trajectory(run_.path).points[:, 1, 0]
        rows = [row for row in found.rows(load_runs(finished)) if row["label"] in run_.name]
        assert [row["step"] for row in rows] == steps.tolist() and len(rows) == len(path)
        for row, w in zip(rows, points, strict=True):
            assert row["train_loss"] == pytest.approx(float((np.array(CURVATURE) * w**2).sum() / 2), rel=1e-9)


def test_the_loss_is_evaluated_once(finished, monkeypatch):
    measure_trajectories(finished)
    before = (finished / TABLE).read_bytes()
    monkeypatch.setattr(trajectories, "plane_losses", None)
    measure_trajectories(finished)
    assert (finished / TABLE).read_bytes() == before
    with pytest.raises(TypeError):
        measure_trajectories(finished, replica=1)
    with pytest.raises(TypeError):
        measure_trajectories(finished, {"analysis_dtype": "float32"})


def test_one_call_draws_them(finished):
    runs = load_runs(finished)
    _, ax = plt.subplots()
    assert plot_trajectories(runs, ax=ax, replica=1) is ax
    shown = [line.get_label() for line in ax.lines if not line.get_label().startswith("_")]
    assert " ≈ ".join(shown).split(" ≈ ") == ["centralized", "consensus"]
    explained = 100 * principal_trajectories(runs, 1).plane.explained
    assert f"{explained[0]:.1f} %" in ax.get_xlabel() and f"{explained[1]:.1f} %" in ax.get_ylabel()
    plt.close()


def test_the_command_adds_the_loss_to_the_report(finished, capsys):
    (finished / TABLE).unlink(missing_ok=True)
    page = write_report(finished).read_text()
    assert "Where the runs went" in page and "Contours: training loss" not in page
    assert main(["analyze", str(finished), "--only", "trajectory"]) == 0
    said = capsys.readouterr().err
    assert "two principal directions hold" in said
    assert "Contours: training loss" in (finished / "report.html").read_text()
    rows = read_table(finished / "figures" / "trajectories.csv")
    assert {row["label"] for row in rows} == {"centralized", "consensus"} and {"off_plane", "train_loss"} <= set(
        rows[0]
    )


def test_the_command_measures_what_it_is_asked_for_alone(finished, capsys, no_reports):
    before = [(run.path / "metrics.jsonl").read_bytes() for run in load_runs(finished)]
    assert main(["analyze", str(finished), "--only", "trajectory", "--between", "--dtype", "float32"]) == 0
    assert [(run.path / "metrics.jsonl").read_bytes() for run in load_runs(finished)] == before
    rounded = [float(row["loss"]) for row in read_table(finished / TABLE)]
    assert main(["analyze", str(finished), "--only", "trajectory"]) == 0
    exact = [float(row["loss"]) for row in read_table(finished / TABLE)]
    assert exact != rounded and exact == pytest.approx(rounded, rel=1e-5)
    capsys.readouterr()
    for option in ("--agents", "--own"):
        assert main(["analyze", str(finished), "--between", option]) == 2
        assert f"{option}: the loss on trajectories and between solutions is that of the" in capsys.readouterr().err


def diverged(run: Run, *replicas: int) -> Run:
    return dataclasses.replace(run, status=run.status | {"diverged": {str(replica): 3 for replica in replicas}})


def test_a_replica_that_is_whole_is_shown(finished, monkeypatch):
    first, second = load_runs(finished)
    assert whole_replica([first, second]) == principal_trajectories([first, second]).replica == 0
    assert whole_replica([diverged(first, 0), second]) == 1
    assert whole_replica([diverged(first, 0), diverged(second, 1)]) == 0  # none is whole in both
    runs = [diverged(first, 0), diverged(second, 0)]
    found = principal_trajectories(runs)
    assert found.replica == 1 and found.labels == ("centralized", "consensus")
    assert "replica 1" in trajectory_drawing(runs).caption
    monkeypatch.setattr(trajectories, "load_runs", lambda folder: runs)
    with pytest.raises(ExperimentError, match="replica 0 has diverged in the runs that recorded its trajectory"):
        measure_trajectories(finished, replica=0)
    with pytest.raises(ExperimentError, match="there is no replica 2; allowed are 0 to 1"):
        measure_trajectories(finished, replica=2)
    runs[:] = [diverged(first, 0, 1), diverged(second, 0, 1)]
    with pytest.raises(ExperimentError, match="all replicas of the runs that recorded trajectories have diverged"):
        measure_trajectories(finished)


def test_nothing_recorded_is_refused(tmp_path, no_reports):
    run(**BASE | {"trajectory": None, "strategy": "consensus"}, out=tmp_path / "out", quiet=True)
    with pytest.raises(ExperimentError, match="no trajectory was recorded"):
        measure_trajectories(tmp_path / "out")
    with pytest.raises(ValueError, match="no run has recorded a trajectory"):
        plot_trajectories(load_runs(tmp_path / "out"))


def test_runs_of_different_tasks_share_no_loss(tmp_path, no_reports):
    tasks = [{"name": "quadratic", "curvature": 1.0, "dimension": d} for d in (3,)]
    tasks.append({"name": "quadratic", "curvature": 2.0, "dimension": 3})
    run(**BASE | {"task": tasks, "strategy": "consensus"}, out=tmp_path / "out", quiet=True)
    with pytest.raises(ExperimentError, match="its task differs from"):
        measure_trajectories(tmp_path / "out")
