"""Images that finished runs have restored: their scores by hand, in figures, and in the report."""

import dataclasses
import importlib
import os

import numpy as np
import pytest
import torch

from basinet.analysis.drawing.data_checks import NoDataError
from basinet.analysis.drawing.legibility import illegible
from basinet.analysis.plots import panels, plot_restorations
from basinet.analysis.report.gallery import gallery
from basinet.analysis.report.page import figure_html
from basinet.analysis.report.vision.restored import restoration_drawing
from basinet.analysis.runs.restorations_of_runs import ALL, gains, restoration_rows, restored_images
from basinet.launch.api import run
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.models import MODELS
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.folder import RunFolder, load_runs
from basinet.sim.vision.fidelity import fidelity, to_bytes
from basinet.sim.vision.picture_files import Pixels, read_pixels, write_pixels
from basinet.sim.vision.resizing import enlarge, shrink
from basinet.sim.vision.self_ensemble import of_eight_views
from tests.reports import without_reports

NAMES = ("x", "y", "z")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Images to train on, and others to test on, of unequal sizes."""
    train, test = (tmp_path_factory.mktemp(name) for name in ("train", "test"))
    rng = np.random.default_rng(0)
    for number, (folder, name) in enumerate([(train, "a"), (train, "b"), *((test, name) for name in NAMES)]):
        coarse = torch.from_numpy(rng.integers(0, 256, (3, 18 + number, 17), dtype=np.uint8))
        write_pixels(folder / f"{name}.png", Pixels(enlarge(coarse, 4)))
    return train, test


@pytest.fixture(scope="module")
def make(folders, tmp_path_factory):
    def made(**changed):
        train, test = map(str, folders)
        given = {
            "task": {
                "name": "super_resolution",
                "path": train,
                "test_path": test,
                "patch": 6,
                **changed.pop("task", {}),
            },
            "model": {"name": "residual_upscaler", "features": 3, "blocks": 1},
            "topology": {"name": "ring", "agents": 3},
            "strategy": "isolated",
            "optimizer": {"name": "adam", "lr": 0.01},
            "batch_size": 2,
            "steps": 2,
            "evaluate_every": 2,
            "replicas": 2,
            "analysis": [],
            "runtime": {"name": "inline", "device": "cpu", "threads": 1},
        }
        out = tmp_path_factory.mktemp("runs")
        with without_reports():
            run(**{**given, **changed}, out=out, quiet=True)
        return load_runs(out)

    return made


@pytest.fixture(scope="module")
def runs(make):
    return make(strategy=["isolated", "centralized"], task={"self_ensemble": True})


@pytest.fixture(scope="module")
def twice(make):
    return make(replicas=1, task={"scale": 2})


def of(rows, label, image):
    (found,) = [row for row in rows if (row["label"], row["image"]) == (label, image)]
    return found


def test_scores_are_those_of_the_parameters(runs, folders):
    rows = restoration_rows(runs)
    known = MODELS["residual_upscaler"]((3, 6, 6), 16 * 3 * 36, features=3, blocks=1)
    state = load_checkpoint(RunFolder(runs[0].path).checkpoint)["rows"]["parameters"]
    views = [state[:3].mean(0), state[3:].mean(0), *state[:3]]  # the centroids of two replicas, agents of the first
    for number, name in enumerate(NAMES):
        truth = read_pixels(folders[1] / f"{name}.png").colour
        low = shrink(truth, 4)[None].float() / 255
        found, turned = [], []
        for parameters in views:
            torch.nn.utils.vector_to_parameters(parameters, known.parameters())
            with torch.no_grad():
                for model, scores in ((known, found), (of_eight_views(known), turned)):
                    scores.append({k: float(v) for k, v in fidelity(to_bytes(model(low)), truth[None], 4).items()})
        row = of(rows, "isolated", name)
        for score in ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"):
            values = [each[score] for each in found]
            assert row[score] == pytest.approx(np.mean(values[:2]), abs=1e-3)
            assert row[f"{score}_spread"] == pytest.approx(np.std(values[:2], ddof=1), abs=1e-3)
            if score[-1] == "y":
                ends = [row[f"{score}_{end}"] for end in ("agents", "low", "high")]
                assert ends == pytest.approx([np.mean(values[2:]), min(values[2:]), max(values[2:])], abs=1e-3)
            expected = np.mean([each[score] for each in turned[:2]])
            assert of(rows, "isolated, eight views", name)[score] == pytest.approx(expected, abs=1e-3)
        bicubic = fidelity(enlarge(shrink(truth, 4), 4)[None], truth[None], 4)
        assert of(rows, "bicubic", name)["psnr_y"] == pytest.approx(float(bicubic["psnr_y"]), abs=1e-3)
        assert rows[number]["label"] == "bicubic" and "psnr_y_spread" not in rows[number]


def test_means_are_those_that_the_run_has_measured(runs):
    rows = restoration_rows(runs, most=0)
    for each, label in zip(runs, ("isolated", "centralized"), strict=True):
        row = of(rows, label, ALL)
        assert "psnr_y_agents" not in row and row["scale"] == 4
        for name in ("psnr_y", "ssim_y", "psnr_rgb"):
            assert row[name] == pytest.approx(np.mean(list(each.final(f"test_{name}").values())), abs=1e-3)
            assert of(rows, "bicubic", ALL)[name] == pytest.approx(each.baselines["bicubic"][f"test_{name}"], abs=1e-3)


def test_images_are_those_of_the_first_replica_that_did_not_diverge(runs, folders):
    found = restored_images(runs, "y")
    truth = read_pixels(folders[1] / "y.png").colour
    assert torch.equal(found.truth, truth) and torch.equal(found.low, shrink(truth, 4))
    assert torch.equal(found.bicubic, enlarge(found.low, 4)) and [*found.restored] == ["isolated", "centralized"]
    other = dataclasses.replace(runs[0], status=runs[0].status | {"diverged": {"0": 2}})
    assert not torch.equal(restored_images([other], "y").restored["isolated"], found.restored["isolated"])
    rows = restoration_rows(runs)
    mean = {name: np.mean([row["psnr_y"] for row in rows[4:] if row["image"] == name]) for name in NAMES}
    gained = {name: mean[name] - of(rows, "bicubic", name)["psnr_y"] for name in NAMES}
    assert gains(rows) == pytest.approx(gained) and restored_images(runs).name == max(gained, key=gained.get)
    assert [*gains(rows).values()] == sorted(gains(rows).values(), reverse=True)


def test_the_report_shows_images_and_a_table(runs, tmp_path):
    (drawing,) = [drawing for drawing in gallery(runs) if drawing.name == "restorations"]
    assert illegible(drawing.figure) == []
    texts = [text.get_text() for ax in drawing.figure.axes for text in ax.texts]
    assert {*NAMES, "low", "bicubic", "truth"} <= {*texts} and len(drawing.figure.axes) == 3
    assert {text.get_text() for text in drawing.figure.legends[0].get_texts()} == {"isolated", "centralized"}
    headings, rows = drawing.table
    assert {row[0] for row in rows} == {"mean over the images", *NAMES} and len(rows) == 4 * 5
    assert headings[2] == "PSNR-Y in dB ↑" and rows[0][:2] == ["mean over the images", "bicubic"]
    assert f"{of(drawing.rows, 'isolated', ALL)['psnr_y']:.2f} ± " in rows[1][2] and " to " in rows[1][-1]
    html = figure_html(drawing, tmp_path)
    assert "<summary>Restored images in numbers</summary>" in html
    assert (tmp_path / "restorations.csv").read_text().startswith("label,scale,image,psnr_y,")


def test_the_part_is_where_most_has_changed(runs, monkeypatch):
    found = restored_images(runs, "z")
    changed = dataclasses.replace(found, restored={"isolated": found.bicubic.clone()})
    changed.restored["isolated"][:, 40:48, 24:32] ^= 255
    monkeypatch.setattr("basinet.analysis.plots.vision.restorations.restored_images", lambda *_: changed)
    ax = plot_restorations(runs, crop=8)
    tile = next(image for image in ax.images[::-1] if image.get_array().shape[:2] == (8, 8))
    truth = found.truth[:, 40:48, 24:32].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(tile.get_array(), truth)
    ax.figure.clear()


def touch(runs):
    """Let checkpoints be new, so that nothing is remembered of them."""
    for each in runs:
        file = RunFolder(each.path).checkpoint
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))


def counted(monkeypatch, name):
    """Count the calls of a function."""
    module, _, function = name.rpartition(".")
    calls, original = [], getattr(importlib.import_module(module), function)
    monkeypatch.setattr(name, lambda *given: calls.append(given) or original(*given))
    return calls


def test_data_are_read_once_and_bicubic_images_scored_once(runs, monkeypatch):
    restoration_rows(runs)
    touch(runs)
    reads = counted(monkeypatch, "basinet.sim.tasks.vision.restoration.originals.read_pixels")
    scored = counted(monkeypatch, "basinet.analysis.runs.restorations_of_runs.fidelity")
    restoration_drawing(runs)
    assert len(reads) == 5  # two to train on, three to test on
    # Two runs of two replicas, with and without views; three agents of the first replica; but not bicubic images.
    assert len(scored) == 3 * (2 * 2 * 2 + 2 * 3)
    restoration_drawing(runs)
    assert len(scored) == 3 * (2 * 2 * 2 + 2 * 3)


def test_many_pixels_leave_the_last_images_out(runs, monkeypatch):
    whole = restoration_rows(runs, most=0)
    heights = [80, 84, 88]
    for pixels, names in ((1, NAMES[:1]), (68 * 164, NAMES[:2]), (68 * 251, NAMES[:2]), (68 * sum(heights), NAMES)):
        rows = restoration_rows(runs, most=0, pixels=pixels)
        assert {row["image"] for row in rows} == {*names, ALL} and {row["images"] for row in rows} == {3}
        for label in ("bicubic", "isolated", "centralized, eight views"):
            each = [of(rows, label, name)["psnr_y"] for name in names]
            assert each == [of(whole, label, name)["psnr_y"] for name in names]
            assert of(rows, label, ALL)["psnr_y"] == pytest.approx(np.mean(each))
    assert any("psnr_y_agents" in row for row in restoration_rows(runs, most=3 * 68 * sum(heights)))
    assert not any("psnr_y_agents" in row for row in restoration_rows(runs, most=3 * 68 * sum(heights) - 1))
    monkeypatch.setattr("basinet.analysis.report.vision.restored._MOST_PIXELS", 4 * 68 * 164)
    drawing = restoration_drawing(runs)
    assert drawing.caption.startswith("Of the first 2 of 3 test images, the 2 on which most is gained")
    assert "has these 2 test images" in drawing.caption and "luma of the first 2 images is" in drawing.finding
    assert {row[0] for row in drawing.table[1]} == {"mean over these 2 images", *NAMES[:2]}


def test_pixels_that_are_no_numbers_have_no_score(runs, monkeypatch, caplog):
    touch(runs)
    monkeypatch.setattr("basinet.analysis.runs.restorations_of_runs.output_of", lambda out: out * float("nan"))
    rows = restoration_rows(runs[:1], most=0)
    assert np.isnan(of(rows, "isolated", "x")["psnr_y"]) and np.isnan(of(rows, "isolated", ALL)["ssim_rgb_spread"])
    assert np.isfinite(of(rows, "bicubic", ALL)["psnr_y"])
    assert restoration_drawing(runs[:1]) is None and "has pixels that are NaN or infinite" in caplog.text
    touch(runs)


def test_what_cannot_be_drawn(runs, twice, caplog):
    none = dataclasses.replace(runs[0], status=runs[0].status | {"diverged": {"0": 2, "1": 2}})
    assert restoration_rows([none]) == [] == restoration_rows([dataclasses.replace(runs[0], config={})])
    assert restoration_drawing([none]) is None
    with pytest.raises(NoDataError, match="no run has finished the task super_resolution"):
        plot_restorations([none])
    with pytest.raises(ExperimentError, match="image: got 'xx'; allowed: x, y, z; did you mean 'x'"):
        plot_restorations(runs, image="xx")
    with pytest.raises(ExperimentError, match="the runs restore different images"):
        plot_restorations([runs[0], *twice], image="x")
    assert restoration_drawing([runs[0], *twice]) is None and "not drawn: the runs restore different" in caplog.text
    assert [row["scale"] for row in restoration_rows([runs[0], *twice], most=0) if row["label"] == "bicubic"] == (
        [4] * 4 + [2] * 4
    )
    gone = dataclasses.replace(runs[0], path=runs[0].path.with_name("nowhere"))
    assert restoration_drawing([gone]) is None and "restored images of " in caplog.text
    assert panels(runs, plot_restorations, width=3.25).axes
