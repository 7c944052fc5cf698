"""Scores of image and video files by the models of finished runs, whose data are gone."""

import csv
import json
import re
import shutil
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import basinet
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.launch.cli import main
from basinet.launch.finished.scoring_files import FileScores
from basinet.launch.progress_bar import TerminalMonitor
from basinet.sim.data.rows import take
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import load_run
from basinet.sim.run.simulation import prepare, simulate
from basinet.sim.tasks import image_aesthetics, pretrained_ensemble, video_quality
from basinet.sim.tasks.model_outputs import output_of
from basinet.sim.tasks.vision.file_inputs import file_inputs
from basinet.sim.vision.extractors.pretrained import untrained
from basinet.sim.vision.video_files import read_frames

av = pytest.importorskip("av")

FRAMES, SIZE = 3, (40, 32)
TRAIN, TEST = [f"t{n}.mp4" for n in range(4)], ["b, c.mp4", "a.mp4", "d.avi"]
IMAGES = [f"{letter}.png" for letter in "fcadbge"]
TASKS = {
    "fragments": (
        {"name": "video_quality", "inputs": "fragments", "grid": 2, "patch": 8},
        {"name": "fragment_network", "width": 2, "depth": 1},
    ),
    "frames": (
        {"name": "video_quality", "inputs": "frames", "crop": 16},
        {"name": "frame_network", "channels": [2], "hidden": 3, "pooling": "attention"},
    ),
    "features": ({"name": "video_quality", "inputs": "features"}, {"name": "quality_perceptron", "hidden": 3}),
    "ensemble": (
        {
            "name": "pretrained_ensemble",
            "extractors": [f"{__name__}:Wide", "random@clip", "random"],
            "select": "ridge",
            "top": 2,
            "num_clusters": 2,
        },
        {"name": "ensemble_regressor", "width": 4, "weights": "davies_bouldin"},
    ),
    "images": (
        {"name": "image_quality", "patch": 16, "scale": [0, 10]},
        {"name": "hivit", "width": 4, "depths": [0, 0, 1]},
    ),
}
SMALL = {
    "topology": {"name": "ring", "agents": 4},
    "strategy": "diffusion",
    "optimizer": {"name": "adam", "lr": 0.01},
    "batch_size": 2,
    "steps": 3,
    "replicas": 1,
    "analysis": [],
    "evaluate_every": 3,
    "runtime": {"device": "cpu", "engine": "loop"},
}


class Wide(nn.Module):
    """An extractor that small images do not fit."""

    filled = 0.1

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 9, stride=4)
        nn.init.constant_(self.layer.bias, self.filled)

    def forward(self, images):
        return self.layer(images)


