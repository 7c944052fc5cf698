"""Masked units that finished runs predict, and crops that were kept to train on: in figures, and in the report."""

import dataclasses

import pytest
import torch

from basinet.analysis.drawing.data_checks import NoDataError
from basinet.analysis.drawing.legibility import illegible
from basinet.analysis.plots import plot_reconstructions
from basinet.analysis.report.gallery import gallery
from basinet.analysis.report.page import figure_html
from basinet.analysis.report.vision.reconstructed import pretraining_drawings
from basinet.analysis.runs.reconstructions_of_runs import pretraining_of, reconstructed_crops
from basinet.analysis.runs.solution import Solutions
from basinet.launch.api import run
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import load_runs
from basinet.sim.tasks import QualityPretraining
from tests.reports import without_reports


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    def made(strategy="isolated", **task):
        photos = {"train_photos": ["coffee", "clock"], "test_photos": ["coins", "rocket"], "size": 32, "crops": 3}
        experiment = {
            "task": {"name": "quality_pretraining", "degradations": ["blur", "noise"], **photos, **task},
            "model": {"name": "masked_hivit", "width": 4, "depths": [0, 0, 1]},
            "topology": {"name": "ring", "agents": 2},
            "strategy": strategy,
            "optimizer": {"name": "adam", "lr": 0.01},
            "batch_size": 2,
            "steps": 1,
            "replicas": 1,
            "analysis": [],
            "runtime": {"name": "inline", "device": "cpu", "threads": 1},
        }
        out = tmp_path_factory.mktemp("runs")
        with without_reports():
            run(**experiment, out=out, quiet=True)
        return load_runs(out)

    return made


@pytest.fixture(scope="module")
def runs(make):
    return make(["isolated", "centralized"])


def test_crops_are_seen_and_predicted(runs):
    found = reconstructed_crops(runs, 4)
    assert [(crop.name, crop.chain) for crop in found] == [
        ("coins", "blur"), ("coins", "noise"), ("rocket", "blur"), ("rocket", "noise")
    ]  # fmt: skip
    for crop in found:
        # One unit of four is seen, and the same in all pictures; the others are grey.
        units = {name: cut(getattr(crop, name)) for name in ("seen", "truth", "original")}
        masked = (units["seen"] == 128).flatten(1).all(1)
        assert int(masked.sum()) == 3
        assert torch.equal(units["seen"][~masked], units["truth"][~masked])
        assert [*crop.predicted] == ["isolated", "centralized"] == [*crop.losses]
        for predicted in map(cut, crop.predicted.values()):
            assert torch.equal(predicted[~masked], units["truth"][~masked])
    assert not all(torch.equal(crop.original, crop.truth) for crop in found)


def cut(image):
    return torch.stack([image[:, y : y + 16, x : x + 16] for y in (0, 16) for x in (0, 16)])


@pytest.fixture(scope="module")
def clean(make):
    return make(target="clean", kept=1, normalised=False)


@pytest.mark.parametrize("normalised", [True, False])
def test_the_right_prediction_is_the_truth(runs, clean, monkeypatch, normalised):
    """A model that knows the targets restores the crop, up to rounding, whether pixels are normalised or not."""
    ran = runs[:1] if normalised else clean
    monkeypatch.setattr(QualityPretraining, "outputs", lambda task, model, batch: batch[-1])
    for crop in reconstructed_crops(ran, 2):
        ((_, predicted),) = crop.predicted.items()
        assert (predicted.int() - crop.truth.int()).abs().max() <= 1
        assert crop.losses == {"isolated": 0} and crop.is_clean is not normalised


def test_the_report_shows_them(runs, tmp_path):
    drawn = {drawing.name: drawing for drawing in gallery(runs)}
    for name in ("reconstructions", "curation"):
        assert illegible(drawn[name].figure) == []
        assert figure_html(drawn[name], tmp_path)
    lines = {line.get_label().replace("\n", " ") for line in drawn["test_detail_r2"].figure.axes[0].lines}
    assert "mean of the training pixels and mean of the visible units" in lines  # both are 0 by definition
    assert "normalised in each unit" in drawn["reconstructions"].caption
    assert len(drawn["reconstructions"].rows) == 2 * 4
    curation = drawn["curation"]
    assert "Of 6 crops of the training images, curation has kept the 3 with" in curation.caption
    headings, cells = curation.table
    assert headings[1:] == ["image", "crops", "kept", "resolution", "coverage", "objects"]
    assert all(row[4].endswith(" MP") for row in cells) and "resolution 0." in curation.finding
    assert sum(int(row[3]) for row in cells) == 3 and cells[0][0] == "some or all kept"
    task = pretraining_of(runs[0], Solutions("float32"))
    crops = task.candidates.clean(2 * torch.arange(6))  # in the first of two versions each
    (ax,) = curation.figure.axes
    assert len(ax.images) == 6 and task.curation.left_out == 3
    for kept, title in ((True, "kept"), (False, "left out")):
        shown = {image.get_array().tobytes() for image in ax.images if (image.get_extent()[3] == 0) is kept}
        wanted = [crop for crop, there in zip(crops, task.curation.is_kept, strict=True) if there == kept]
        assert shown == {crop.permute(1, 2, 0).numpy().tobytes() for crop in wanted}
        (text,) = (text for text in ax.texts if text.get_text() == title)
        assert bool(text.get_position()[1] < ax.get_ylim()[0] / 2) is kept


def test_runs_on_other_data_are_left_out_and_other_partitions_are_not(runs):
    first, second = runs
    other_seed = dataclasses.replace(second, config={**second.config, "seed": 1})
    (drawing, _) = pretraining_drawings([first, other_seed])
    assert {row["label"] for row in drawing.rows} == {"isolated"} and "Drawn: 1 of 2 runs" in drawing.caption
    partition = {"name": "by_column", "column": "photo"}
    task = {**second.config["task"], "partition": partition}
    (drawing, _) = pretraining_drawings([first, dataclasses.replace(second, config={**second.config, "task": task})])
    assert len({row["label"] for row in drawing.rows}) == 2 and "Of 2 runs" not in drawing.caption


def test_what_cannot_be_drawn_is_said(runs, clean, caplog):
    with pytest.raises(NoDataError, match="no run has finished the task quality_pretraining"):
        plot_reconstructions([])
    with pytest.raises(ExperimentError, match="crops: got 0; allowed are 1, 2, "):
        plot_reconstructions(runs, crops=0)
    with pytest.raises(ExperimentError, match="the runs predict different units of test crops"):
        reconstructed_crops([*runs, *clean], 4)
    (drawing,) = pretraining_drawings(clean)  # all crops are kept
    assert drawing.name == "reconstructions"
    both = pretraining_drawings([*runs, *clean])[0]
    assert "Drawn: 2 of 3 runs, which are tested on the same crops." in both.caption
    gone = dataclasses.replace(runs[0], path=runs[0].path.with_name("nowhere"))
    assert pretraining_drawings([gone]) == [] and "reconstructions are not drawn" in caplog.text
    assert pretraining_drawings([]) == []
