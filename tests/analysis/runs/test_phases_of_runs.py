"""Phases that finished runs recognise: by their checkpoints, in figures, and in the report."""

import csv
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from basinet.analysis.drawing.data_checks import NoDataError
from basinet.analysis.drawing.layout import Sheet
from basinet.analysis.drawing.legibility import illegible
from basinet.analysis.plots import plot_confusion, plot_phases
from basinet.analysis.plots.vision.phase_recognition import draw_phases
from basinet.analysis.report.gallery import gallery
from basinet.analysis.report.page import figure_html
from basinet.analysis.runs.phases_of_runs import confusion_rows, recognised_phases
from basinet.analysis.runs.solution import Solutions
from basinet.launch.api import run
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import load_runs
from basinet.sim.tasks import video_language
from tests.reports import without_reports


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    experiment = {
        "task": {"name": "video_language", "videos": 4, "test_videos": 2, "levels": ["clip"]},
        "model": {"name": "video_text", "channels": [4], "layers": 0},
        "topology": {"name": "ring", "agents": 2},
        "strategy": ["isolated", "centralized"],
        "optimizer": {"name": "adam", "lr": 0.01},
        "batch_size": 2,
        "steps": 2,
        "evaluate_every": 2,
        "replicas": 1,
        "analysis": [],
        "runtime": {"name": "inline", "device": "cpu", "threads": 1},
    }
    with without_reports():
        run(**experiment, out=out, quiet=True)
    return load_runs(out)


def test_phases_are_those_that_the_run_has_scored(runs):
    found, task = recognised_phases(runs), video_language(videos=4, test_videos=2, levels=["clip"])
    assert all("generalization_gap" not in row for each in runs for row in each.metrics)  # of different losses
    assert [*found.predicted] == ["isolated", "centralized"] and found.phases == task.phases
    assert found.sets == ("test",) * 2 + ("other_kind",) * 2 + ("other_centre",) * 2
    assert torch.equal(task.test.phase, torch.from_numpy(found.phase))
    for each in runs:
        hits = found.predicted[each.config["strategy"]["name"]] == found.phase
        last = [row for row in each.metrics if "agent" not in row][-1]
        for name, videos in (("phase_accuracy", (0, 1)), ("phase_accuracy_other_centre", (4, 5))):
            wanted = np.mean([hits[found.video == video].mean() for video in videos])
            assert last[f"test_{name}"] == pytest.approx(wanted, abs=1e-9)
    rows = confusion_rows(found)
    for label, predicted in found.predicted.items():
        own = [row for row in rows if row["label"] == label]
        assert sum(row["frames"] for row in own) == len(found.phase)
        sets = np.array(found.sets)[found.video]
        for row in own:
            shown, said = (found.phases.index(row[key]) for key in ("phase", "predicted"))
            frames = (sets == row["set"]) & (found.phase == shown) & (predicted == said)
            assert row["frames"] == frames.sum()
        right = sum(row["frames"] for row in own if row["phase"] == row["predicted"])
        assert right == (predicted == found.phase).sum()


def test_figures_show_them(runs, tmp_path):
    found = recognised_phases(runs)
    ax = plot_phases(runs, video=3)
    phase = found.phase[found.video == 3]
    bars = [bar for bar in ax.patches if bar.get_width()]
    assert sum(bar.get_width() for bar in bars) == len(phase)
    for bar in bars:
        inside = phase[int(bar.get_x() + 0.5) : int(bar.get_x() + 0.5 + bar.get_width())]
        assert {*inside.tolist()} == {round(bar.get_y() + bar.get_height() / 2)}
    for line, predicted in zip(ax.lines, found.predicted.values(), strict=True):
        assert np.array_equal(np.round(line.get_ydata()), predicted[found.video == 3])
    assert "true phase" in [text.get_text() for text in ax.get_legend().get_texts()]
    long = replace(found, phases=tuple(f"phase {n}, opening the cup" for n in range(len(found.phases))))
    for width, whole in ((7, True), (3.2, False)):  # as much of the names as there is room for
        ax = draw_phases(long, 3, Sheet(figsize=(width, 4)).subplots(), legend=False)
        names = [label.get_text() for label in ax.get_yticklabels()]
        assert (names == [*long.phases]) is whole and len({*names}) == len(names)
        assert all(name.startswith("phase ") and name.endswith("cup") for name in names)
    rows = confusion_rows(found)
    (image,) = plot_confusion(rows, label="centralized", of="other_kind").images
    assert np.allclose(image.get_array().sum(1), 100)
    drawn = {drawing.name: drawing for drawing in gallery(runs)}
    for name, panels in (("phases", 3), ("confusion", 2)):
        assert illegible(drawn[name].figure) == [] and len(drawn[name].figure.axes) == panels
        assert figure_html(drawn[name], tmp_path)
    with open(tmp_path / "phases.csv", encoding="utf-8", newline="") as file:
        lines = [*csv.DictReader(file)]
    assert [line["isolated"] for line in lines] == [found.phases[p] for p in found.predicted["isolated"]]
    headings, cells = drawn["confusion"].table
    assert headings[1:3] == ["phase", "frames"] and cells[0][0] == "test, isolated"


class Fewer(Solutions):
    """Opens runs, the centralized ones with fewer frames for tests."""

    def open(self, run, replica):
        found = super().open(run, replica)
        if run.name != "centralized":
            return found
        test = found.task.test
        test = replace(test, frame=test.frame[:40], phase=test.phase[:40], video=test.video[:40])
        return SimpleNamespace(task=replace(found.task, test=test), centroid=found.centroid)


def test_what_cannot_be_drawn_is_said(runs):
    with pytest.raises(NoDataError, match="no run has finished the task video_language"):
        plot_phases([])
    with pytest.raises(ExperimentError, match="video: got 6; allowed are 0 to 5, the test videos"):
        plot_phases(runs, video=6)
    with pytest.raises(NoDataError, match="there are no frames of the set away in which isolated has recognised"):
        plot_confusion(confusion_rows(recognised_phases(runs)), of="away")
    with pytest.raises(ExperimentError, match=r"are tested on different videos \(isolated and centralized\)"):
        recognised_phases(runs, Fewer())
