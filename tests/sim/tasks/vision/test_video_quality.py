"""Video quality: clips and their scores, fragments, losses, baselines, the cache, and files in the layout of KVQ."""

import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from basinet.sim.tasks import video_quality
from basinet.sim.tasks.vision.videos import clips as clips_module
from basinet.sim.tasks.vision.videos.batch_losses import plcc_loss, rank_loss
from basinet.sim.tasks.vision.videos.clips import Clips, mean_opinion, quality_of, rated_clips, rated_pairs
from basinet.sim.tasks.vision.videos.statistics_ridge import Ridge
from basinet.sim.vision import codecs, video_files
from basinet.sim.vision.colours import luma
from basinet.sim.vision.scene_statistics import scene_statistics

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
            corner = 16 * torch.tensor(divmod(place, 2))  # of its cell, in which it has 9 × 9 places
            assert ((corner <= fits) & (fits <= corner + 8)).all(1).any()
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
    remark = rated_clips(40, 32, 4, "test").remark
    assert remark == "test clips show other regions of the photos of training"
    assert task.about_loss == "absolute error of the scores"  # whose ten contents are of ten photos
    assert replace(task, remark=remark).about_loss == f"{task.about_loss}; {remark}"
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
    for others in (x, x[:7] + 2):  # whatever the mean of what is predicted
        scaled = (others - x.mean(0)) / x.std(0, correction=0)
        torch.testing.assert_close(ridge(others), fitted(every, ridge.strength)(scaled))

    def left_out(strength):
        return sum((fitted(every[every != i], strength)(standard[i]) - y[i]) ** 2 for i in range(20))

    errors = [left_out(strength) for strength in (ridge.strength / 3, ridge.strength, ridge.strength * 3)]
    assert errors[1] == min(errors)


def seen(videos):
    return [torch.from_numpy(np.array(videos.source.view(row))) for row in videos.rows.tolist()]


def test_baselines_are_the_mean_and_the_ridge_whatever_a_model_sees(cache, task):
    found = task.baselines()
    assert [*found] == ["mean target", "ridge on scene statistics"]
    scores = task.train.scores.double()
    assert found["mean target"]["train_loss"] == pytest.approx(float((scores - scores.mean()).abs().mean()), rel=1e-6)
    ridge = found["ridge on scene statistics"]
    assert ridge["train_loss"] < found["mean target"]["train_loss"]
    parts = [
        [scene_statistics(luma(video.double() / 255)[[1, 3]]).mean(0) for video in seen(x)]
        for x in (task.train, task.test)
    ]
    x, z = map(torch.stack, parts)
    fitted = Ridge(x, scores[:, 0])
    for where, features, part in (("train", x, task.train), ("test", z, task.test)):
        wanted = (fitted(features) - part.scores[:, 0].double()).abs().mean()
        assert ridge[f"{where}_loss"] == pytest.approx(float(wanted), rel=1e-6)
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


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (clips_module, "REVISION", 99),
        (codecs, "_SMALLEST", 160),
        (codecs, "CODECS", codecs.CODECS | {"x264": codecs.Codec("libx264", 51)}),
        (video_files, "_REVISION", 99),
    ],
)
def test_a_change_of_what_makes_the_pixels_makes_them_anew(clips, monkeypatch, module, name, value):
    before = clips.fingerprint
    monkeypatch.setattr(module, name, value)
    assert Clips(**SMALL).fingerprint != before
    monkeypatch.undo()
    assert Clips(**SMALL).fingerprint == before


def test_a_killed_process_leaves_no_broken_cache(tmp_path):
    script = (
        "import os, signal\n"
        "from basinet.sim.tasks import video_quality\n"
        "from basinet.sim.tasks.vision.videos.clips import Clips\n"
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
        ({"inputs": "frames", "grid": 2, "patch": 32, "crop": 40}, "too few for a crop of 40 × 40"),
        ({"inputs": "features"}, "patch is 8, which is for inputs: fragments"),
        ({"crop": 16}, "crop is 16, which is for inputs: frames"),
        ({"pairs": "pairs.csv"}, "pairs is 'pairs.csv', which is for samples that are read"),
        ({"path": "nowhere"}, "contents is 10, which is for samples made here"),
    ],
)
def test_mistakes_are_sentences(cache, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        video_quality(**{"cache": cache, **SMALL, **CUT, **settings})
