"""Scores that finished runs give test samples: as the run has measured them, in the figure and in the report."""

import dataclasses

import pytest
import torch
from scipy import stats

from basinet.analysis.drawing.legibility import illegible
from basinet.analysis.report.gallery import gallery
from basinet.analysis.report.page import figure_html
from basinet.analysis.report.vision.rated import rating_drawing
from basinet.analysis.runs.ratings_of_runs import rating_rows
from basinet.launch.api import run
from basinet.sim.run.folder import load_runs
from basinet.sim.tasks import image_aesthetics
from tests.reports import without_reports


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("ratings")


@pytest.fixture(scope="module")
def settings(place):
    return {"edits": ["exposure"], "levels": 1, "size": 16, "folds": 4, "cache": str(place / "cache")}


@pytest.fixture(scope="module")
def runs(place, settings):
    experiment = {
        "task": {"name": "image_aesthetics", **settings},
        "model": {"name": "hivit", "width": 4, "depths": [0, 0, 1]},
        "topology": {"name": "ring", "agents": 2},
        "strategy": ["isolated", "centralized"],
        "optimizer": {"name": "adam", "lr": 0.01},
        "batch_size": 4,
        "steps": 3,
        "evaluate_every": 3,
        "replicas": 1,
        "analysis": [],
        "runtime": {"name": "inline", "device": "cpu", "threads": 1},
    }
    with without_reports():
        run(**experiment, out=place / "runs", quiet=True)
    return load_runs(place / "runs")


def test_scores_are_those_that_the_run_has_measured(runs, settings):
    rows, task = rating_rows(runs), image_aesthetics(**settings)
    for each in runs:
        mine = [row for row in rows if row["label"] == each.name]
        assert [row["sample"] for row in mine] == [*task.names] and {row["samples"] for row in mine} == {len(mine)}
        predicted, truth = ([row[name] for row in mine] for name in ("predicted", "truth"))
        torch.testing.assert_close(torch.tensor(truth), task.test.scores.flatten())
        last = [row for row in each.metrics if "agent" not in row][-1]
        assert stats.spearmanr(predicted, truth)[0] == pytest.approx(last["test_srocc"], abs=1e-3)
        assert stats.pearsonr(predicted, truth)[0] == pytest.approx(last["test_plcc"], abs=1e-3)
    few = rating_rows(runs[:1], most=3)
    whole = {row["sample"]: row["predicted"] for row in rows if row["label"] == few[0]["label"]}
    sixths = [place * len(whole) // 6 for place in (1, 3, 5)]
    assert [row["sample"] for row in few] == [task.names[place] for place in sixths]
    assert {row["samples"] for row in few} == {len(whole)}
    assert {row["sample"]: whole[row["sample"]] for row in few} == pytest.approx(
        {row["sample"]: row["predicted"] for row in few}, rel=1e-5
    )


def test_the_report_shows_them(runs, tmp_path, monkeypatch):
    drawn = {drawing.name: drawing for drawing in gallery(runs)}["ratings"]
    assert illegible(drawn.figure) == [] and figure_html(drawn, tmp_path)
    last = [row for row in runs[0].metrics if "agent" not in row][-1]
    assert f"isolated: SROCC {last['test_srocc']:.2f}" in drawn.finding and "all test samples" in drawn.caption
    for ax, each in zip(drawn.figure.axes, runs, strict=True):
        mine = [row["predicted"] for row in drawn.rows if row["label"] == each.name]
        assert ax.lines[1].get_ydata().tolist() == mine
    monkeypatch.setattr("basinet.analysis.report.vision.rated._MOST_SAMPLES", 3)
    assert "Predicted scores of 3 of " in rating_drawing(runs).caption


def test_what_cannot_be_drawn_is_said(runs, caplog):
    gone = dataclasses.replace(runs[0], path=runs[0].path.with_name("nowhere"))
    assert rating_drawing([gone]) is None and "predicted scores are not drawn" in caplog.text
    assert rating_drawing([]) is None