def write_video(file, seed, size=SIZE):
    rng = np.random.default_rng(seed)
    still = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3)).repeat(8, 0).repeat(8, 1)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for t in range(FRAMES + 2):
            noisy = np.roll(still, t, 1) + rng.integers(-20, 21, still.shape)
            frame = av.VideoFrame.from_ndarray(noisy.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_table(file, *rows):
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    return str(file)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of videos with their scores and pairs."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "videos").mkdir()
    for seed, name in enumerate(TRAIN + TEST):
        write_video(folder / "videos" / name, seed)
    head = ("filename", "score")
    write_table(folder / "train.csv", head, *((name, 1 + n) for n, name in enumerate(TRAIN)))
    write_table(folder / "test.csv", head, *((name, 4.5 - n) for n, name in enumerate(TEST)))
    pairs = ("source", TEST[0], TEST[1], 1), ("nonsource", TEST[1], TEST[2], 1), ("nonsource", TEST[2], TEST[0], 2)
    write_table(folder / "pairs.csv", ("sheet", "first", "second", "rank"), *pairs)
    (folder / "images").mkdir()
    for seed, name in enumerate(IMAGES):
        noise = np.random.default_rng(seed).integers(0, 256, (24, 20 + seed, 3))
        Image.fromarray(noise.astype(np.uint8)).save(folder / "images" / name)
    sets = ["training"] * 4 + ["test"] * 3
    rows = ((name, n, part) for n, (name, part) in enumerate(zip(IMAGES, sets, strict=True)))
    write_table(folder / "images.csv", ("image_name", "MOS", "set"), *rows)
    return folder


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    """For each kind of inputs a run whose data are gone, and what it predicts for its test samples."""
    found = {}
    for kind, (settings, model) in TASKS.items():
        data = tmp_path_factory.mktemp("data")
        shutil.copytree(files, data, dirs_exist_ok=True)
        if kind == "images":
            places, task = {"path": "images", "scores": "images.csv"}, settings
        else:
            places = {"train_scores": "train.csv", "test_scores": "test.csv", "pairs": "pairs.csv", "path": "videos"}
            task = {**settings, "frames": FRAMES}
        places["cache"] = "cache"
        task |= {key: str(data / place) for key, place in places.items()}
        out = data / "out"
        setups = prepare(basinet.Experiment(SMALL | {"task": task, "model": model}), out)
        simulate(setups, out, TerminalMonitor(1, quiet=True), threading.Event(), measure_replica)
        run = out / "diffusion-atc"
        task = next(iter(setups.values())).task
        with torch.no_grad():
            outputs = basinet.load(run).model(run.name)(*take(task.test, slice(0, len(TEST)))[:-1])
        found[kind] = run, dict(zip(task.names, output_of(outputs).flatten().tolist(), strict=True))
        for gone in (data / "videos", data / "images", data / "cache"):
            shutil.rmtree(gone)
    return found


@pytest.fixture
def some(files, tmp_path):
    """A folder with the test videos."""
    for name in TEST:
        shutil.copy(files / "videos" / name, tmp_path)
    return tmp_path


def scores_in(file):
    with Path(file).open(newline="", encoding="utf-8") as stream:
        head, *rows = csv.reader(stream)
    assert head == ["filename", "score"]
    return {name: float(score) for name, score in rows}


@pytest.mark.parametrize("kind", [kind for kind in TASKS if kind != "images"])
def test_videos_are_rated_as_in_the_run(kind, trained, files, some, capsys):
    run, wanted = trained[kind]
    words = [str(some), "--model", str(run), "--out", str(some / "s.csv")]
    assert main(["score", *words, "--mos", str(files / "test.csv"), "--pairs", str(files / "pairs.csv")]) == 0
    found = scores_in(some / "s.csv")
    assert list(found) == sorted(wanted)
    assert found == pytest.approx(wanted, rel=1e-5)  # a batch of one video rounds otherwise
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    measured = load_run(run).metrics[-1]
    names = {"score": "challenge_score"}
    assert {name: float(value) for name, value in printed.items()} == pytest.approx(
        {name: measured[f"test_{names.get(name, name)}"] for name in printed}, abs=1e-4
    )


def test_images_are_rated_as_in_the_run(trained, files, tmp_path, capsys):
    run, wanted = trained["images"]
    shutil.copytree(files / "images", tmp_path / "images")
    (tmp_path / "images" / "bad.jpg").write_text("no image")
    Image.new("L", (9, 9)).save(tmp_path / "images" / "small.png")
    rows = ((name, n) for n, name in enumerate(IMAGES) if name in wanted)
    truth, out = write_table(tmp_path / "truth.csv", ("image_name", "MOS"), *rows), tmp_path / "s.csv"
    assert main(["score", str(tmp_path / "images"), "--model", str(run), "--out", str(out), "--mos", truth]) == 1
    found, (printed, said) = scores_in(out), capsys.readouterr()
    assert [*found] == sorted(IMAGES)
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-5)
    assert re.search(r"basinet: \S+bad.jpg cannot be used", said) and f"(images: {len(found)})" in said
    assert "small.png has 9 × 9 pixels, too few for a crop of 16 × 16" in said
    numbers = {name: float(value) for name, value in map(str.split, printed.splitlines())}
    measured = load_run(run).metrics[-1]
    assert numbers.keys() == {"srocc", "plcc", "krocc", "plcc_fitted"}
    assert numbers == pytest.approx({name: measured[f"test_{name}"] for name in numbers}, abs=1e-4)


def test_whole_images_are_shrunk_as_in_the_task(files, tmp_path):
    folder = files / "images"
    scores = str(files / "images.csv")
    task = image_aesthetics(path=str(folder), scores=scores, scale=[0, 10], size=16, cache=str(tmp_path))
    read = file_inputs({"name": "image_aesthetics", "size": 16}).read
    for row, name in enumerate(task.names):
        assert torch.equal(read(folder / name)[0], take(task.test, slice(row, row + 1))[0])


def test_a_bad_video_does_not_lose_the_others(trained, some, capsys):
    run, wanted = trained["fragments"]
    (some / "bad.mp4").write_bytes((some / "a.mp4").read_bytes()[:200])
    (some / "text.mkv").write_text("no video")
    (some / "empty.webm").touch()
    (some / "notes.txt").write_text("left out")
    assert main(["score", str(some), "--model", str(run), "--out", str(some / "s.csv")]) == 1
    assert scores_in(some / "s.csv") == pytest.approx(wanted, rel=1e-5)
    said = capsys.readouterr().err.splitlines()
    assert any(f"{some / 's.csv'} (videos: 3; other files left out: 1)" in line for line in said)
    failed = [line for line in said if line.startswith("basinet: ")]
    assert [name in line for name, line in zip(("bad.mp4", "empty.webm", "text.mkv"), failed, strict=True)] == [
        True
    ] * 3


