"""Pre-training for quality: crops, masks, targets, the loss, baselines and settings."""

import inspect
import json
import pickle
import re

import numpy as np
import pytest
import torch

import basinet
from basinet.algorithms.draws import fold
from basinet.analysis.metrics import METRICS
from basinet.launch.cli import main
from basinet.sim.data.rows import take
from basinet.sim.experiment.mistakes import ExperimentError
from basinet.sim.models import MODELS
from basinet.sim.tasks import quality_pretraining
from basinet.sim.tasks.vision.quality.masked_crops import unit_pixels, unit_targets
from basinet.sim.vision.curation import coverage, estimate_in_words, estimated, objects
from basinet.sim.vision.photos import PHOTOS, motif, read_photo

pytestmark = pytest.mark.usefixtures("untried")

FEW = {"train_photos": ["coffee", "clock"], "test_photos": ["coins"], "crops": 4}
CRITERIA = {"resolution": " MP", "coverage": "", "objects": ""}
KEYS = fold(torch.arange(3), 5)


@pytest.fixture(scope="module")
def task():
    return quality_pretraining(**FEW, degradations=["blur", "colour+jpeg"])


@pytest.fixture(scope="module")
def clean():
    return quality_pretraining(**FEW, strength=0, kept=1, normalised=False)


def test_samples(task):
    assert len(task.train) == 8 and len(task.test) == 8  # half of eight crops, in two versions each; four of the tests
    assert task.input_shapes == ((4, 3, 16, 16), (4,), (12,)) and task.num_outputs == 12 * 768
    assert set(task.columns["degradation"][:2]) == {"blur", "colour+jpeg"}
    assert task.columns["photo"].tolist() == task.columns["photo"][::2].repeat(2).tolist()
    units, places, wanted, targets = take(task.train, slice(None))
    assert units.dtype == targets.dtype == torch.float32 and places.dtype == wanted.dtype == torch.int64
    assert units.min() >= 0 and units.max() <= 1
    assert take(task.to("cpu", torch.float64).train, slice(0, 2))[3].dtype == torch.float64


