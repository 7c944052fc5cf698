"""Quality and aesthetics of images: made sets, folds, and files in the layouts of KonIQ-10k, AVA and KVQ."""

import copy
import csv
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from basinet.analysis.curvature.hessian import HessianOperator
from basinet.sim.agents.state import StackedState, load_vector
from basinet.sim.engines import ENGINES
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.models import MODELS
from basinet.sim.tasks import image_aesthetics, image_quality
from basinet.sim.tasks.vision.quality.batch_losses import plcc_loss, rank_loss
from basinet.sim.tasks.vision.quality.image_files import ImageFiles, fold_rows
from basinet.sim.tasks.vision.quality.made_images import EDITS, DistortedPhotos, EditedPhotos
from basinet.sim.tasks.vision.quality.opinions import quality_of
from basinet.sim.tasks.vision.quality.statistics_ridge import Ridge
from basinet.sim.vision.colours import luma
from basinet.sim.vision.photos import motif
from basinet.sim.vision.resizing import resize
from basinet.sim.vision.scene_statistics import scene_statistics
from tests.sim.tasks.vision.made_pictures import channels, save, smooth

KINDS = ("blur", "noise", "jpeg", "resizing")
SMALL = {"contents": 10, "size": 32, "patch": 16, "levels": 3, "distortions": KINDS}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def distorted():
    return DistortedPhotos(10, KINDS, 3, 32)


@pytest.fixture(scope="module")
def edited():
    return EditedPhotos(EDITS, 3, 32)


@pytest.fixture(scope="module")
def task(cache):
    return image_quality(cache=cache, **SMALL)


def squared_errors(images):
    """Of each version from its source: by content, kind and level."""
    found, source = {}, None
    for row, version in enumerate(images.versions):
        pixels = images[row].double()
        source = pixels if version.kind == "source" else source
        levels = found.setdefault((version.content, version.kind), [])
        levels.append(float((pixels - source).square().mean()))
    return found


def test_each_content_has_its_source_and_every_distortion_at_every_level(distorted):
    found = [(version.content, version.kind, version.level) for version in distorted.versions]
    each = [("source", 0), *((kind, level) for kind in KINDS for level in (1, 2, 3))]
    assert found == [(content, *one) for content in range(10) for one in each]
    assert len({*distorted.names}) == len(distorted) == 130
    assert distorted[0].shape == (1, 3, 32, 32) and distorted[0].dtype == torch.uint8


def test_pixels_depart_from_the_source_level_by_level(distorted):
    found = squared_errors(distorted)
    for kind in KINDS:
        errors = np.array([found[content, kind] for content in range(10)])
        assert (np.diff(errors, axis=1) >= 0).mean() > 0.9 and (errors[:, 0] > 0).all(), kind


def test_edits_depart_from_the_source_and_leave_grey_photos_their_colours(edited):
    found = squared_errors(edited)
    for kind in EDITS:
        errors = np.array([levels for (_, name), levels in found.items() if name == kind])
        assert (np.diff(errors.mean(0)) > 0).all() and (errors[:, 0] > 0).mean() > 0.9, kind
    grey = {content for content, kind in found if kind == "tilt"} - {c for c, kind in found if kind == "saturation"}
    photos = {version.photo for version in edited.versions if version.content in grey}
    assert {"camera", "moon", "page"} < photos and not photos & {"astronaut", "chelsea", "coffee"}


def test_mirrored_contents_are_mirrored(edited):
    rows = {(v.photo, v.place[0]): row for row, v in enumerate(edited.versions) if v.kind == "source"}
    for photo in ("astronaut", "moon"):
        plain, mirrored = (edited[rows[photo, side]] for side in (0, 1))
        assert (plain.flip(-1).int() - mirrored.int()).abs().max() <= 1  # rounding


def test_scores_fall_with_the_level(distorted):
    scores, levels = distorted.scores(), torch.tensor([version.level for version in distorted.versions])
    means = torch.stack([scores[levels == level].mean() for level in range(4)])
    wanted = quality_of(torch.arange(4).double() / 3)
    assert (means.diff() < 0).all() and (means - wanted)[1:3].abs().max() < 0.1  # others are clipped
    assert scores.min() >= 1 and scores.max() <= 5 and torch.equal(scores, distorted.scores())