def test_an_interruption_loses_no_scores(trained, some, monkeypatch, capsys):
    run, wanted = trained["features"]

    def interrupted(file, count):
        if file.name == "d.avi":
            raise KeyboardInterrupt
        return read_frames(file, count)

    monkeypatch.setattr("basinet.sim.tasks.vision.file_inputs.read_frames", interrupted)
    words = ["score", str(some), "--model", str(run), "--out", str(some / "s.csv")]
    assert main(words) == 130
    assert f"scores so far: {some / 's.csv.partial'}" in capsys.readouterr().err
    first = {name: score for name, score in wanted.items() if name != "d.avi"}
    assert scores_in(some / "s.csv.partial") == pytest.approx(first, rel=1e-5) and not (some / "s.csv").exists()
    monkeypatch.undo()
    assert main(words) == 0
    assert scores_in(some / "s.csv").keys() == wanted.keys() and not (some / "s.csv.partial").exists()


@pytest.mark.parametrize(("seconds", "rows"), [(0, [3]), (10, [1, 2, 3])])
def test_scores_so_far_are_written_now_and_then(seconds, rows, trained, some, monkeypatch):
    clock, seen = iter(range(0, 1000, seconds or 1)), []
    looks = (lambda: next(clock)) if seconds else lambda: 0.0
    monkeypatch.setattr("basinet.launch.finished.scoring_files.time", SimpleNamespace(monotonic=looks))
    monkeypatch.setattr(FileScores, "write", lambda self, file: seen.append((file, len(self.scores))))
    basinet.score(some, trained["features"][0], keep=some / "kept.csv")
    assert seen == [(some / "kept.csv", count) for count in rows]


def test_a_video_to_which_an_extractor_cannot_be_applied_does_not_lose_the_others(trained, some, capsys):
    run, wanted = trained["ensemble"]
    write_video(some / "b small.mp4", 9, (16, 8))
    assert main(["score", str(some), "--model", str(run), "--out", str(some / "s.csv")]) == 1
    assert scores_in(some / "s.csv") == pytest.approx(wanted, rel=1e-5)
    failed = [line for line in capsys.readouterr().err.splitlines() if line.startswith("basinet: ")]
    said = rf"basinet: \S+b small\.mp4: extractors: {__name__}:Wide cannot be applied to images of 16 × 8 pixels: Calc"
    assert len(failed) == 1 and re.match(said, failed[0])


def test_extractors_that_changed_since_training_are_refused_or_told(trained, files, some, monkeypatch, caplog):
    run, wanted = trained["ensemble"]
    with monkeypatch.context() as patch:
        patch.setattr("basinet.sim.vision.extractors.pool.untrained", lambda name: untrained("of another version"))
        found = basinet.score(some, run)
    assert "standards: random has other weights than when" in caplog.text
    assert found.scores.keys() == wanted.keys() and found.scores != pytest.approx(wanted, rel=1e-5)
    monkeypatch.setattr(torch, "__version__", "99.0.0")
    assert basinet.score(some, run).scores == pytest.approx(wanted, rel=1e-5)
    monkeypatch.setattr(Wide, "filled", 0.2)
    kept = run / "standards.json"
    other = rf"standards: {__name__}:Wide is another extractor than when {kept} was written; allowed are the same code"
    with pytest.raises(ExperimentError, match=f"^RUN: {other}"):
        basinet.score(some, run)
    with pytest.raises(ValueError, match=f"^{other}"):
        pretrained_ensemble(path=str(files / "videos"), train_scores=str(files / "test.csv"), standards=str(kept))


