"""Figures of what runs have found: accuracy over flatness and risk, spectra, agents, predictions; one call each."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from basinet.analysis import plots
from basinet.analysis.plots.density import spectra_rows
from basinet.analysis.plots.predicted_risk import prediction_rows
from basinet.analysis.plots.scatter import iso_lines, iso_rows
from basinet.analysis.report.gallery import gallery
from basinet.analysis.statistics.replica_values import agent_rows
from basinet.analysis.theory.prediction import predict_run
from basinet.launch.api import run
from basinet.sim.run.folder import Run, load_runs
from basinet.sim.run.records import read_table
from tests.reports import without_reports


def axes():
    return Figure().subplots()


def finished_run(strategy, points, seed):
    """A run whose accuracy is 0.9 − 0.02 ln(flatness) − 0.01 ln(risk), exactly."""
    rng = np.random.default_rng(seed)
    rows = []
    for replica in range(points):
        flatness, risk = np.exp(rng.normal(2, 1)), np.exp(rng.normal(-6, 1))
        accuracy = 0.9 - 0.02 * np.log(flatness) - 0.01 * np.log(risk)
        row = {"step": 10, "replica": replica, "hessian_trace": flatness, "excess_risk": risk}
        rows.append(row | {"test_accuracy": accuracy})
    config = {"strategy": {"name": strategy}, "replicas": points, "topology": {"name": "ring", "agents": 3}}
    return Run(strategy, Path("runs/none"), config, {"state": "done", "step": 10, "diverged": {}}, rows)


def test_the_lines_of_equal_accuracy_are_those_of_the_regression():
    runs = [finished_run("consensus", 4, 0), finished_run("centralized", 4, 1)]
    rows = iso_rows(runs, "hessian_trace", "test_accuracy")
    fit = iso_lines(rows, "hessian_trace", "test_accuracy")
    assert len(rows) == fit.count == 8
    assert fit.coefficients == pytest.approx((0.9, -0.02, -0.01), rel=1e-9)
    assert fit.explained == pytest.approx(1)
    assert fit.at(np.e, np.e**2) == pytest.approx(0.9 - 0.02 - 0.02)
    ax = axes()
    assert plots.plot_iso_accuracy(runs, ax=ax) is ax and "R² = 1.00" in ax.get_title()
    # Along a drawn line the fit has one value.
    (lines,) = [c for c in ax.collections if hasattr(c, "levels")]
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        if len(path.vertices):
            np.testing.assert_allclose(fit.at(*path.vertices.T), level, atol=1e-4)
    drawings = {drawing.name: drawing for drawing in gallery(runs)}
    assert "-0.02 per unit" in drawings["iso_accuracy"].caption


def test_too_few_replicas_have_no_regression():
    runs = [finished_run("consensus", 4, 0)]
    assert iso_lines(iso_rows(runs, "hessian_trace", "test_accuracy"), "hessian_trace", "test_accuracy") is None
    assert plots.plot_iso_accuracy(runs, ax=axes()).get_title() == ""
    assert "iso_accuracy" not in {drawing.name for drawing in gallery(runs)}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    out = tmp_path_factory.mktemp("measured")
    with without_reports():
        run(
            task="digits", model={"name": "mlp", "hidden": [2]}, topology={"name": "ring", "agents": 3}, batch_size=4,
            strategy=["consensus", "diffusion"], steps=10, replicas=2, analysis=["hessian_density", "hessian_trace"],
            analysis_points=["centroid", "agents"], analysis_samples=30, runtime={"dtype": "float64", "device": "cpu"},
            out=out, quiet=True,
        )  # fmt: skip
    return out


def test_spectra_are_counted_in_common_bins(measured):
    runs = load_runs(measured)
    rows = spectra_rows(runs, bins=40)
    assert len(rows) == 80 and {row["label"] for row in rows} == {"consensus", "diffusion ATC"}
    for run_, label in zip(runs, ("consensus", "diffusion ATC"), strict=True):
        mine = [row for row in rows if row["label"] == label]
        assert sum(row["part"] for row in mine) == pytest.approx(1)
        atoms = [row for row in read_table(run_.path / "density.csv") if not row["agent"]]
        low, high = mine[30]["low"], mine[30]["high"]
        inside = sum(float(a["weight"]) for a in atoms if low <= float(a["eigenvalue"]) < high) / 2
        assert mine[30]["part"] == pytest.approx(inside)
    ax = axes()
    assert plots.plot_spectra(runs, ax=ax) is ax and ax.get_yscale() == "log"
    with pytest.raises(ValueError, match="measure hessian_density"):
        plots.plot_spectra([finished_run("consensus", 4, 0)])


def test_agents_are_drawn_beside_their_centroid(measured):
    runs = load_runs(measured)
    rows = agent_rows(runs, "hessian_trace")
    assert len(rows) == 2 * 2 * (3 + 1)
    wanted = {(r["replica"], r["agent"]): r["hessian_trace"] for r in runs[0].metrics if "agent" in r}
    found = {(r["replica"], r["agent"]): r["hessian_trace"] for r in rows if r["label"] == "consensus"}
    assert {key: value for key, value in found.items() if key[1] != "centroid"} == wanted
    ax = axes()
    assert plots.plot_agents(runs, ax=ax) is ax
    assert sum(len(line.get_xdata()) for line in ax.lines) == 12
    with pytest.raises(ValueError, match="analysis_points"):
        plots.plot_agents([finished_run("consensus", 4, 0)])


def test_the_report_has_them(measured):
    names = {drawing.name for drawing in gallery(load_runs(measured))}
    assert {"spectra", "agents", "density"} <= names


def test_predicted_and_measured_risk_lie_side_by_side(tmp_path, no_reports):
    run(
        task="quadratic", topology={"name": "ring", "agents": 4}, strategy=["consensus", "diffusion"], batch_size=1,
        optimizer={"name": "sgd", "lr": 0.1}, model={"name": "point", "start": 0.0}, steps=60, replicas=6, analysis=[],
        runtime={"dtype": "float64", "device": "cpu"}, out=tmp_path, quiet=True,
    )  # fmt: skip
    found = {run_.name: predict_run(run_.path) for run_ in load_runs(tmp_path)}
    rows = prediction_rows(found)
    assert len(rows) == 2 * 2 * 6
    for row in rows:
        theory = found[row["label"]]
        assert row["measured"] == getattr(theory, row["part"])[row["replica"]]
        assert row["predicted"] == getattr(theory.predicted[row["replica"]], row["part"])
    ax = axes()
    assert plots.plot_prediction(found, ax=ax) is ax
    assert ax.get_xscale() == ax.get_yscale() == "log"


@pytest.mark.parametrize("name", [name for name in plots.__all__ if name.startswith("plot_")])
def test_every_figure_takes_axes(name):
    assert inspect.signature(getattr(plots, name)).parameters["ax"].kind is inspect.Parameter.KEYWORD_ONLY