@pytest.mark.parametrize("maker", ["quality", "aesthetics"])
def test_folds_share_no_photo_and_test_each_once(maker, distorted, edited):
    images = distorted if maker == "quality" else edited
    photos = np.array([motif(version.photo) for version in images.versions])
    tested = []
    for fold in range(5):
        rows = fold_rows(photos, fold, 5)
        assert not {*photos[rows["train"]]} & {*photos[rows["test"]]}
        assert sorted([*rows["train"].tolist(), *rows["test"].tolist()]) == [*range(len(images))]
        tested += rows["test"].tolist()
    assert sorted(tested) == [*range(len(images))]


def test_tasks_know_their_data(task, cache):
    assert len(task.train) == 104 and len(task.test) == len(task.names) == 26
    assert {name: len(column) for name, column in task.columns.items()} == dict.fromkeys(
        ("content", "photo", "distortion", "level"), 104
    )
    tested = {name.split("_")[1] for name in task.names}
    assert not tested & {*task.columns["photo"].tolist()}
    assert {*task.columns["distortion"].tolist()} == {"source", *KINDS}
    other = image_quality(cache=cache, fold=1, **SMALL)
    assert not {*other.names} & {*task.names}
    assert other.train.source.folder == task.train.source.folder  # folds share what is kept
    assert task.model == "hivit" and task.input_shape == (3, 16, 16) and task.input_shapes == ((3, 16, 16),)
    assert MODELS["hivit"]((3, 16, 16), 1)(torch.zeros(2, 3, 16, 16)).shape == (2, 1)


def test_patches_are_native_pixels_in_the_middle_when_measured(task, distorted):
    rows, keys = torch.tensor([0, 9, 9]), torch.tensor([3, 4, 5])
    drawn, scores = task.train.fetch(rows, keys)
    assert drawn.dtype == torch.uint8 and drawn.shape == (3, 3, 16, 16) and scores.shape == (3, 1)
    for patch, row in zip(drawn, rows, strict=True):
        windows = distorted[int(task.train.rows[row])][0].unfold(1, 16, 1).unfold(2, 16, 1)
        assert (windows == patch[:, None, None]).flatten(-2).all(-1).all(0).any()
    assert not torch.equal(drawn[1], drawn[2])
    measured, _ = task.train.to("cpu", torch.float64).read(rows)
    middle = distorted[int(task.train.rows[9])][0, :, 8:24, 8:24]
    assert torch.equal(measured[1], middle.double() / 255) and torch.equal(measured[1], measured[2])


@pytest.mark.parametrize("loss", ["l1", "plcc", "rank", "plcc_rank"])
def test_losses_are_those_of_videos(cache, loss):
    task = image_quality(cache=cache, loss=loss, **SMALL)
    batch = task.train.to("cpu", torch.float64).read(torch.arange(6))
    outputs = torch.linspace(1, 5, 6, dtype=torch.float64)[:, None]
    y = batch[1]
    wanted = {"l1": (outputs - y).abs()[:, 0], "plcc": plcc_loss(outputs, y), "rank": rank_loss(outputs, y)}
    wanted["plcc_rank"] = wanted["plcc"] + 0.3 * wanted["rank"]
    torch.testing.assert_close(task.loss(outputs, batch), wanted[loss])
    assert task.mean_over == ("samples" if loss == "l1" else "batch")
    assert ("makes another objective" in task.about_loss) == (loss != "l1")
    assert task.least_batch == (1 if loss == "l1" else 2)
    if loss != "l1":
        alone = replace(task, train=tuple(part[:1] for part in batch), columns={})
        with pytest.raises(ValueError, match=r"^train has 1 sample, .* compares the samples of a batch; .* least 2$"):
            alone.check()


