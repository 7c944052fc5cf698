"""Super-resolution: patches and whole images, their loss and scores, and settings."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from basinet.analysis.metrics import METRICS
from basinet.launch.api import run
from basinet.launch.cli import main
from basinet.sim.data.partitions import by_column
from basinet.sim.data.rows import take
from basinet.sim.run.folder import load_runs
from basinet.sim.tasks import super_resolution
from basinet.sim.vision.fidelity import fidelity, to_bytes
from basinet.sim.vision.photos import PHOTOS
from basinet.sim.vision.resizing import resize
from tests.sim.tasks.vision.made_pictures import SHAPES, SIDE, small, smooth

pytestmark = pytest.mark.usefixtures("untried")

pytest.importorskip("PIL.Image")


def test_photos():
    task = super_resolution()
    assert task.input_shape == (3, 24, 24) and task.num_outputs == 16 * 3 * 24**2 and task.model == "residual_upscaler"
    assert task.names == ("astronaut", "rocket", "flower", "coins", "hubble")
    assert set(task.columns) == {"photo", "scene", "degradation"} and len(set(task.columns["photo"])) == 8
    assert {PHOTOS[name].scene for name in task.columns["photo"]} == {*task.columns["scene"]}
    assert not {*task.names} & {*task.columns["photo"]} and not task.test.is_uniform
    holdings = by_column(task.columns, 8, np.random.default_rng(0), column="photo")
    assert all(len(set(task.columns["photo"][rows])) == 1 for rows in holdings)
    (found,) = task.baselines().values()
    # As measured by another implementation.
    assert found["test_psnr_y"] == pytest.approx(28.359, abs=1e-3)
    assert found["test_ssim_y"] == pytest.approx(0.8117, abs=1e-4)
    assert 0 < found["test_loss"] < found["train_loss"] < 0.1


def test_measured_patches_lie_on_a_grid(loaded, images):
    low, high = take(loaded.train, slice(None))
    found = []
    for name in SHAPES:
        large, little = small(images[name])
        for top in range(0, little.shape[1] - SIDE + 1, 3):
            for left in range(0, little.shape[2] - SIDE + 1, 3):
                found.append((name, little[:, top : top + SIDE, left : left + SIDE]))
                wide = large[:, 4 * top : 4 * (top + SIDE), 4 * left : 4 * (left + SIDE)]
                torch.testing.assert_close(255 * high[len(found) - 1], wide.float(), rtol=0, atol=1e-4)
    torch.testing.assert_close(255 * low, torch.stack([patch for _, patch in found]).float(), rtol=0, atol=1e-4)
    assert loaded.columns["photo"].tolist() == [name for name, _ in found]
    assert loaded.columns["scene"].tolist() == ["land" if name in "ab" else "sea" for name, _ in found]
    assert low.dtype == torch.float32 and loaded.train.to("cpu", torch.float64).read(torch.tensor([0]))[0].dtype == (
        torch.float64
    )


def positions(image):
    """The eight positions of a square image, by rotation and transposition."""
    turned = [torch.rot90(image, turns, (1, 2)) for turns in range(4)]
    return turned + [part.transpose(1, 2) for part in turned]


@pytest.mark.parametrize("augment", [True, False])
def test_drawn_patches_are_shifted_and_turned_alike(folder, tests, images, augment):
    task = super_resolution(path=str(folder), test_path=str(tests), patch=SIDE, stride=3, augment=augment)
    row, count = int((task.columns["photo"] == "b").argmax()) + 1, 300  # at the top, three pixels from the left
    rows = torch.full((count,), row)
    keys = torch.from_numpy(np.random.default_rng(0).integers(-(2**63), 2**63, count))
    low, high = task.train.fetch(rows, keys)
    large, little = small(images["b"])
    known = {}
    for top, left in itertools.product(range(4), range(3, 7)):  # of which the last are too far
        patch = little[:, top : top + SIDE, left : left + SIDE]
        wide = large[:, 4 * top : 4 * (top + SIDE), 4 * left : 4 * (left + SIDE)]
        for turn, (one, other) in enumerate(zip(positions(patch), positions(wide), strict=True)):
            known[one.numpy().tobytes()] = (top, left - 3, turn, other)
    seen = []
    for one, other in zip(low, high, strict=True):
        *place, expected = known[one.contiguous().numpy().tobytes()]
        assert torch.equal(other, expected)
        seen.append(tuple(place))
    assert {place[:2] for place in seen} == {*itertools.product(range(3), range(3))}
    assert {turn for *_, turn in seen} == ({*range(8)} if augment else {0})
    again = task.train.fetch(rows.flip(0), keys.flip(0))
    assert torch.equal(again[0].flip(0), low) and torch.equal(again[1].flip(0), high)


def test_whole_images_of_unequal_sizes_are_tested(loaded, tests):
    assert loaded.names == ("t0", "t1")
    for row, shape in enumerate([(64, 75), (80, 66)]):
        high, low = small(smooth(*shape, 10 + row))
        found = loaded.test.fetch(torch.tensor([row]))
        assert torch.equal(found[0][0], low) and torch.equal(found[1][0], high)


class Broken(nn.Module):
    def forward(self, low):
        return resize(low, 4) * torch.nan


@pytest.mark.parametrize("name", ["psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"])
def test_scores_of_pixels_that_are_no_numbers_are_none(loaded, name):
    found = dataclasses.replace(loaded, metrics=(METRICS[name](),)).evaluate(Broken())
    assert math.isnan(found[f"test_{name}"])


class Brighter(nn.Module):
    def forward(self, low):
        return resize(low, 4) + 0.02


def test_scores_are_those_of_each_image_and_their_mean(loaded):
    metrics = tuple(METRICS[name]() for name in ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"))
    found = dataclasses.replace(loaded, metrics=metrics).evaluate(Brighter())
    expected, losses = [], []
    for row in range(2):
        low, high = (part.double() / 255 for part in loaded.test.fetch(torch.tensor([row])))
        restored = Brighter()(low)
        expected.append(fidelity(to_bytes(restored), to_bytes(high), 4))
        losses.append((restored - high).abs().mean())
    for name in expected[0]:
        mean = float(sum(scores[name] for scores in expected) / 2)
        # A pixel near half a grey level may be rounded otherwise in float32.
        assert found[f"test_{name}"] == pytest.approx(mean, abs=1e-3)
    assert found["test_loss"] == pytest.approx(float(sum(losses) / 2), abs=1e-6)
    quantity = metrics[0].quantity("test")
    assert (quantity.axis, quantity.title) == ("test PSNR of the luma (dB)", "test PSNR-Y ↑")


def test_scores_need_images():
    with pytest.raises(ValueError, match="psnr_y needs images in high resolution"):
        METRICS["psnr_y"]().fresh().update(torch.zeros(1, 2), (torch.zeros(1, 2), torch.zeros(1, 2)), object())


@pytest.mark.parametrize(
    ("loss", "of"), [("l1", abs), ("l2", lambda e: e * e), ("charbonnier", lambda e: math.sqrt(e * e + 1e-6))]
)
def test_losses_in_closed_form(folder, tests, loss, of):
    task = super_resolution(path=str(folder), test_path=str(tests), patch=SIDE, loss=loss)
    targets = torch.zeros(2, 3, 20, 20, dtype=torch.float64)
    outputs = torch.full_like(targets, 0.25)
    outputs[1, :, :10] = -0.5
    found = task.loss(outputs, (torch.zeros(2, 3, 5, 5), targets))
    assert found.tolist() == pytest.approx([of(0.25), (of(0.25) + of(0.5)) / 2], abs=1e-12)
    with pytest.raises(ValueError, match="the model returns images of shape"):
        task.loss(outputs[:, :, :5], (None, targets))
    assert {"l1": "absolute", "l2": "squared", "charbonnier": "√"}[loss] in task.about_loss


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "x", "dataset": "y"}, "path is 'x' and dataset 'y'; give one of them"),
        ({"train_photos": ["chelsae"]}, "train_photos has 'chelsae'; .* did you mean 'chelsea'"),
        ({"test_photos": ["coffee"]}, "'coffee' in train_photos and 'coffee' in test_photos show the same"),
        ({"test_photos": ["motorcycle_right"]}, "'motorcycle_left' in .* and 'motorcycle_right' in .* show the same"),
        ({"test_photos": []}, "there are no images to test on"),
        ({"degradations": ["blur", "blur"]}, "degradations is .'blur', 'blur'.; allowed are different ones"),
        ({"degradations": []}, "degradations is .*; allowed are different ones"),
        ({"test_path": "x"}, "test_path is 'x', which is for a path"),
        ({"held_out": 0.2}, "held_out is 0.2, which is for images without others to test on"),
        ({"scene": "x"}, "scene is 'x', which is for a dataset"),
        ({"path": "nowhere"}, "nowhere is not a folder"),
        ({"dataset": "parquet", "test_split": "train"}, "train_split and test_split are 'train'; allowed are two"),
        ({"path": ".", "train_photos": ["coffee"]}, "train_photos is .'coffee'., which is for photos"),
    ],
)
def test_settings_that_mean_nothing_together(settings, message):
    with pytest.raises(ValueError, match=message):
        super_resolution(**settings)


def test_the_loss_is_stated_with_what_is_evaluated(loaded):
    found = dataclasses.replace(loaded, evaluated_samples=3).about_loss
    count = len(loaded.train)
    assert found == f"{loaded.about_loss}; evaluated on 3 of the {count:,} training samples"


@pytest.fixture(scope="module")
def trained(folder, tests, tmp_path_factory):
    def train(name, **changed):
        given = {
            "task": {
                "name": "super_resolution",
                "path": str(folder),
                "test_path": str(tests),
                "patch": SIDE,
                "partition": {"name": "by_column", "column": "photo"},
            },
            "model": {"name": "residual_upscaler", "features": 4, "blocks": 1},
            "topology": {"name": "ring", "agents": 4},
            "strategy": "diffusion",
            "optimizer": {"name": "sgd", "lr": 0.1},
            "batch_size": 2,
            "steps": 3,
            "evaluate_every": 3,
            "replicas": 1,
            "analysis": [],
        }
        runtime = {"name": "inline", "device": "cpu", "threads": 1, "dtype": "float64", **changed.pop("runtime", {})}
        out = tmp_path_factory.mktemp("runs") / name
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("basinet.analysis.report.report.write_report", lambda folder: folder)
            run(**{**given, **changed, "runtime": runtime}, out=out, quiet=True)
        (found,) = load_runs(out)
        return [{key: value for key, value in row.items() if isinstance(value, float)} for row in found.metrics]

    return train


@pytest.fixture(scope="module")
def by_loop(trained):
    return trained("loop", runtime={"engine": "loop"})


@pytest.mark.parametrize("engine", ["stacked", "vectorized", "stacked with a reader"])
def test_engines_and_readers_agree_with_the_loop(trained, by_loop, engine):
    runtime = {"engine": engine.split()[0], "readers": int("reader" in engine)}
    for row, other in zip(trained(engine, runtime=runtime), by_loop, strict=True):
        assert row == pytest.approx(other, rel=1e-9, abs=1e-10)


def test_before_the_first_step_the_model_is_bicubic(by_loop, loaded):
    bicubic = loaded.baselines()["bicubic"]
    for name in ("test_psnr_y", "test_ssim_y", "test_psnr_rgb"):
        assert by_loop[0][name] == pytest.approx(bicubic[name], abs=1e-4)
        assert by_loop[-1][name] != by_loop[0][name]


def test_the_built_in_experiment(tmp_path, capsys, no_reports):
    words = ["task.train_photos=[camera, coffee, grass, ihc]", "task.test_photos=[coins]", "task.stride=96"]
    words += ["model.features=2", "strategy=diffusion", "steps=1", "evaluate_every=1"]
    assert main(["run", "super_resolution", *words, "--out", str(tmp_path), "--quiet"]) == 0
    runs = load_runs(tmp_path)
    assert {run.config["task"]["partition"]["name"] for run in runs} == {"iid", "by_column"}
    assert all([*run.metric_quantities] == ["test_psnr_y", "test_ssim_y", "test_psnr_rgb"] for run in runs)
    assert all(run.baselines["bicubic"]["test_psnr_y"] == pytest.approx(25.003, abs=1e-3) for run in runs)
    assert "bicubic" in capsys.readouterr().out
