"""Extractors of an ensemble in reports: both rankings, and where the controls land."""

import dataclasses
import math

import pytest

import basinet
from basinet.analysis.report.gallery import gallery
from basinet.analysis.report.vision.extractors import extractor_drawing
from basinet.sim.run.folder import load_run
from basinet.sim.tasks.vision.ensemble.chosen_extractors import Chosen
from tests.reports import without_reports


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ensemble")
    names = ["random", "random@clip", "scene_statistics"]
    clips = {"contents": 6, "size": 32, "frames": 2, "key_frames": 1, "cache": str(folder / "cache")}
    task = {"name": "pretrained_ensemble", "extractors": names, "select": "ridge", "top": 2, **clips}
    network = {"topology": {"name": "ring", "agents": 2}, "strategy": ["isolated", "diffusion"]}
    model = {"name": "ensemble_regressor", "weights": "davies_bouldin"}
    keys = {"task": task, "model": model, **network, "steps": 1, "batch_size": 2, "replicas": 1, "analysis": []}
    with without_reports():
        found = basinet.run(**keys, out=folder / "runs")
    return [load_run(run.path) for run in found.runs]


def test_both_rankings_are_drawn_with_the_controls(runs):
    drawing = extractor_drawing(runs)
    chosen = Chosen.read(runs[0].path / "standards.json")
    by_name = {extractor.name: extractor for extractor in chosen.ranked}
    assert len(drawing.rows) == 3 and "Judged or chosen otherwise" not in drawing.caption
    for metric, sign, rank in (("davies_bouldin", 1, "davies_bouldin_rank"), ("ridge_srocc", -1, "ridge_rank")):
        order = sorted(by_name, key=lambda name: sign * getattr(by_name[name], metric))
        assert [row["extractor"] for row in sorted(drawing.rows, key=lambda row: row[rank])] == order
    controls = {row["extractor"]: row["control"] for row in drawing.rows}
    assert controls == {"random": "negative control", "random@clip": "negative control", "scene_statistics": ""}
    assert [row["selected"] for row in drawing.rows] == [True, True, False]
    headings, cells = drawing.table
    assert [row[0] for row in cells] == ["used", "used", "not used"] and {len(row) for row in cells} == {len(headings)}
    assert "the negative control, random, is number" in drawing.finding


def test_ensembles_rate_and_compete_as_other_runs(runs):
    (drawing,) = [drawing for drawing in gallery(runs) if drawing.name == "ratings"]
    assert {row["label"] for row in drawing.rows} == {"isolated", "diffusion ATC"}
    board = basinet.challenge("video-quality", *(run.path for run in runs))
    scores = {entry.name: entry.numbers["srocc"] for entry in board.entries}
    for run in runs:
        last = [row for row in run.metrics if "agent" not in row][-1]
        assert scores[run.name] == pytest.approx(last["test_srocc"], abs=1e-3)


def test_extractors_without_a_ridge_are_ranked_by_the_index_alone(runs, tmp_path):
    chosen = Chosen.read(runs[0].path / "standards.json")
    alone = chosen._replace(ranked=tuple(one._replace(ridge_srocc=math.nan) for one in chosen.ranked))
    (tmp_path / "standards.json").write_text(alone.content)
    drawing = extractor_drawing([dataclasses.replace(runs[0], path=tmp_path)])
    assert len(drawing.rows) == 3 and "smallest Davies–Bouldin index" in drawing.finding
    assert "correlation" not in drawing.finding and "ridge" not in drawing.finding


def test_runs_without_extractors_are_not_drawn(runs, tmp_path, caplog):
    (tmp_path / "standards.json").write_text("{}")
    damaged = dataclasses.replace(runs[0], path=tmp_path)
    assert extractor_drawing([damaged]) is None and "extractors are not drawn" in caplog.text
    assert extractor_drawing([]) is None
