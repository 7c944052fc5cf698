"""Forecasts of finished runs: by hand from their checkpoints, in figures and in the report."""

import dataclasses

import numpy as np
import pytest
import statsmodels.api as sm

from basinet.analysis.drawing.data_checks import NoDataError
from basinet.analysis.plots import panels, plot_forecasts
from basinet.analysis.report.gallery import gallery
from basinet.analysis.report.series import forecast_drawing
from basinet.analysis.runs.forecasts_of_runs import forecast_rows
from basinet.launch.api import run
from basinet.launch.cli import main
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.checkpoints.tensor_files import TensorFile
from basinet.sim.run.files import write_atomically
from basinet.sim.run.folder import RunFolder, load_runs
from tests.reports import without_reports


@pytest.fixture(scope="module")
def built_in(tmp_path_factory):
    """The built-in experiment, with fewer windows and steps."""
    out = tmp_path_factory.mktemp("forecast")
    words = ["task.stride=8", "steps=2", "evaluate_every=1", "replicas=1", "strategy=diffusion"]
    with without_reports():
        assert main(["run", "forecast", *words, "--out", str(out), "--quiet"]) == 0
    return load_runs(out)


@pytest.fixture(scope="module")
def quarters(tmp_path_factory):
    out = tmp_path_factory.mktemp("quarters")
    given = {
        "task": {"name": "forecast", "series": "macrodata", "columns": ["cpi", "unemp"], "channels": "separate"},
        "model": "linear_forecaster",
        "topology": {"name": "ring", "agents": 3},
        "strategy": "isolated",
        "optimizer": {"name": "sgd", "lr": 0.1},
        "batch_size": 2,
        "steps": 3,
        "replicas": 2,
        "analysis": [],
    }
    with without_reports():
        run(**given, out=out, quiet=True)
    (found,) = load_runs(out)
    return found


def values(rows, label, key="value"):
    return [row[key] for row in rows if row["label"] == label]


@pytest.mark.parametrize(("channel", "window"), [("cpi", -1), ("unemp", -1), ("unemp", 3)])
def test_forecasts_are_those_of_the_parameters(quarters, channel, window):
    series = sm.datasets.macrodata.load_pandas().data[channel].to_numpy()
    fit, held = int(0.7 * len(series)), int(0.2 * len(series))
    start = len(series) - held - 8 + window % (held - 4 + 1)
    rows = forecast_rows([quarters], window=window, channel=channel)
    np.testing.assert_allclose(values(rows, "observed"), series[start : start + 12], rtol=1e-6)
    assert values(rows, "observed", "step") == [*range(-7, 5)] and rows[0]["channel"] == channel
    shift, scale = series[:fit].mean(), series[:fit].std()
    past = (series[start : start + 8] - shift) / scale
    state = load_checkpoint(RunFolder(quarters.path).checkpoint)
    agents = state["rows"]["parameters"][:3].double()  # those of the first replica
    found = []
    for parameters in [agents.mean(0), *agents]:
        weight, bias = parameters[:32].view(4, 8).numpy(), parameters[32:].numpy()
        found.append((weight @ (past - past[-1]) + bias + past[-1]) * scale + shift)
    np.testing.assert_allclose(values(rows, "isolated"), found[0], rtol=1e-6)
    np.testing.assert_allclose(values(rows, "isolated", "low"), np.min(found[1:], axis=0), rtol=1e-6)
    np.testing.assert_allclose(values(rows, "isolated", "high"), np.max(found[1:], axis=0), rtol=1e-6)
    np.testing.assert_allclose(values(rows, "last value"), [series[start + 7]] * 4, rtol=1e-6)
    np.testing.assert_allclose(values(rows, "seasonal naive"), series[start + 4 : start + 8], rtol=1e-6)
    year = 1959 + (start + 7) // 4
    assert next(row["time"] for row in rows if row["step"] == 0) == f"{year}Q{1 + (start + 7) % 4}"


def test_replicas_that_diverged_are_not_drawn(quarters):
    first = forecast_rows([quarters])
    other = dataclasses.replace(quarters, status=quarters.status | {"diverged": {"0": 2}})
    assert values(forecast_rows([other]), "isolated") != values(first, "isolated")
    none = dataclasses.replace(quarters, status=quarters.status | {"diverged": {"0": 2, "1": 2}})
    assert forecast_rows([none]) == [] == forecast_rows([dataclasses.replace(quarters, config={})])
    assert forecast_drawing([none]) is None
    with pytest.raises(NoDataError, match="no run has finished the task forecast"):
        plot_forecasts([none])


def test_what_cannot_be_chosen(quarters):
    with pytest.raises(ExperimentError, match="channel: got 'm1'; allowed are cpi, unemp"):
        plot_forecasts([quarters], channel="m1")
    with pytest.raises(ExperimentError, match="window: got 37; allowed are -37 to 36"):
        plot_forecasts([quarters], window=37)


def test_the_figure_of_the_built_in_experiment(built_in):
    (drawing,) = [drawing for drawing in gallery(built_in) if drawing.name == "forecasts"]
    assert "which ends at 2001-05-19," in drawing.caption and len(drawing.figure.axes) == 2
    for ax in drawing.figure.axes:
        lines = {line.get_label(): line for line in ax.lines if line.get_label()[0] != "_"}
        assert {"observed", "last value", "seasonal naive", "ridge regression"} <= lines.keys()
        assert any("diffusion ATC" in label for label in lines)
        assert "test window" in ax.get_xlabel() and ax.get_xlabel().endswith(
            f"of 0 to {drawing.rows[0]['windows'] - 1})"
        )
        assert any("range of the agents" in str(band.get_label()) for band in ax.collections)
        observed = lines["observed"].get_xdata()
        assert (observed[0], observed[-1]) == (-51, 26)  # two horizons of the window
    labels = {row["label"] for row in drawing.rows if row["kind"] == "forecast"}
    assert len(labels) == 2 == len(built_in)
    assert panels(built_in, plot_forecasts, width=3.25).axes
    beaten = built_in[0].baselines["last value"]["test_mse"]
    assert built_in[0].metric_quantities.keys() == {"test_mse", "test_mae"} and beaten > 0.01


def test_runs_without_their_checkpoint_are_left_out(built_in, quarters, caplog):
    gone = dataclasses.replace(quarters, path=quarters.path.with_name("nowhere"))
    assert forecast_drawing([gone]) is None
    assert "forecasts of " in caplog.text
    with pytest.raises(NoDataError, match="the runs forecast different windows"):
        plot_forecasts([quarters, built_in[0]])


def test_nothing_is_drawn_from_memory_if_a_run_has_been_trained_anew(quarters, monkeypatch):
    before = values(forecast_rows([quarters]), "isolated")
    checkpoint = RunFolder(quarters.path).checkpoint
    content = checkpoint.read_bytes()
    state = load_checkpoint(checkpoint)
    state["rows"]["parameters"] += 1.0
    try:
        write_atomically(checkpoint, TensorFile(state))
        assert values(forecast_rows([quarters]), "isolated") != before
    finally:
        checkpoint.write_bytes(content)
    assert values(forecast_rows([quarters]), "isolated") == before
