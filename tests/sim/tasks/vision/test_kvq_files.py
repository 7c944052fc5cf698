"""Videos in the layout of KVQ: files of scores and of pairs, and what is kept of each video."""

import csv
import shutil

import numpy as np
import pytest
import torch
from openpyxl import Workbook

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.tasks import video_quality
from basinet.sim.tasks.vision.quality.statistics_ridge import Ridge
from basinet.sim.tasks.vision.videos import kvq_files, video_views
from basinet.sim.tasks.vision.videos.clips import Clips
from basinet.sim.tasks.vision.videos.video_quality import Reading, VideoQuality
from basinet.sim.tasks.vision.videos.video_views import both_rates
from basinet.sim.vision.codecs import encode
from basinet.sim.vision.video_files import read_frames

CUT = {"grid": 2, "patch": 8}
HEAD = ("filename", "score")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


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
def kvq(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kvq")
    (folder / "videos").mkdir()
    clips = Clips(contents=10, size=32, frames=4)
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
    assert task.about_loss == "absolute error of the scores"
    assert task.names == ("4.mp4", "5.mp4", "6.mp4") and task.input_shape == (4, 3, 16, 16)
    assert task.train.scores.tolist() == [[1], [1.5], [2], [2.5]] and task.test.scores.tolist() == [[3.5], [1], [5]]
    assert task.columns["kind"].tolist() == ["kind 0", "kind 1", "kind 0", "kind 1"]
    assert task.pairs["nonsource"].tolist() == [[0, 1, 1]] and task.pairs["source"].tolist() == [[1, 2, 2], [0, 2, 1]]
    measured = task.test.to("cpu", torch.float32).read(torch.tensor([1]))
    read = task.reading.inputs(read_frames(kvq / "videos" / "5.mp4", 4), "5.mp4")
    torch.testing.assert_close(read[0][None], measured[0])
    assert "ridge on scene statistics" in task.baselines()


def test_each_video_is_kept_by_itself(kvq, tmp_path, monkeypatch):
    """What was decoded stays when another video is bad, and serves other lists of videos."""
    for name in ("bad.mp4", "worse.mp4"):
        (kvq / "videos" / name).write_text("no video\n" * 99)
    rows = [("0.mp4", 2), ("bad.mp4", 2), ("1.mp4", 3), ("worse.mp4", 2), ("2.mp4", 3)]
    write_csv(kvq / "mixed.csv", [HEAD, *rows])
    only = {"test_scores": None, "pairs": None}
    reason = r"\S+{}.mp4 cannot be read as a video: [^;]+"
    wanted = f"^task: 2 of the 5 videos cannot be used: {reason.format('bad')}; {reason.format('worse')}$"
    with pytest.raises(ExperimentError, match=wanted):
        of_files(kvq, str(tmp_path), train_scores="mixed.csv", **only)
    decoded = []
    monkeypatch.setattr(
        kvq_files, "read_frames", lambda file, *given: decoded.append(file) or read_frames(file, *given)
    )
    task = of_files(kvq, str(tmp_path), **only)
    assert [file.name for file in decoded] == ["3.mp4"]
    assert np.array_equal(task.train.source.arrays(3)[0], read_frames(kvq / "videos" / "3.mp4", 4))
    alone = task.baselines()["ridge on scene statistics"]["train_loss"]
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.bin")}
    assert of_files(kvq, str(tmp_path)).baselines()["ridge on scene statistics"]["train_loss"] == alone
    assert [file.name for file in decoded] == [f"{n}.mp4" for n in range(3, 7)]
    now = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.bin")}
    assert kept.items() < now.items() and len(now) == 2 * 7


def test_a_changed_video_is_decoded_anew(kvq, tmp_path):
    shutil.copytree(kvq, tmp_path / "kvq")
    before = of_files(tmp_path / "kvq", str(tmp_path)).train
    (tmp_path / "kvq/videos/0.mp4").write_bytes((kvq / "videos/2.mp4").read_bytes())
    after = of_files(tmp_path / "kvq", str(tmp_path)).train
    assert after.fingerprint != before.fingerprint
    assert np.array_equal(after.source.arrays(0)[0], before.source.arrays(2)[0])


def test_baselines_take_a_bounded_time(kvq, cache, monkeypatch):
    """Statistics are those of the middle of large frames, without motion, and of so many training videos."""
    large = torch.randint(0, 256, (2, 3, 520, 530), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for whole, part in zip(both_rates(large, 1), both_rates(large[:, :, 4:516, 9:521], 1), strict=True):
        assert torch.equal(whole, part)
    monkeypatch.delattr(video_views, "motion_statistics")
    of_files(kvq, cache, train_scores="train.csv").baselines()
    random = torch.Generator().manual_seed(0)
    key, scores = (torch.randn(1000, *shape, dtype=torch.float64, generator=random) for shape in ((2, 3), (1,)))
    found = VideoQuality(train=(key, key, scores), reading=Reading(2, None, 2)).baselines()
    rows = torch.tensor([(2 * part + 1) * 1000 // 1024 for part in range(512)])
    errors = Ridge(key[rows].mean(1), scores[rows, 0])(key[rows].mean(1)) - scores[rows, 0]
    assert found["ridge on scene statistics"]["train_loss"] == pytest.approx(float(errors.abs().mean()), rel=1e-9)
    assert found["mean target"]["train_loss"] == pytest.approx(float((scores - scores.mean()).abs().mean()), rel=1e-9)


def test_videos_in_folders_are_called_by_their_paths(kvq, cache):
    for name, number in (("a", 4), ("b", 5)):
        (kvq / "videos" / name).mkdir()
        shutil.copy(kvq / "videos" / f"{number}.mp4", kvq / "videos" / name / "1.mp4")
    write_csv(kvq / "folders.csv", [HEAD, ("a/1.mp4", 2), ("b/1.mp4", 3)])
    write_csv(kvq / "folders_pairs.csv", [("sheet", "a", "b", "rank"), ("source", "b/1.mp4", "a/1.mp4", 1)])
    task = of_files(kvq, cache, test_scores="folders.csv", pairs="folders_pairs.csv")
    assert task.names == ("a/1.mp4", "b/1.mp4") and task.pairs["source"].tolist() == [[1, 0, 1]]


def test_blank_test_scores_leave_nothing_to_test(kvq, cache, caplog):
    task = of_files(kvq, cache, test_scores="blank.csv", pairs=None)
    assert task.test is None and task.names == () and len(task.train) == 4
    assert "blank" in caplog.text


TRAIN = {
    "a missing video": ([HEAD, ("0.mp4", 2), ("x.mp4", 3)], "line 3 of .*csv has 'x.mp4', which is no file in"),
    "twice": ([HEAD, ("0.mp4", 2), ("1.mp4", 2), ("0.mp4", 3)], "line 4 of .* has '0.mp4' again, which line 2 has"),
    "twice by other paths": ([HEAD, ("0.mp4", 2), ("./0.mp4", 3)], "line 3 of .* has './0.mp4' again, which line 2"),
    "out of range": ([HEAD, ("0.mp4", 5.5)], "line 2 of .* has the score '5.5'; allowed are numbers from 1 to 5"),
    "NaN": ([HEAD, ("0.mp4", "nan")], "line 2 of .* has the score 'nan'"),
    "text": ([HEAD, ("0.mp4", "good")], "line 2 of .* has the score 'good'"),
    "blank": ([HEAD, ("0.mp4", 2), ("1.mp4", "")], "line 3 of .* has the score ''"),
    "no rows": ([HEAD], "has no rows"),
    "other columns": (
        [("file", "mos"), ("0.mp4", 2)],
        "are 'file', 'mos'; needed are filename and score$",
    ),
    "values": ([HEAD, ("0.mp4", 2, 7)], "line 2 of .* has 3 values for 2 columns"),
    "also for tests by another path": ([HEAD, ("./4.mp4", 2)], "'4.mp4' is a training video in .* and a test video in"),
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
    "a short row": (("4.mp4", "5.mp4"), "has 2 of the three values|has the rank ''"),
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
    write_csv(kvq / "contents.csv", [(*HEAD, "content"), ("0.mp4", 2, "a"), ("1.mp4", 2, "b")])
    write_csv(kvq / "held.csv", [(*HEAD, "content"), ("4.mp4", 2, "b"), ("5.mp4", 2, "c")])
    for changes, sentence in (
        ({"pairs": "sheet.xlsx"}, "is of 'other'; allowed are nonsource and source"),
        ({"pairs": "text.xlsx"}, "text.xlsx is no Excel file"),
        ({"test_scores": None}, "pairs is .*which is for test videos"),
        ({"test_scores": None, "pairs": None, "train_scores": None}, "train_scores is missing"),
        ({"train_scores": "none.csv"}, "none.csv cannot be read"),
        (
            {"train_scores": "contents.csv", "test_scores": "held.csv"},
            "the content 'b' is shown in training, line 3 of .*, and in tests, line 2 of .*; allowed is one of them",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            of_files(kvq, cache, **changes)
    with pytest.raises(ExperimentError, match=r"text.mp4 cannot be read as a video"):
        of_files(kvq, cache, train_scores="text.csv")
    with pytest.raises(ValueError, match=r"path is .*nowhere.*, which is no folder"):
        video_quality(path=str(kvq / "nowhere"), train_scores=str(kvq / "train.csv"), cache=cache)