@pytest.mark.parametrize("size, masked, count", [(64, 0.75, 12), (64, 0.6, 10), (48, 0.99, 8), (32, 0.01, 1)])
def test_the_share_of_masked_units_is_exact(size, masked, count):
    task = quality_pretraining(**FEW, size=size, masked=masked)
    units = (size // 16) ** 2
    for keys in (None, KEYS):
        _, places, wanted, _ = task.train.read(torch.tensor([0, 1, 2]), keys)
        assert wanted.shape == (3, count) and places.shape == (3, units - count)
        assert torch.equal(torch.cat([places, wanted], 1).sort(1).values, torch.arange(units).expand(3, -1))


@pytest.mark.parametrize("drawn", [True, False])
def test_all_units_are_masked_equally_often(clean, drawn):
    rows = torch.arange(400) % 8 if drawn else torch.arange(8)
    keys = fold(torch.arange(400), 3) if drawn else None
    _, _, wanted, _ = clean.train.read(rows, keys)
    if not drawn:  # 8 measured samples, which do not mask the same
        assert len({tuple(places) for places in wanted.tolist()}) > 4
        return
    counts = torch.bincount(wanted.flatten(), minlength=16)
    assert len(counts) == 16 and (counts - 300).abs().max() < 40  # deviations of a count are √(400 · 3/16) = 8.7


def test_samples_are_degraded_by_their_chain(monkeypatch):
    seen, settings = [], {"composition": "skips", "strength": 0.3}
    task = quality_pretraining(**FEW, degradations=["blur", "colour+jpeg"], **settings)
    draws = []

    def spy(image, chain, composition, strongest, generator):
        seen.append((chain, composition, strongest))
        draws.append(generator.random())
        return image

    monkeypatch.setattr("basinet.sim.tasks.vision.quality.masked_crops.degraded", spy)
    for keys in (None, fold(torch.arange(4), 5)):
        task.train.read(torch.tensor([0, 1, 2, 5]), keys)
    expected = [(chain, *settings.values()) for chain in (("blur",), ("colour", "jpeg"), ("blur",), ("colour", "jpeg"))]
    assert seen == expected * 2 and len({*draws}) == 8
    assert [task.columns["degradation"][row] for row in (0, 1, 5)] == ["blur", "colour+jpeg", "colour+jpeg"]


@pytest.mark.parametrize("augment", [True, False])
def test_drawn_crops_are_shifted_by_less_than_a_unit_and_turned_if_asked(augment):
    task = quality_pretraining(
        train_photos=["page"],
        test_photos=["coins"],
        size=64,
        crops=10_000,
        curation=["resolution"],
        kept=1,
        augment=augment,
    )
    image, side = read_photo("page"), 64
    rows = torch.arange(len(task.train))
    assert len(rows) == 8 * 21  # of 191 × 384 pixels
    turns = set()
    shifts = []
    for place, crop in zip(task.train.places, task.train.clean(rows, fold(rows, 7)), strict=True):
        assert crop.shape == (3, side, side)
        top, left = place[2:4]
        around = image[:, top : top + side + 15, left : left + side + 15]
        windows = around.unfold(1, side, 1).unfold(2, side, 1).movedim(0, 2)[..., ::8, ::8]
        upright = (windows == crop[:, ::8, ::8]).flatten(2).all(-1).nonzero().tolist()
        turns.add(bool(upright))
        shifts += upright[:1]
    assert turns == ({True, False} if augment else {True})
    assert augment or [*map(set, zip(*shifts, strict=True))] == [{*range(16)}] * 2


def test_units_are_those_of_the_image(clean):
    rows = torch.arange(len(clean.train))
    found = {}
    for units, places, wanted, targets, photo in zip(*clean.train.read(rows), clean.columns["photo"], strict=True):
        image = torch.zeros(3, 64, 64)
        for place, unit in zip(
            torch.cat([places, wanted]), torch.cat([units, targets.view(-1, 3, 16, 16)]), strict=True
        ):
            row, column = divmod(int(place), 4)
            image[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = unit
        whole = read_photo(str(photo))
        windows = whole.unfold(1, 64, 16).unfold(2, 64, 16).movedim(0, 2)
        assert (windows == (255 * image).round().byte()).flatten(2).all(-1).sum() >= 1
        found.setdefault(photo, []).append(image)
    assert {name: len(images) for name, images in found.items()} == {"coffee": 4, "clock": 4}


def test_drawn_samples_are_those_of_their_key(task):
    rows = torch.tensor([3, 3, 3])
    first, again, other = (task.train.read(rows, keys) for keys in (KEYS, KEYS, fold(KEYS, 1)))
    alone = task.train.read(rows[1:2], KEYS[1:2])
    for one, two, three, single in zip(first, again, other, alone, strict=True):
        assert torch.equal(one, two) and not torch.equal(one, three) and torch.equal(one[1:2], single)
    assert len({units.numpy().tobytes() for units in first[0]}) == 3
    assert all(map(torch.equal, task.train.read(rows), task.train.read(rows)))
    twin = quality_pretraining(**FEW, degradations=["blur", "colour+jpeg"])
    assert all(map(torch.equal, task.train.read(rows, KEYS), twin.train.read(rows, KEYS)))


def test_images_in_files_and_in_other_processes_are_the_same(task, tmp_path):
    rows = torch.arange(3)
    kept = quality_pretraining(**FEW, degradations=["blur", "colour+jpeg"], cache=str(tmp_path))
    for twin in (kept, pickle.loads(pickle.dumps(task))):
        assert all(map(torch.equal, task.train.read(rows, KEYS), twin.train.read(rows, KEYS)))


def test_targets_are_clean_or_degraded():
    rows = torch.arange(3)
    settings = {"target": "clean"}, {"target": "degraded"}, {"strength": 0.0}
    made = [quality_pretraining(**FEW, **own, normalised=False) for own in settings]
    clean, degraded, without = (task.train.read(rows) for task in made)
    assert torch.equal(clean[0], degraded[0]) and torch.equal(clean[2], degraded[2])
    assert not torch.equal(clean[3], degraded[3]) and not torch.equal(clean[0], without[0])
    crops = made[0].train.clean(rows)
    for crop, wanted, targets in zip(crops, clean[2], clean[3], strict=True):
        row, column = divmod(int(wanted[0]), 4)
        unit = crop[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        torch.testing.assert_close(targets[0], unit.flatten() / 255)


def test_normalised_targets(task):
    targets = take(task.to("cpu", torch.float64).train, slice(None))[3]
    torch.testing.assert_close(targets.mean(-1), torch.zeros(8, 12, dtype=torch.float64), rtol=0, atol=1e-9)
    assert (targets.square().mean(-1) <= 1 + 1e-9).all() and targets.square().mean(-1).median() > 0.99


@pytest.mark.parametrize("normalised", [True, "channels", False])
def test_pixels_are_those_of_their_targets(normalised):
    """Also of a flat unit, and of one whose variance is hardly larger than what is added to it."""
    units = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    units *= torch.tensor([1, 1e-3, 0]).view(3, 1, 1, 1)
    targets = unit_targets(units, normalised=normalised)
    torch.testing.assert_close(unit_pixels(targets, units, normalised=normalised), units, rtol=1e-12, atol=1e-12)
    of_others = unit_pixels(torch.ones(3, 768, dtype=torch.float64), units, normalised=normalised)
    together = {True: (1, 2, 3), "channels": (2, 3)}
    if normalised:
        mean, variance = (getattr(units, name)(together[normalised], keepdim=True) for name in ("mean", "var"))
        count = 256 * (3 if normalised is True else 1)
        expected = mean + (variance * (count - 1) / count + 1e-6).sqrt()
        torch.testing.assert_close(of_others, expected.expand_as(units), rtol=1e-12, atol=0)
    else:
        assert (of_others == 1).all()


def test_targets_may_be_normalised_in_each_channel():
    task = quality_pretraining(**FEW, normalised="channels").to("cpu", torch.float64)
    plain = quality_pretraining(**FEW, normalised=False).to("cpu", torch.float64)
    found, pixels = (take(each.train, slice(None))[3].numpy().reshape(4, 12, 3, 256) for each in (task, plain))
    expected = (pixels - pixels.mean(-1, keepdims=True)) / np.sqrt(pixels.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert task.about_loss.startswith("squared error of the pixels of masked units, normalised in each channel of a")
    baselines = task.baselines()
    for name in ("mean of the training pixels", "mean of the visible units"):
        assert baselines[name]["test_loss"] == pytest.approx((take(task.test, slice(None))[3] ** 2).mean().item())


def test_the_loss_sees_masked_units_alone(task):
    batch = take(task.train, slice(0, 5))
    outputs = torch.randn(batch[3].shape, generator=torch.Generator().manual_seed(0))
    expected = (outputs - batch[3]).square().mean(-1)
    torch.testing.assert_close(task.loss(outputs, batch), expected)
    torch.testing.assert_close(task.mean_loss(outputs, batch), expected.mean())
    other = (torch.rand_like(batch[0]), batch[1].flip(1), batch[2], batch[3])
    assert torch.equal(task.loss(outputs, other), task.loss(outputs, batch))
    assert task.loss(batch[3], batch).abs().max() == 0


def test_masked_pixels_do_not_reach_the_model(task):
    wanted = {"input_shapes": task.input_shapes}
    model = MODELS["masked_hivit"](**wanted)
    batch = take(task.train, slice(0, 2))
    targets = batch[3].clone().requires_grad_()
    outputs = task.outputs(model, (*batch[:3], targets))
    assert outputs.shape == batch[3].shape and outputs.requires_grad
    assert torch.autograd.grad(outputs.sum(), targets, allow_unused=True) == (None,)
    other = (*batch[:3], torch.full_like(targets, torch.nan))
    assert torch.equal(task.outputs(model, other), outputs)


@pytest.mark.parametrize("normalised", [True, False])
def test_baselines(normalised):
    task = quality_pretraining(**FEW, normalised=normalised).to("cpu", torch.float64)
    found = task.baselines()
    train, test = (take(part, slice(None)) for part in (task.train, task.test))
    means = train[3].numpy().reshape(-1, 12, 3, 256).mean((0, 1, 3))
    errors = test[3].numpy().reshape(-1, 12, 3, 256) - means[:, None]
    assert found["mean of the training pixels"]["test_loss"] == pytest.approx((errors**2).mean())
    units = test[0].numpy().reshape(-1, 4, 768)
    if normalised:
        units = (units - units.mean(-1, keepdims=True)) / np.sqrt(units.var(-1, keepdims=True) + 1e-6)
    means = units.reshape(-1, 4, 3, 256).mean((1, 3))
    errors = test[3].numpy().reshape(-1, 12, 3, 256) - means[:, None, :, None]
    assert found["mean of the visible units"]["test_loss"] == pytest.approx((errors**2).mean())
    assert all(row["test_detail_r2"] == pytest.approx(0, abs=1e-12) for row in found.values())


def test_the_r2_of_details(task):
    metric, batch = METRICS["detail_r2"]().fresh(), take(task.test, slice(None))
    targets = batch[3].double().view(8, 12, 3, 256)
    details = targets - targets.mean(-1, keepdim=True)
    sums = details.square().sum((1, 2, 3))
    for rows, factor in ((slice(0, 3), 0.5), (slice(3, 8), 0.1)):
        part = tuple(field[rows] for field in batch)
        metric.update((factor * details[rows] + 7).flatten(2).to(batch[3].dtype), part, task)
    expected = 1 - (0.25 * sums[:3].sum() + 0.81 * sums[3:].sum()) / sums.sum()
    assert metric.value() == pytest.approx(float(expected), abs=1e-6)


def test_curation_is_told(task, clean):
    number = r"[\d.]{1,4}"
    means = (f"{name} {number}{unit} \\({number}{unit}\\)" for name, unit in CRITERIA.items())
    said = f"with a mean {', '.join(means)} of those kept \\(left out\\)"
    assert re.fullmatch(f".*; 4 of 8 crops are trained on, {said}", task.about_loss)
    values = {"resolution": [213_800, 1_024, 12.3e6], "coverage": [0.793], "objects": [3, 3.125]}
    said = [estimate_in_words(name, value) for name, given in values.items() for value in given]
    assert said == ["0.21 MP", "0.001 MP", "12.30 MP", "0.79", "3", "3.1"]
    assert clean.about_loss == "squared error of the pixels of masked units; 8 of 8 crops are trained on"
    rows = task.curated()
    assert [(row["photo"], row["crops"]) for row in rows] == [("coffee", 4), ("clock", 4)]
    for row in rows:
        assert 2 * row["kept"] == (task.columns["photo"] == row["photo"]).sum()
    assert rows[0]["resolution"] == 400 * 600 and rows[0]["kept"] > rows[1]["kept"]  # the clock is smaller, and blurred


def test_curation_estimates_the_crops_as_they_are(task, clean):
    for name, estimate in (("coverage", coverage), ("objects", objects)):
        expected = [estimate(crop) for crop in clean.train.clean(torch.arange(8))]
        assert task.curation.estimates[name].tolist() == expected
    alone = quality_pretraining(**FEW, curation=["objects"])
    assert [*alone.curation.estimates] == ["objects"]


def test_crops_are_estimated_once_and_only_if_some_are_left_out(task, clean, tmp_path, monkeypatch):
    assert clean.curation.is_kept.all() and not clean.curation.estimates
    assert clean.curated()[0] == {"photo": "coffee", "crops": 4, "kept": 4}
    quality_pretraining(**FEW, cache=str(tmp_path))
    calls = []
    estimates = "basinet.sim.tasks.vision.quality.quality_pretraining.estimated"
    monkeypatch.setattr(estimates, lambda *given: calls.append(given) or estimated(*given))
    again = quality_pretraining(**FEW, degradations=["noise"], cache=str(tmp_path))
    assert not calls and again.curated() == task.curated()
    assert (again.curation.is_kept == task.curation.is_kept).all()
    quality_pretraining(**FEW | {"crops": 2}, cache=str(tmp_path))
    assert len(calls) == 4


def test_tests_show_other_photos():
    usual = inspect.signature(quality_pretraining).parameters
    train, test = (set(usual[f"{where}_photos"].default) for where in ("train", "test"))
    assert len(test) == 5 and train | test == PHOTOS.keys() and not set(map(motif, train)) & set(map(motif, test))


def test_folders_of_images(folder, tests):
    task = quality_pretraining(path=str(folder), test_path=str(tests), size=32, crops=2, kept=1)
    assert {*task.columns["scene"]} == {"land", "sea"} and len(task.test) == 4


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"degradations": ["blurr"]}, "degradations has 'blurr'; allowed: blur, sharpening, noise"),
        ({"degradations": ["blur", "blur"]}, "allowed are different chains, at least one"),
        ({"degradations": []}, "allowed are different chains, at least one"),
        ({"degradations": ["blur+"]}, "degradations has ''"),
        ({"curation": []}, "allowed are different criteria, at least one, and kept: 1 to keep all"),
        ({"size": 60}, "task.size"),
        ({"masked": 1}, "task.masked"),
        ({"strength": 1.5}, "task.strength"),
        ({"composition": "twice"}, "task.composition"),
        ({"normalised": "chanels"}, "task.normalised: got 'chanels', which should be true or false or 'channels'"),
        ({"kept": 0}, "task.kept: got 0, which should be greater than 0"),
        ({"test_photos": ["coffee"]}, "'coffee' in train_photos and 'coffee' in test_photos show the same"),
        ({"train_photos": ["tea"]}, "train_photos has 'tea'"),
        ({"train_photos": ["page"], "size": 208}, "page has 191 × 384 pixels; allowed are at least 208 × 208"),
        ({"test_path": "here"}, "test_path is 'here', which is for a path"),
    ],
)
def test_mistakes_are_one_sentence(settings, message, tmp_path):
    task = {"name": "quality_pretraining", **FEW, **settings}
    with pytest.raises(ExperimentError) as raised:
        basinet.run(task=task, topology={"name": "ring", "agents": 2}, strategy="diffusion", out=str(tmp_path / "out"))
    assert message in str(raised.value) and not (tmp_path / "out").exists()