@pytest.mark.parametrize("loss", ["l1", "plcc", "rank", "plcc_rank"])
def test_losses_have_the_same_gradients_in_all_engines_and_products_with_the_hessian(cache, loss):
    task = image_quality(cache=cache, loss=loss, **SMALL).to("cpu", torch.float64)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    state = StackedState(model, 2, torch.device("cpu"), torch.float64)
    state.fill(slice(None), model)
    state.parameters += 0.1 * torch.randn(state.parameters.shape, dtype=torch.float64)
    batch = tuple(part.view(2, 6, *part.shape[1:]) for part in task.train.read(torch.arange(0, 96, 8)))
    wanted = []
    for n in range(2):
        agent = load_vector(copy.deepcopy(model), state.parameters[n], {})
        value = task.objective(agent, tuple(part[n] for part in batch))
        wanted.append((value.detach(), *(g.flatten() for g in torch.autograd.grad(value, list(agent.parameters())))))
    losses, gradients = torch.stack([row[0] for row in wanted]), torch.stack([torch.cat(row[1:]) for row in wanted])
    for engine, kind in ENGINES.items():
        found = kind(model, task, state).gradients(batch, torch.arange(2))
        torch.testing.assert_close(found, losses, rtol=1e-10, atol=1e-12, msg=engine)
        torch.testing.assert_close(state.gradients, gradients, rtol=1e-10, atol=1e-12, msg=engine)
    part = tuple(part[0] for part in batch)
    hessian = HessianOperator(model.eval(), task.objective, part)
    point, step = nn.utils.parameters_to_vector(model.parameters()).detach(), 1e-6
    direction = torch.randn(len(point), dtype=torch.float64) / 20
    nearby = []
    for shift in (step, -step):
        model = load_vector(model, point + shift * direction, {})
        found = torch.autograd.grad(task.objective(model, part), list(model.parameters()))
        nearby.append(torch.cat([g.flatten() for g in found]).numpy())
    estimate = (nearby[0] - nearby[1]) / (2 * step)
    # Gradients of order 1 are rounded to 1e-15 or so, divided by the step; no kink of the loss lies in between.
    np.testing.assert_allclose(hessian @ direction.numpy(), estimate, atol=1e-6 * max(1.0, np.abs(estimate).max()))


def test_baselines_are_the_mean_and_the_ridge(task, distorted):
    found = task.baselines()
    assert [*found] == ["mean target", "ridge on scene statistics"]
    scores = task.train.scores.double()
    assert found["mean target"]["train_loss"] == pytest.approx(float((scores - scores.mean()).abs().mean()), rel=1e-6)
    x, z = (
        torch.stack([scene_statistics(luma(distorted[row][0].double() / 255)) for row in part.rows.tolist()])
        for part in (task.train, task.test)
    )
    error = (Ridge(x, scores[:, 0])(z) - task.test.scores[:, 0].double()).abs().mean()
    ridge = found["ridge on scene statistics"]
    assert ridge["test_loss"] == pytest.approx(float(error), rel=1e-6)
    assert {"test_srocc", "test_plcc", "test_krocc", "test_plcc_fitted"} < ridge.keys()
    few = task.with_inputs(
        lambda data, rows: data.rows[rows][:, None], 10
    )  # as of more training samples than are fitted
    places, known = few.train
    assert len(places) == 10 and len(few.test[0]) == len(task.test)
    assert torch.equal(known, distorted.scores().double()[places[:, 0].long()][:, None])


# Files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("rated")
    for number in range(8):
        save(path / "images" / f"{number}.jpg", smooth(40 + number, 50, number), quality=95)
    return path


