"""Video quality: clips and their scores, fragments, losses, baselines, the cache, and files in the layout of KVQ."""

import csv
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from openpyxl import Workbook
from scipy.stats import pearsonr

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.setup.memory import memory
from basinet.sim.tasks import video_quality
from basinet.sim.tasks.vision.batch_losses import plcc_loss, rank_loss
from basinet.sim.tasks.vision.clips import Clips, mean_opinion, quality_of, rated_pairs
from basinet.sim.tasks.vision.statistics_ridge import Ridge
from basinet.sim.vision.codecs import encode

SMALL = {"contents": 10, "size": 32, "frames": 4}
CUT = {"grid": 2, "patch": 8}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def clips():
    return Clips(**SMALL)


@pytest.fixture(scope="module")
def task(cache):
    return video_quality(cache=cache, **SMALL, **CUT)


def test_parts_have_the_proportions_of_kvq_and_share_no_content(clips):
    parts = {name: clips.part(name).tolist() for name in ("train", "validation", "test")}
    assert sorted(row for rows in parts.values() for row in rows) == [*range(70)]
    contents = [{clips.clips[row].content for row in rows} for rows in parts.values()]
    assert [len(some) for some in contents] == [7, 1, 2]
    assert len(set().union(*contents)) == 10
    shares = Clips(contents=60, size=32, frames=4).shares
    assert shares == {"train": 42, "validation": 6, "test": 12}


def test_a_content_has_a_source_and_six_versions_of_rising_level(clips):
    for first in range(0, 70, 7):
        source, *versions = clips.clips[first : first + 7]
        assert source.distortion == "source" and source.level == 0
        levels = [version.level for version in versions]
        assert all(step / 6 <= level < (step + 1) / 6 for step, level in enumerate(levels))
        assert {"x264", "x265", "vp9", "av1"} < {version.distortion for version in versions}
    assert len({clip.name for clip in clips.clips}) == 70