def test_the_built_in_experiment_takes_steps(tmp_path, capsys, no_reports):
    photos = ["task.train_photos=[coffee,clock]", "task.test_photos=[coins]", "task.crops=2"]
    few = ["steps=1", "evaluate_samples=4", "task.size=32", "model.width=4", "strategy=diffusion"]
    assert main(["run", "quality_pretraining", *photos, *few, "--out", str(tmp_path / "out"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 2
    for row in rows:
        assert row["state"] == "done"
        assert [*row["baselines"]] == ["mean of the training pixels", "mean of the visible units"]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            {"name": "mlp"},
            "model: mlp cannot take the inputs of quality_pretraining, which are (4, 3, 16, 16), (4,) and ",
        ),
        (
            {"name": "frame_network", "channels": [2]},
            "model: frame_network cannot take the inputs of quality_pretraining",
        ),
        (
            {"name": "hivit", "width": 8},
            "model: hivit needs inputs of shape (channels, height, width), but got (4, 3, ",
        ),
        (
            {"name": "ensemble_regressor"},
            "model: ensemble_regressor needs clusters and davies_bouldin, which quality_pr",
        ),
    ],
)
def test_models_of_other_inputs_are_refused(make_setup, model, sentence):
    with pytest.raises(ExperimentError) as error:
        make_setup(task={"name": "quality_pretraining", **FEW}, model=model, batch_size=2)
    assert str(error.value).startswith(sentence) and str(error.value).endswith(" such as masked_hivit")