def test_what_a_damaged_file_of_standards_names_is_not_imported(trained, some, tmp_path, monkeypatch):
    run = shutil.copytree(trained["ensemble"][0], tmp_path / "run")
    (tmp_path / "named_by_another.py").write_text("def f(x): return x.flatten(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    kept = run / "standards.json"
    kept.write_text(kept.read_text().replace(f"{__name__}:Wide", "named_by_another:f"))
    with pytest.raises(ExperimentError, match=r"standards\.json does not hold what the run has written there"):
        basinet.score(some, run)
    assert "named_by_another" not in sys.modules


def test_agents_have_scores_of_their_own(trained, some):
    run, wanted = trained["features"]
    seen = []
    found = basinet.score(some, run, agent=1, show=lambda done, name: seen.append((done, name)))
    assert not found.failures and found.numbers is None
    assert found.scores.keys() == wanted.keys() and found.scores != pytest.approx(wanted, rel=1e-7)
    assert seen == [(place / 3, name) for place, name in enumerate(sorted(TEST))]


def test_other_data_are_standardised_as_in_a_run(trained, files):
    kept = trained["features"][0] / "standards.json"
    own = {"path": str(files / "videos"), "cache": str(files / "cache"), "inputs": "features", "frames": FRAMES}
    same, other = (video_quality(**own, train_scores=str(files / name)) for name in ("train.csv", "test.csv"))
    given = video_quality(**own, train_scores=str(files / "test.csv"), standards=str(kept))
    assert given.kept == same.kept != other.kept
    for row in range(len(TEST)):
        shown = given.reading.inputs(read_frames(files / "videos" / TEST[row], FRAMES), "")
        for part, wanted in zip(given.train[:2], shown, strict=True):
            torch.testing.assert_close(part[row], wanted, rtol=1e-6, atol=1e-6)
    short = files / "short.json"
    short.write_text(json.dumps([{"shift": [0], "scale": [1]}] * 2))
    with pytest.raises(ValueError, match=rf"^standards: {short} is of other features than these$"):
        video_quality(**own, train_scores=str(files / "test.csv"), standards=str(short))
    with pytest.raises(ValueError, match="standards"):
        video_quality(**own | {"inputs": "fragments"}, train_scores=str(files / "test.csv"), standards=str(kept))


@pytest.mark.parametrize(
    ("case", "wrong"),
    [
        ("nowhere", r"DIR: \S+ is no folder"),
        ("no videos", r"DIR: \S+ holds no videos \(\.3gp, "),
        ("all bad", r"DIR: no video of 1 has a score: \S+ cannot be read as a video"),
        ("agent", r"agent: got 7, but \S+ has 4 agents"),
        ("unknown name", r"--mos: line 2 of \S+ has 'z\.mp4', which is no file in"),
        ("only pairs", r"--pairs: true scores are needed, too; give --mos"),
        ("no pairs", r"--pairs: \S+pairs.csv cannot be read: No such file or directory$"),
        ("one score", r"--mos: \S+ has scores of 1 video; at least two are needed"),
        ("standards", r"RUN: \S+standards\.json does not hold what the run has written there"),
        ("no standards", r"RUN: standards: \S+standards\.json cannot be read: No such file"),
        ("out", r"--out: \S+ is a folder; choose a file"),
        (
            "other task",
            r"RUN: the task of \S+ is video_quality; allowed are runs of image_quality and image_",
        ),
        ("images", r"DIR: \S+ holds no images \(\.avif, "),
        ("pairs of images", r"--pairs: \S+pairs.csv is given for images; allowed for videos alone"),
    ],
)
def test_mistakes_are_said_in_a_sentence(case, wrong, trained, files, some, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained["images" if "images" in case else "features"][0], run)
    out, more, folder = some / "s.csv", [], some
    if case in ("nowhere", "no videos", "all bad"):
        folder = tmp_path / "other"
    if case in ("no videos", "all bad"):
        folder.mkdir()
    if case == "all bad":
        (folder / "x.mp4").write_text("no video")
    elif case == "agent":
        more = ["--agent", "7"]
    elif case in ("unknown name", "one score"):
        name = "z.mp4" if case == "unknown name" else "a.mp4"
        more = ["--mos", write_table(tmp_path / "mos.csv", ("filename", "score"), (name, 3))]
    elif case in ("only pairs", "no pairs"):
        more = ["--pairs", str(tmp_path / "pairs.csv")]
        if case == "no pairs":
            more += ["--mos", write_table(tmp_path / "mos.csv", ("filename", "score"), *((name, 3) for name in TEST))]
    elif case == "standards":
        kept = run / "standards.json"
        kept.write_text(kept.read_text().replace('"shift": [', '"shift": [0.5, ', 1))
    elif case == "no standards":
        (run / "standards.json").unlink()
    elif case == "out":
        out = tmp_path
    elif case == "other task":
        monkeypatch.setattr("basinet.launch.finished.scoring_files.RATED", ("image_quality", "image_aesthetics"))
    elif case == "pairs of images":
        folder, more = files / "images", ["--pairs", str(tmp_path / "pairs.csv")]
    assert main(["score", str(folder), "--model", str(run), "--out", str(out), *more]) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(wrong, said), said
    assert not (some / "s.csv").exists()
