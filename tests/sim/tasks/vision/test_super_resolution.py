"""Super-resolution: patches and whole images of photos, folders and data sets, their loss, scores and mistakes."""

import dataclasses
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from basinet.analysis.metrics import METRICS
from basinet.launch.api import run
from basinet.launch.cli import main
from basinet.sim.data.partitions import by_column
from basinet.sim.data.rows import take
from basinet.sim.experiment.digest import digest
from basinet.sim.run.folder import load_runs
from basinet.sim.tasks import super_resolution
from basinet.sim.tasks.vision import image_pairs
from basinet.sim.vision.distortions import gaussian_blur
from basinet.sim.vision.fidelity import fidelity, to_bytes
from basinet.sim.vision.photos import PHOTOS
from basinet.sim.vision.resizing import resize, shrink

Image = pytest.importorskip("PIL.Image")

SIDE = 5
SHAPES = {"a": (66, 71), "b": (70, 64), "c": (67, 67), "d": (81, 64)}


def smooth(height, width, seed):
    """An image that is not the same in two places, uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(rng.uniform(0.1, 0.9) * x + rng.uniform(0.1, 0.9) * y + channel) for channel in range(3)]
    return (127 + 80 * np.stack(waves, -1) + rng.integers(-30, 30, (height, width, 3))).astype(np.uint8)


def save(file, pixels, **settings):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **settings)


def channels(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def small(pixels, scale=4):
    """An image in high and low resolution, [3, ...]."""
    height, width = (length - length % scale for length in pixels.shape[:2])
    high = channels(pixels)[:, :height, :width].contiguous()
    return high, shrink(high, scale)


@pytest.fixture(scope="module")
def images():
    return {name: smooth(*shape, seed) for seed, (name, shape) in enumerate(SHAPES.items())}


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    """Images in two folders, one for each scene."""
    path = tmp_path_factory.mktemp("images")
    for name, pixels in images.items():
        save(path / ("land" if name in "ab" else "sea") / f"{name}.png", pixels)
    return path


@pytest.fixture(scope="module")
def tests(tmp_path_factory):
    path = tmp_path_factory.mktemp("tests")
    for number, shape in enumerate([(64, 75), (80, 66)]):
        save(path / f"t{number}.png", smooth(*shape, 10 + number))
    return path


@pytest.fixture(scope="module")
def loaded(folder, tests):
    return super_resolution(path=str(folder), test_path=str(tests), patch=SIDE, stride=3)


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


@pytest.fixture
def div2k(images, tmp_path):
    """Two images to train on, whose small ones are not those that would be made, and one to test on."""
    for name, pixels in zip(("0001", "0002"), (images["a"], images["b"]), strict=True):
        save(tmp_path / "DIV2K_train_HR" / f"{name}.png", pixels)
        low = small(pixels)[1].permute(1, 2, 0).numpy()
        save(tmp_path / "DIV2K_train_LR_bicubic" / "X4" / f"{name}x4.png", 255 - low)
    save(tmp_path / "DIV2K_valid_HR" / "0801.png", images["c"])
    return tmp_path


def test_the_layout_of_div2k(div2k, images):
    task = super_resolution(path=str(div2k), patch=SIDE)
    low = small(images["a"])[1]
    assert torch.equal(task.train.fetch(torch.tensor([0]))[0][0], (255 - low)[:, :SIDE, :SIDE])
    assert task.names == ("0801",) and {*task.columns["photo"]} == {"0001", "0002"} and "scene" not in task.columns
    assert torch.equal(task.test.fetch(torch.tensor([0]))[0][0], small(images["c"])[1])  # which is made
    twice = super_resolution(path=str(div2k), patch=SIDE, scale=2)  # for which there are no small images
    assert torch.equal(twice.train.fetch(torch.tensor([0]))[0][0], small(images["a"], 2)[1][:, :SIDE, :SIDE])
    assert twice.num_outputs == 4 * 3 * SIDE**2


def test_images_are_held_out(folder):
    tasks = [super_resolution(path=str(folder), patch=SIDE, held_out=0.5, seed=seed) for seed in range(6)]
    for task in tasks:
        assert len(task.names) == 2 and {*task.names} | {*task.columns["photo"]} == {*SHAPES}
        assert not {*task.names} & {*task.columns["photo"]}
    assert len({task.names for task in tasks}) > 1
    assert len(super_resolution(path=str(folder), patch=SIDE, held_out=0.01).names) == 1
    assert len(super_resolution(path=str(folder), patch=SIDE, held_out=0.99).names) == 3
    assert len(super_resolution(path=str(folder), patch=SIDE, held_out=0.99, test_size=2).names) == 2


def test_data_sets(images, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.Value("string")})
    rows = {"picture": [Image.fromarray(pixels) for pixels in images.values()], "kind": ["x", "y", "x", "y"]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    given = {"dataset": "parquet", "data_files": {"train": str(tmp_path / "train.parquet")}, "image": "picture"}
    task = super_resolution(**given, scene="kind", held_out=0.3, patch=SIDE, cache=str(tmp_path / "maps"))
    (held,) = task.names
    assert {*task.columns["photo"]} == {"0", "1", "2", "3"} - {held} and {*task.columns["scene"]} == {"x", "y"}
    expected = small(images["abcd"[int(held)]])
    found = task.test.fetch(torch.tensor([0]))
    assert torch.equal(found[0][0], expected[1]) and torch.equal(found[1][0], expected[0])
    with pytest.raises(ValueError, match="split 'train' has no column 'image'"):
        super_resolution(**{**given, "image": "image"})


def test_decoded_images_are_kept_in_files(folder, tests, loaded, tmp_path, monkeypatch):
    given = {"path": str(folder), "test_path": str(tests), "patch": SIDE, "stride": 3, "cache": str(tmp_path)}
    super_resolution(**given)
    reads, read = [], image_pairs.read_pixels
    monkeypatch.setattr(image_pairs, "read_pixels", lambda file: reads.append(file) or read(file))
    task = super_resolution(**given)
    rows, keys = torch.arange(len(loaded.train)), torch.arange(len(loaded.train)) * 7919 << 20
    for part, other in zip(task.train.read(rows, keys), loaded.train.read(rows, keys), strict=True):
        assert torch.equal(part, other)
    for row in range(2):
        assert torch.equal(take(task.test, torch.tensor([row]))[1], take(loaded.test, torch.tensor([row]))[1])
    assert len(reads) <= 2  # the first of each part, for its form
    again = pickle.loads(pickle.dumps(task.train))
    assert digest(again) == digest(super_resolution(**given).train.to("cpu", None)) == digest(task.train)
    assert torch.equal(again.fetch(rows[:2])[1], task.train.fetch(rows[:2])[1])


def test_degradations(folder, tests, loaded):
    ways = ["bicubic", "blur", "noise", "jpeg"]
    given = {"path": str(folder), "test_path": str(tests), "patch": SIDE, "stride": 3}
    task = super_resolution(**given, degradations=ways)
    assert len(task.train) == 4 * len(loaded.train) and {*task.columns["degradation"]} == {*ways}
    lows = {way: task.train.fetch(torch.from_numpy(np.flatnonzero(task.columns["degradation"] == way))) for way in ways}
    plain = loaded.train.fetch(torch.arange(len(loaded.train)))
    for way, (low, high) in lows.items():
        assert torch.equal(high, plain[1]) and torch.equal(low, plain[0]) == (way == "bicubic")
    changes = {way: (low.double() - plain[0].double()) for way, (low, _) in lows.items()}
    assert changes["noise"].std() == pytest.approx(10, rel=0.15)
    assert changes["blur"].abs().mean() > 1 < changes["jpeg"].abs().mean()
    high = task.test.fetch(torch.tensor([0]))[1]
    blurred = shrink(to_bytes(gaussian_blur(high / 255, 0.4 * 4))[0], 4)
    found = super_resolution(**given, test_degradation="blur").test.fetch(torch.tensor([0]))[0][0]
    assert (found.int() - blurred.int()).abs().max() <= 1  # in float32, pixels near half a level are rounded otherwise
    assert all(change.mean().abs() < 1.5 for change in changes.values())
    noisy = [super_resolution(**given, degradations=["noise"], seed=seed).train for seed in (0, 0, 1)]
    first, again, other = (data.fetch(torch.arange(9))[0] for data in noisy)
    assert torch.equal(first, again) and not torch.equal(first, other) and not torch.equal(first[0], first[1])
    assert torch.equal(task.test.fetch(torch.tensor([0]))[0], loaded.test.fetch(torch.tensor([0]))[0])
    worse = super_resolution(**given, test_degradation="jpeg")
    assert not torch.equal(worse.test.fetch(torch.tensor([0]))[0], loaded.test.fetch(torch.tensor([0]))[0])


def corrupt(path, images):
    save(path / "a.png", images["a"])
    content = (path / "a.png").read_bytes()
    (path / "b.png").write_bytes(content[: len(content) // 2])


def text(path, images):
    save(path / "a.png", images["a"])
    (path / "b.png").write_text("This is no picture.")


def transparent(path, images):
    save(path / "a.png", images["a"])
    save(path / "b.png", np.concatenate([images["b"], np.full_like(images["b"][..., :1], 100)], -1))


def deep(path, images):
    save(path / "a.png", images["a"])
    save(path / "b.png", images["b"][..., 0].astype(np.uint16) * 256)


def tiny(path, images):
    save(path / "a.png", images["a"])
    save(path / "b.png", images["b"][:50, :19])


def misfit(path, images):
    save(path / "DIV2K_train_HR" / "0001.png", images["a"])
    save(path / "DIV2K_train_LR_bicubic" / "X4" / "0001x4.png", images["b"][:16, :16])
    save(path / "DIV2K_valid_HR" / "0801.png", images["c"])


def unpaired(path, images):
    misfit(path, images)
    save(path / "DIV2K_train_HR" / "0002.png", images["a"])


def unpaired_small(path, images):
    misfit(path, images)
    save(path / "DIV2K_train_LR_bicubic" / "X4" / "0003x4.png", images["a"])


def alone(path, images):
    save(path / "a.png", images["a"])


def none(path, images):
    (path / "a.txt").write_text("")


def small_test(path, images):
    save(path / "DIV2K_train_HR" / "0001.png", images["a"])
    save(path / "DIV2K_valid_HR" / "0801.png", images["c"][:60])


def below(path, images):
    misfit(path / "below", images)


def link(path, images):
    save(path / "a.png", images["a"])
    (path / "b.png").symlink_to(path / "gone.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (corrupt, r"b\.png cannot be used: "),
        (text, r"b\.png cannot be used: "),
        (transparent, r"b\.png cannot be used: it is transparent"),
        (deep, r"b\.png cannot be used: it has more than 8 bits"),
        (tiny, r"b\.png, cut to .* scale 4, has 48 × 16 pixels; allowed are at least (20 × 20|64 × 64)"),
        (misfit, r"0001\.png has 66 × 71 pixels, and in low resolution 16 × 16; allowed at scale 4 are 16 × 17"),
        (unpaired, r"0002\.png has no partner 0002x4\.png in "),
        (unpaired_small, r"0003x4\.png has no partner in .*DIV2K_train_HR"),
        (alone, r"a\.png is the only image; allowed are at least two"),
        (none, r"holds no images \(\.bmp, "),
        (small_test, r"0801\.png, cut to .* scale 4, has 60 × 64 pixels; allowed are at least 64 × 64"),
        (below, r"DIV2K_train_LR_bicubic/X4/0001x4\.png is an image in low resolution; allowed is the folder of"),
        (link, r"b\.png cannot be used: No such file"),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_files_that_cannot_be_used(tmp_path, images, make, message, cached):
    make(tmp_path, images)
    with pytest.raises(ValueError, match=message) as caught:
        super_resolution(path=str(tmp_path), patch=SIDE, cache=str(tmp_path / "cache") if cached else None)
    assert "\n" not in str(caught.value) and str(caught.value).count("b.png") <= 1


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


def test_kept_images_are_large_enough_for_other_patches(images, tests, tmp_path):
    save(tmp_path / "in" / "a.png", images["a"])
    save(tmp_path / "in" / "b.png", images["b"][:19])
    given = {"path": str(tmp_path / "in"), "test_path": str(tests), "cache": str(tmp_path / "cache")}
    assert {*super_resolution(**given, patch=4).columns["photo"]} == {"a", "b"}
    with pytest.raises(
        ValueError, match=r"b\.png, cut to .* scale 4, has 16 × 64 pixels; allowed are at least 20 × 20"
    ):
        super_resolution(**given, patch=5)


def test_images_are_either_to_train_or_to_test_on(folder, div2k, tmp_path):
    (tmp_path / "other").symlink_to(folder / "sea")
    for test_path in (folder, folder / "sea", tmp_path / "other"):
        with pytest.raises(ValueError, match=r"c\.png is in path and in test_path|a\.png is in path and in test_path"):
            super_resolution(path=str(folder), test_path=str(test_path), patch=SIDE)
    with pytest.raises(ValueError, match=r"0801\.png is in path and in test_path"):
        super_resolution(path=str(div2k / "DIV2K_valid_HR"), test_path=str(div2k), patch=SIDE)
    for given in ({"path": str(div2k)}, {"path": str(folder / "land"), "test_path": str(folder / "sea")}):
        with pytest.raises(ValueError, match=r"held_out is 0\.5, which is for images without others to test on"):
            super_resolution(**given, patch=SIDE, held_out=0.5)


@pytest.mark.parametrize("cached", [False, True])
def test_hidden_folders_are_left_out(folder, images, tmp_path, cached):
    for name in ("a", "b"):
        save(tmp_path / ".in" / f"{name}.png", images[name])
        save(tmp_path / ".in" / ".ipynb_checkpoints" / f"{name}-checkpoint.png", images[name])
    task = super_resolution(path=str(tmp_path / ".in"), patch=SIDE, cache=str(tmp_path / "cache") if cached else None)
    assert {*task.names, *task.columns["photo"]} == {"a", "b"}


def test_a_part_of_div2k_alone_has_its_own_small_images(div2k, images):
    for part in ("HR", "LR_bicubic"):
        (div2k / f"DIV2K_train_{part}").rename(div2k / f"DIV2K_valid_{part}_")
    (div2k / "DIV2K_valid_HR" / "0801.png").unlink()
    (div2k / "DIV2K_valid_HR").rmdir()
    for part in ("HR", "LR_bicubic"):
        (div2k / f"DIV2K_valid_{part}_").rename(div2k / f"DIV2K_valid_{part}")
    task = super_resolution(path=str(div2k), patch=SIDE, held_out=0.5)
    assert {*task.names, *task.columns["photo"]} == {"0001", "0002"}
    name = task.columns["photo"][0]
    low = small(images["a" if name == "0001" else "b"])[1]
    assert torch.equal(task.train.fetch(torch.tensor([0]))[0][0], (255 - low)[:, :SIDE, :SIDE])


def test_some_files_keep_their_names_and_scenes(images, tmp_path):
    for name in ("land/a", "land/b", "sea/a"):
        save(tmp_path / f"{name}.png", images["a"])
    found = image_pairs.files_of(tmp_path, 4)
    some = found.take([0, 1])
    assert some.names == ["land/a.png", "land/b.png"] and some.scenes == ["land", "land"]
    assert some.take([1]).names == ["land/b.png"] and digest(some.take([0, 1])) == digest(some)


@pytest.mark.parametrize("constant", ["_BLUR", "_NOISE", "_QUALITY", "_REVISION"])
def test_images_are_made_anew_after_a_change_of_how(folder, tests, tmp_path, monkeypatch, constant):
    given = {"path": str(folder), "test_path": str(tests), "patch": SIDE, "cache": str(tmp_path)}
    super_resolution(**given)
    monkeypatch.setattr(image_pairs, constant, 3)
    super_resolution(**given)
    assert len([*tmp_path.glob("*/done.json")]) == 4


def test_the_loss_is_stated_with_what_is_evaluated(loaded):
    found = dataclasses.replace(loaded, evaluated_samples=3).about_loss
    count = len(loaded.train)
    assert found == f"{loaded.about_loss}; evaluated on 3 of the {count:,} training samples"


def test_images_that_do_not_fit_into_memory(folder, tests, monkeypatch):
    monkeypatch.setattr(image_pairs, "memory", lambda: 60_000)
    with pytest.raises(ValueError, match=r"task\.cache: 2 of 4 images of train take more than .*; give a cache"):
        super_resolution(path=str(folder), test_path=str(tests), patch=SIDE)


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
            patch.setattr("basinet.launch.api.write_report", lambda folder: folder)
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