def write_csv(file, rows):
    with open(file, "w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return str(file)


KONIQ = [("image_name", "c1", "MOS", "SD", "set")]
KONIQ += [
    (f"{n}.jpg", 0, 20 + 10 * n, 0.5, kind)
    for n, kind in enumerate(["training"] * 4 + ["validation"] * 2 + ["test"] * 2)
]
VOTES = ["0", "1", "0", "0", "0", "0", "0", "0", "0", "3"]
"""Of one 2 and three 10s: a mean of 8, which is 1 + 4 · 7/9 on the scale from 1 to 5."""


def of_files(folder, cache, task=image_quality, **settings):
    usual = {"patch": 16} if task is image_quality else {"size": 16}
    return task(path=str(folder / "images"), cache=cache, **{**usual, **settings})


@pytest.mark.parametrize("part", ["test", "validation"])
def test_koniq_is_read_with_its_sets(folder, cache, part):
    file = write_csv(folder / "koniq.csv", KONIQ)
    task = of_files(folder, cache, scores=file, scale=[0, 100], test=part)
    assert task.names == (("6.jpg", "7.jpg") if part == "test" else ("4.jpg", "5.jpg"))
    torch.testing.assert_close(task.train.scores[:, 0], torch.tensor([1.8, 2.2, 2.6, 3.0]))
    torch.testing.assert_close(task.test.scores[0, 0], torch.tensor(1 + 4 * 0.8 if part == "test" else 1 + 4 * 0.6))
    assert task.columns["SD"].tolist() == ["0.5"] * 4 and task.input_shape == (3, 16, 16)
    assert "ridge on scene statistics" in task.baselines()


def test_ava_is_read_by_its_votes(folder, cache):
    rows = [" ".join([str(9 - n), str(n), *(VOTES[n:] + VOTES[:n] if n else VOTES), "7", "8", "99"]) for n in range(8)]
    (folder / "AVA.txt").write_text("\n".join(rows) + "\n")
    task = of_files(folder, cache, image_aesthetics, scores=str(folder / "AVA.txt"), folds=4)
    scores = dict(zip(task.names, task.test.scores[:, 0].tolist(), strict=True))
    assert len(task.train) == 6 and len(scores) == 2
    for name, score in scores.items():
        n = int(name[0])
        counts = [*map(int, VOTES[n:] + VOTES[:n])]
        mean = sum((vote + 1) * count for vote, count in enumerate(counts)) / 4
        assert score == pytest.approx(1 + 4 * (mean - 1) / 9, rel=1e-6)


def test_kvq_is_read_with_folds_that_share_no_photo(folder, cache):
    rows = [("filename", "score", "photo"), *((f"{n}.jpg", 1 + n / 2, f"p{n // 2}") for n in range(8))]
    task = of_files(folder, cache, scores=write_csv(folder / "kvq.csv", rows), folds=4, fold=2)
    (first, second), photos = task.names, {*task.columns["photo"].tolist()}
    assert int(first[0]) // 2 == int(second[0]) // 2 and len(photos) == 3 and f"p{int(first[0]) // 2}" not in photos
    held = write_csv(folder / "held.csv", [("filename", "score"), ("7.jpg", 4)])
    write_csv(folder / "rest.csv", rows[:-1])
    task = of_files(folder, cache, scores=str(folder / "rest.csv"), test_scores=held)
    assert task.names == ("7.jpg",) and len(task.train) == 7


def test_aesthetics_see_the_middle_square_resized(folder):
    (image,) = ImageFiles([folder / "images" / "0.jpg"], 16)[0]
    (whole,) = ImageFiles([folder / "images" / "0.jpg"])[0]
    wanted = resize(whole[:, :, 5:45].double(), Fraction(16, 40)).round().clamp(0, 255)
    assert image.shape == (3, 16, 16) and torch.equal(image, wanted.byte())
    assert (whole.int() - channels(smooth(40, 50, 0)).int()).abs().double().mean() < 20  # as JPEG leaves it


BAD = {
    "folder": ([("filename", "score"), (".", 3)], r"line 2 of .*csv has '\.', which is no file in"),
    "no name": ([("filename", "score"), ("", 3)], "line 2 of .*csv has no file name"),
    "no number": ([("filename", "score"), ("0.jpg", "nan")], "line 2 of .* has the score 'nan'; allowed are numbers"),
    "blank": ([("filename", "score"), ("0.jpg", ""), ("1.jpg", "")], "line 2 of .* has the score ''"),
    "below": ([("filename", "score"), ("0.jpg", 0.5)], "line 2 of .* has the score '0.5'; allowed are numbers from 1"),
    "missing": ([("filename", "score"), ("x.jpg", 3)], "line 2 of .*csv has 'x.jpg', which is no file in"),
    "twice": ([("image_name", "MOS"), ("0.jpg", 2), ("./0.jpg", 3)], "line 3 of .* has './0.jpg' again, which line 2"),
    "range": (
        [("image_name", "MOS"), ("0.jpg", 60)],
        "line 2 of .* has the score '60'; allowed are numbers",
    ),
    "text": ([("filename", "score"), ("0.jpg", "good")], "line 2 of .* has the score 'good'"),
    "columns": ([("name", "mos"), ("0.jpg", 2)], "needed are filename and score, or image_name and MOS$"),
    "set": ([*KONIQ[:2], ("1.jpg", 0, 3, 1, "train")], "line 3 of .* has the set 'train'; allowed are training, val"),
    "photo": (
        [
            (*KONIQ[0], "photo"),
            *((*KONIQ[n], photo) for n, photo in zip((1, 5, 2, 7, 8), ("", "a", "b", "a", "b"), strict=True)),
        ],
        "the photo 'b' is shown in training, line 4 of .*bad.csv, and in tests, line 6 of .*bad.csv; allowed is one of",
    ),
    "no test": (KONIQ[:3], "has no images of the set 'test'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_named(folder, cache, name):
    rows, sentence = BAD[name]
    scale = [0, 100] if name in ("set", "no test", "photo") else [1, 5]
    with pytest.raises(ValueError, match=f"^image_quality: .*{sentence}") as caught:
        of_files(folder, cache, scores=write_csv(folder / "bad.csv", rows), scale=scale)
    assert "\n" not in str(caught.value)


BAD_VOTES = {
    "few": (["1", "0", "3", "4"], "line 2 of .* has 4 values; needed are at least 12"),
    "count": (["1", "0", *VOTES[:9], "-3"], "line 2 of .* has the count '-3'; allowed are 0, 1, …"),
    "none": (["1", "0", *"0" * 10], "line 2 of .* has no votes"),
    "missing": (["1", "x", *VOTES], "line 2 of .* has 'x.jpg', which is no file in"),
}


@pytest.mark.parametrize("name", BAD_VOTES)
def test_bad_votes_are_named(folder, cache, name):
    row, sentence = BAD_VOTES[name]
    (folder / "bad.txt").write_text("\n".join([" ".join(["1", "7", *VOTES]), " ".join(row)]))
    with pytest.raises(ValueError, match=f"^image_aesthetics: {sentence}"):
        of_files(folder, cache, image_aesthetics, scores=str(folder / "bad.txt"))


def test_votes_are_utf_8(folder, cache):
    (folder / "bad.txt").write_bytes("1 ö 1".encode("latin-1"))
    with pytest.raises(ValueError, match=r"^image_aesthetics: line 1 of '.*bad.txt' is not text in UTF-8"):
        of_files(folder, cache, image_aesthetics, scores=str(folder / "bad.txt"))


def test_images_that_cannot_be_read_are_named(folder, cache):
    (folder / "images" / "text.jpg").write_text("no image")
    file = write_csv(folder / "text.csv", [("filename", "score"), *((f"{n}.jpg", 2) for n in (0, 1, 2, 3, "text"))])
    with pytest.raises(ExperimentError, match=r"text.jpg cannot be used"):
        of_files(folder, cache, scores=file)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"contents": 10**5}, "contents is 100000; allowed are at most"),
        ({"folds": 11}, "folds is 11; allowed are at most 10, the number of photos"),
        ({"fold": 5}, "fold is 5; allowed are 0 to 4"),
        ({"patch": 40}, "32 × 32 pixels, too few for a crop of 40 × 40"),
        ({"distortions": ["blur", "blur"]}, "distortions names 'blur' twice"),
        ({"scores": "s.csv"}, "scores is 's.csv', which is for samples that are read"),
        ({"path": "nowhere"}, "contents is 10, which is for samples made here"),
    ],
)
def test_mistakes_are_sentences(cache, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        image_quality(**{"cache": cache, **SMALL, **settings})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "scores is missing; a CSV file"),
        ({"scores": "koniq.csv", "scale": [5, 1]}, r"scale is \[5, 1\]; allowed are a lowest score and a higher one"),
        ({"scores": "koniq.csv", "scale": [0, 100], "fold": 1}, "fold is 1, and the column set says what is tested"),
        ({"scores": "kvq.csv", "test": "validation"}, "test is 'validation', which is for a file with the column set"),
        ({"scores": "AVA.txt", "scale": [0, 10]}, "scale is for CSV files"),
        ({"scores": "none.csv"}, "none.csv cannot be read"),
        ({"path": "nowhere", "scores": "koniq.csv"}, "path is 'nowhere', which is no folder"),
        ({"scores": "kvq.csv", "test_scores": "kvq.csv"}, "'0.jpg' is a training image in"),
        (
            {"scores": "photos.csv", "test_scores": "other_photos.csv"},
            "the photo 'a' is shown in training, line 3 of .*photos.csv, and in tests, line 2 of .*other_photos.csv",
        ),
    ],
)
def test_mistakes_about_files_are_sentences(folder, cache, settings, sentence):
    write_csv(folder / "koniq.csv", KONIQ)
    write_csv(folder / "kvq.csv", [("filename", "score"), *((f"{n}.jpg", 3) for n in range(6))])
    header = ("filename", "photo", "score")
    write_csv(folder / "photos.csv", [header, ("0.jpg", "b", 3), ("1.jpg", "a", 4)])
    write_csv(folder / "other_photos.csv", [header, ("2.jpg", "a", 3), ("3.jpg", "c", 4)])
    files = {name: str(folder / value) for name, value in settings.items() if "scores" in name}
    given = {"path": str(folder / "images"), "cache": cache, "patch": 16, **settings, **files}
    with pytest.raises(ValueError, match=sentence):
        image_quality(**given)