def test_regions_of_contents_are_disjoint(clips):
    reach, seen = 32 + 2 * 3, {}
    for clip in clips.clips[::7]:
        ends = [at + 3 * speed for at, speed in zip(clip.corner, clip.velocity, strict=True)]
        first, last = (tuple(f(pair) for pair in zip(clip.corner, ends, strict=True)) for f in (min, max))
        cell = (clip.photo, first[0] // reach, first[1] // reach)
        assert cell == (clip.photo, (last[0] + 31) // reach, (last[1] + 31) // reach)
        assert seen.setdefault(cell, clip.content) == clip.content
        assert clip.velocity != (0, 0) and max(map(abs, clip.velocity)) <= 2


def test_a_source_is_a_moving_window(clips):
    for row in range(0, 70, 7):
        video, (down, right) = clips[row], clips.clips[row].velocity
        a, b = video[0], video[1]
        rows, columns = (slice(max(0, speed), 32 + min(0, speed)) for speed in (down, right))
        back = [slice(max(0, -speed), 32 - max(0, speed)) for speed in (down, right)]
        assert torch.equal(a[:, rows, columns], b[:, back[0], back[1]])


def test_scores_fall_with_the_level_on_the_grid_of_eighteen_raters(clips):
    levels = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert (quality_of(levels).diff() < 0).all() and 1 < quality_of(levels).min() < quality_of(levels).max() < 5
    scores = mean_opinion(quality_of(levels.repeat(200)), 3)
    assert torch.equal((scores * 36).round(), scores * 36) and scores.min() >= 1 and scores.max() <= 5
    # Of 18 × 200 raters, rounded to half points: a deviation of about 0.7 / 60, and clipped near the ends.
    assert (scores.view(200, 11).mean(0) - quality_of(levels))[3:8].abs().max() < 0.06
    assert torch.equal(clips.scores(), Clips(**SMALL).scores())


def test_a_level_costs_quality_of_pixels_in_the_mean(clips):
    errors = torch.zeros(10, 7, dtype=torch.float64)
    for row in range(70):
        errors[divmod(row, 7)] = (clips[row].double() - clips[row // 7 * 7]).square().mean().sqrt()
    thirds = errors[:, 1:].view(10, 3, 2).mean((0, 2))
    assert 0 < thirds[0] < thirds[1] < thirds[2]  # of photos of any content, each by other distortions


def test_pairs_are_hard_and_judged_by_their_scores(clips):
    scores = clips.scores()
    contents, levels = (np.array([getattr(clip, name) for clip in clips.clips]) for name in ("content", "level"))
    found = rated_pairs(contents, levels, scores)
    for kind, pairs in found.items():
        first, second, better = pairs.T
        assert torch.equal(better, torch.where(scores[first] > scores[second], 1, 2)) and len({*better.tolist()}) == 2
        same = torch.from_numpy(contents[first] == contents[second])
        assert same.all() if kind == "source" else not same.any()
    order = np.argsort(np.argsort(levels.reshape(10, 7), axis=1), axis=1).ravel()
    assert (abs(order[found["source"][:, 0]] - order[found["source"][:, 1]]) == 1).all()
    gaps = (scores[found["nonsource"][:, 0]] - scores[found["nonsource"][:, 1]]).abs()
    assert gaps.max() <= 0.5 and gaps.min() > 0 and len(found["nonsource"]) == 70


def patches(video):
    return [video[..., y : y + 8, x : x + 8] for y in (0, 8) for x in (0, 8)]


def test_fragments_are_native_pixels_at_the_same_place_in_all_frames(task):
    rows, keys = torch.tensor([0, 9, 9]), torch.tensor([3, 4, 5])
    batch = task.train.fetch(rows, keys)[0]
    assert batch.dtype == torch.uint8 and batch.shape == (3, 4, 3, 16, 16)
    for video, row in zip(batch, rows, strict=True):
        source = torch.from_numpy(np.array(task.train.source.view(int(task.train.rows[row]))))
        windows = source.unfold(2, 8, 1).unfold(3, 8, 1)  # [T, 3, 25, 25, 8, 8]
        for place, patch in enumerate(patches(video)):
            fits = (windows == patch[:, :, None, None]).flatten(-2).all(-1).all(0).all(0).nonzero()
            assert len(fits) >= 1
            assert any(y // 9 <= place // 2 * 2 and place // 2 * 16 <= y <= place // 2 * 16 + 8 for y, _ in fits)
    assert not torch.equal(batch[1], batch[2])  # other keys, other places
    assert torch.equal(task.train.fetch(rows)[0][1], task.train.fetch(rows)[0][2])  # measured at fixed ones
    read = task.train.to("cpu", torch.float64).read(rows, keys)[0]
    assert torch.equal(read, batch.double() / 255)


def test_frames_are_a_crop_of_all_of_them(cache, task):
    whole = video_quality(inputs="frames", cache=cache, **SMALL)
    assert whole.input_shape == (4, 3, 32, 32) and whole.model == "frame_network"
    video, scores = whole.test.fetch(torch.tensor([1]), torch.tensor([7]))
    assert torch.equal(video[0], torch.from_numpy(np.array(whole.test.source.view(int(whole.test.rows[1])))))
    assert torch.equal(scores, task.test.scores[1:2])
    crop = video_quality(inputs="frames", crop=20, cache=cache, **SMALL)
    assert torch.equal(crop.test.fetch(torch.tensor([1]))[0], video[..., 6:26, 6:26])


def test_features_are_standardised_over_the_training_videos(cache):
    task = video_quality(inputs="features", cache=cache, **SMALL)
    key, motion, scores = task.train
    assert key.shape == (49, 2, 36) and motion.shape == (49, 3, 6) and scores.shape == (49, 1)
    for part in (key, motion):
        flat = part.double().flatten(0, 1)
        varies = flat.std(0) > 0
        torch.testing.assert_close(flat.mean(0), torch.zeros_like(flat[0]), atol=1e-5, rtol=0)
        torch.testing.assert_close(flat.std(0, correction=0)[varies], torch.ones(int(varies.sum())).double())


def test_tasks_know_their_data(task):
    assert {name: len(column) for name, column in task.columns.items()} == dict.fromkeys(
        ("content", "photo", "distortion"), 49
    )
    assert len(task.names) == 14 and task.num_outputs == 1 and task.model == "fragment_network"
    assert task.pairs["source"].max() < 14
    held = video_quality(test="validation", cache=str(task.train.source.folder.parent), **SMALL, **CUT)
    assert len(held.test) == 7 and not {*held.names} & {*task.names}


def test_losses_are_those_of_the_field():
    random = torch.Generator().manual_seed(0)
    p, y = (torch.randn(12, 1, dtype=torch.float64, generator=random) for _ in range(2))
    rho = pearsonr(p[:, 0], y[:, 0])[0]
    wanted = ((2 - 2 * rho) + (1 - rho**2)) / 8  # of standardised numbers
    assert plcc_loss(p, y) == pytest.approx(wanted, abs=1e-5)  # which a small constant keeps from being exact
    assert plcc_loss(5 * p - 3, y) == pytest.approx(plcc_loss(p, y).item(), abs=1e-5)
    assert plcc_loss(y, y) < 1e-12 and plcc_loss(0 * p, y) == pytest.approx(1 / 4, abs=1e-5)
    both = [*zip(y[:, 0].tolist(), p[:, 0].tolist(), strict=True)]
    pairs = [max(0, abs(a - b) - np.sign(a - b) * (c - d)) for a, c in both for b, d in both]
    assert rank_loss(p, y) == pytest.approx(float(np.mean(pairs)), rel=1e-12)
    flat = torch.ones(4, 1, requires_grad=True)
    plcc_loss(flat, y[:4].float()).backward()
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize("loss", ["l1", "plcc", "rank", "plcc_rank"])
def test_losses_say_what_they_are_means_of(cache, loss):
    task = video_quality(loss=loss, inputs="features", cache=cache, **SMALL)
    batch = tuple(part[:6] for part in task.train)
    outputs = torch.linspace(1, 5, 6)[:, None]
    value = task.loss(outputs, batch)
    wanted = {"l1": (outputs - batch[2]).abs()[:, 0], "plcc": plcc_loss(outputs, batch[2])}
    wanted |= {"rank": rank_loss(outputs, batch[2])}
    wanted["plcc_rank"] = wanted["plcc"] + 0.3 * wanted["rank"]
    torch.testing.assert_close(value, wanted[loss])
    assert task.mean_over == ("samples" if loss == "l1" else "batch")
    assert ("makes another objective" in task.about_loss) == (loss != "l1")


def test_the_ridge_leaves_samples_out_exactly():
    random = torch.Generator().manual_seed(1)
    x, y = (torch.randn(20, n, dtype=torch.float64, generator=random) for n in (5, 1))
    y = (x[:, :1] + 0.5 * y)[:, 0]
    ridge = Ridge(x, y)
    standard = (x - x.mean(0)) / x.std(0, correction=0)

    def fitted(rows, strength):
        centred, mean = standard[rows] - standard[rows].mean(0), y[rows].mean()
        # Each sample that is left out leaves the penalty and the standardisation as they are.
        weights = torch.linalg.solve(
            centred.T @ centred + 20 * strength * torch.eye(5).double(), centred.T @ (y[rows] - mean)
        )
        return lambda z: (z - standard[rows].mean(0)) @ weights + mean

    every = torch.arange(20)
    torch.testing.assert_close(ridge(x), fitted(every, ridge.strength)(standard))

    def left_out(strength):
        return sum((fitted(every[every != i], strength)(standard[i]) - y[i]) ** 2 for i in range(20))

    errors = [left_out(strength) for strength in (ridge.strength / 3, ridge.strength, ridge.strength * 3)]
    assert errors[1] == min(errors)


def test_baselines_are_the_mean_and_the_ridge_whatever_a_model_sees(cache, task):
    found = task.baselines()
    assert [*found] == ["mean target", "ridge on scene statistics"]
    scores = task.train.scores.double()
    assert found["mean target"]["train_loss"] == pytest.approx(float((scores - scores.mean()).abs().mean()), rel=1e-6)
    assert found["ridge on scene statistics"]["train_loss"] < found["mean target"]["train_loss"]
    features = video_quality(inputs="features", cache=cache, **SMALL).baselines()
    for name, numbers in found.items():
        assert features[name] == pytest.approx(numbers, rel=1e-4), name


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.bin")}


def test_a_second_task_reads_the_cache(cache, task):
    kept = task.train.source.folder
    before = stamps(kept)
    again = video_quality(cache=cache, loss="plcc", inputs="frames", crop=16, **SMALL)
    assert before and stamps(kept) == before and again.train.source.folder == kept


def test_a_killed_process_leaves_no_broken_cache(tmp_path):
    script = (
        "import os, signal\n"
        "from basinet.sim.tasks import video_quality\n"
        "from basinet.sim.tasks.vision.clips import Clips\n"
        "read = Clips.__getitem__\n"
        "def read_or_die(clips, row):\n"
        "    return read(clips, row) if row < 3 else os.kill(os.getpid(), signal.SIGKILL)\n"
        "Clips.__getitem__ = read_or_die\n"
        f"video_quality(cache={str(tmp_path)!r}, contents=6, size=32, frames=4, grid=2, patch=8)\n"
    )
    child = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert [*tmp_path.glob("*.partial/leaf0.bin")]
    task = video_quality(cache=str(tmp_path), contents=6, size=32, frames=4, grid=2, patch=8)
    source = Clips(contents=6, size=32, frames=4)
    assert not [*tmp_path.glob("*.partial")]
    assert all(np.array_equal(task.train.source.view(row), source[row].numpy()) for row in (0, 20, 41))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"contents": 2}, "contents is 2; allowed are at least 6"),
        ({"contents": 10**6}, "contents is 1000000; allowed are at most"),
        ({"key_frames": 5}, "key_frames is 5; allowed are at most 4"),
        ({"grid": 5}, "5 × 5 patches of 8 × 8"),
        ({"inputs": "frames", "grid": 4, "patch": 16, "crop": 40}, "too few for a crop of 40 × 40"),
        ({"inputs": "features"}, "grid is 2, which is for inputs: fragments"),
        ({"crop": 16}, "crop is 16, which is for inputs: frames"),
        ({"pairs": "pairs.csv"}, "pairs is 'pairs.csv', which is for samples that are read"),
        ({"path": "nowhere"}, "contents is 10, which is for samples made here"),
    ],
)
def test_mistakes_are_sentences(cache, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        video_quality(**{"cache": cache, **SMALL, **CUT, **settings})


def write_csv(file, rows):
    with open(file, "w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def write_pairs(file, pairs):
    book = Workbook()
    book.remove(book.active)
    for kind, rows in pairs.items():
        sheet = book.create_sheet(kind)
        for row in [("video1", "video2", "rank"), *rows]:
            sheet.append(row)
    book.save(file)


PAIRS = {"nonsource": [("4.mp4", "5.mp4", 1)], "source": [("5.mp4", "6.mp4", 2), ("4.mp4", "6.mp4", 1)]}


@pytest.fixture(scope="module")
def kvq(tmp_path_factory, clips):
    folder = tmp_path_factory.mktemp("kvq")
    (folder / "videos").mkdir()
    for number in range(7):
        side = 128 + 32 * (number % 2)  # videos of two sizes
        video = clips[number].repeat(2, 1, 5, 5)[:, :, :side, :128]
        (folder / "videos" / f"{number}.mp4").write_bytes(encode(video, "x264", 20))
    write_csv(
        folder / "train.csv",
        [("filename", "score", "kind"), *((f"{n}.mp4", 1 + n / 2, f"kind {n % 2}") for n in range(4))],
    )
    write_csv(folder / "test.csv", [("filename", "score"), ("4.mp4", 3.5), ("5.mp4", 1), ("6.mp4", 5)])
    write_csv(folder / "blank.csv", [("filename", "score"), ("4.mp4", ""), ("5.mp4", ""), ("6.mp4", "")])
    write_pairs(folder / "pairs.xlsx", PAIRS)
    write_csv(
        folder / "pairs.csv", [("sheet", "a", "b", "rank"), *((k, *row) for k, rows in PAIRS.items() for row in rows)]
    )
    return folder


def of_files(folder, cache, **changes):
    files = {"train_scores": "train.csv", "test_scores": "test.csv", "pairs": "pairs.xlsx", **changes}
    paths = {name: str(folder / file) for name, file in files.items() if file is not None}
    return video_quality(path=str(folder / "videos"), cache=cache, frames=4, **CUT, **paths)


@pytest.mark.parametrize("pairs", ["pairs.xlsx", "pairs.csv"])
def test_the_layout_of_kvq_is_read(kvq, cache, pairs):
    task = of_files(kvq, cache, pairs=pairs)
    assert task.names == ("4.mp4", "5.mp4", "6.mp4") and task.input_shape == (4, 3, 16, 16)
    assert task.train.scores.tolist() == [[1], [1.5], [2], [2.5]] and task.test.scores.tolist() == [[3.5], [1], [5]]
    assert task.columns["kind"].tolist() == ["kind 0", "kind 1", "kind 0", "kind 1"]
    assert task.pairs["nonsource"].tolist() == [[0, 1, 1]] and task.pairs["source"].tolist() == [[1, 2, 2], [0, 2, 1]]
    measured = task.test.to("cpu", torch.float32).read(torch.tensor([1]))
    torch.testing.assert_close(task.batch_of(kvq / "videos" / "5.mp4")[0], measured[0])
    assert "ridge on scene statistics" in task.baselines()
    assert sum(t.nbytes for t in measured) < memory()


def test_blank_test_scores_leave_nothing_to_test(kvq, cache, caplog):
    task = of_files(kvq, cache, test_scores="blank.csv", pairs=None)
    assert task.test is None and task.names == () and len(task.train) == 4
    assert "blank" in caplog.text


HEAD = ("filename", "score")
TRAIN = {
    "a missing video": ([HEAD, ("0.mp4", 2), ("x.mp4", 3)], "line 3 of .*csv has 'x.mp4', which is no file in"),
    "twice": ([HEAD, ("0.mp4", 2), ("1.mp4", 2), ("0.mp4", 3)], "line 4 of .* has '0.mp4' again, which line 2 has"),
    "out of range": ([HEAD, ("0.mp4", 5.5)], "line 2 of .* has the score '5.5'; allowed are numbers from 1 to 5"),
    "NaN": ([HEAD, ("0.mp4", "nan")], "line 2 of .* has the score 'nan'"),
    "text": ([HEAD, ("0.mp4", "good")], "line 2 of .* has the score 'good'"),
    "blank": ([HEAD, ("0.mp4", 2), ("1.mp4", "")], "line 3 of .* has the score ''"),
    "no rows": ([HEAD], "has no rows"),
    "other columns": (
        [("file", "mos"), ("0.mp4", 2)],
        "are 'file', 'mos'; needed are filename, score",
    ),
    "values": ([HEAD, ("0.mp4", 2, 7)], "line 2 of .* has 3 values for 2 columns"),
    "also for tests": ([HEAD, ("4.mp4", 2)], "'4.mp4' is a training video in .* and a test video in"),
}


@pytest.mark.parametrize("name", TRAIN)
def test_bad_rows_are_named(kvq, cache, name):
    rows, sentence = TRAIN[name]
    write_csv(kvq / "bad.csv", rows)
    with pytest.raises(ValueError, match=sentence) as caught:
        of_files(kvq, cache, train_scores="bad.csv")
    assert "\n" not in str(caught.value)


BAD_PAIRS = {
    "a video of no test": (("0.mp4", "5.mp4", 1), "row 2 of sheet source of .*'0.mp4', which is none of the test"),
    "a rank": (("4.mp4", "5.mp4", 0), "has the rank '0'; allowed are 1 and 2"),
    "a short row": (("4.mp4", "5.mp4"), "has 2 values|has the rank ''"),
}


@pytest.mark.parametrize("name", BAD_PAIRS)
def test_bad_pairs_are_named(kvq, cache, name):
    row, sentence = BAD_PAIRS[name]
    write_pairs(kvq / "bad.xlsx", {"source": [row]})
    with pytest.raises(ValueError, match=sentence):
        of_files(kvq, cache, pairs="bad.xlsx")


def test_other_bad_files_are_named(kvq, cache):
    write_pairs(kvq / "sheet.xlsx", {"other": [("4.mp4", "5.mp4", 1)]})
    (kvq / "text.xlsx").write_text("no sheets")
    (kvq / "videos" / "text.mp4").write_text("no video\n" * 99)
    write_csv(kvq / "text.csv", [HEAD, ("0.mp4", 2), ("text.mp4", 2)])
    for changes, sentence in (
        ({"pairs": "sheet.xlsx"}, "is of 'other'; allowed are nonsource and source"),
        ({"pairs": "text.xlsx"}, "text.xlsx cannot be read"),
        ({"test_scores": None}, "pairs is .*which is for test videos"),
        ({"test_scores": None, "pairs": None, "train_scores": None}, "train_scores is missing"),
        ({"train_scores": "none.csv"}, "none.csv cannot be read"),
    ):
        with pytest.raises(ValueError, match=sentence):
            of_files(kvq, cache, **changes)
    with pytest.raises(ExperimentError, match=r"text.mp4 cannot be read as a video"):
        of_files(kvq, cache, train_scores="text.csv")
    with pytest.raises(ValueError, match=r"path is .*nowhere.*, which is no folder"):
        video_quality(path=str(kvq / "nowhere"), train_scores=str(kvq / "train.csv"), cache=cache)
