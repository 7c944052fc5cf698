"""Images in high and low resolution: folders, data sets, what is kept of them, degradations, and files to refuse."""

import pickle

import numpy as np
import pytest
import torch

from basinet.sim.data.rows import take
from basinet.sim.experiment.digest import digest
from basinet.sim.tasks import super_resolution
from basinet.sim.tasks.vision.restoration import image_pairs, originals
from basinet.sim.vision.distortions import gaussian_blur
from basinet.sim.vision.fidelity import to_bytes
from basinet.sim.vision.resizing import shrink
from tests.sim.tasks.vision.made_pictures import SHAPES, SIDE, save, small, smooth

Image = pytest.importorskip("PIL.Image")


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
    reads, read = [], originals.read_pixels
    monkeypatch.setattr(originals, "read_pixels", lambda file: reads.append(file) or read(file))
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
        (none, r"holds no images \(\.avif, "),
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
    found = originals.files_of(tmp_path, 4)
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


def test_images_that_do_not_fit_into_memory(folder, tests, monkeypatch):
    monkeypatch.setattr(image_pairs, "memory", lambda: 60_000)
    with pytest.raises(ValueError, match=r"task\.cache: 2 of 4 images of train take more than .*; give a cache"):
        super_resolution(path=str(folder), test_path=str(tests), patch=SIDE)


def test_photos_of_another_version_of_their_package_are_others(tmp_path, monkeypatch):
    before = [digest(originals.Photos(["coins"], "train_photos")) for _ in range(2)]
    save(tmp_path / "coins.png", smooth(64, 64, 0))
    monkeypatch.setattr(originals, "photo_file", lambda name: tmp_path / f"{name}.png")
    assert before[0] == before[1] != digest(originals.Photos(["coins"], "train_photos"))
