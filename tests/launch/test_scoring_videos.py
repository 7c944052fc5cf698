"""Scores of video files by the models of finished runs, whose data are gone."""

import csv
import json
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import basinet
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.launch.cli import main
from basinet.launch.progress_bar import TerminalMonitor
from basinet.sim.data.rows import take
from basinet.sim.run.folder import load_run
from basinet.sim.run.simulation import prepare, simulate
from basinet.sim.tasks import VideoQuality, video_quality
from basinet.sim.vision.video_files import read_frames

av = pytest.importorskip("av")

FRAMES, SIZE = 3, (40, 32)
TRAIN, TEST = [f"t{n}.mp4" for n in range(4)], ["b, c.mp4", "a.mp4", "d.avi"]
MODELS = {
    "fragments": ({"grid": 2, "patch": 8}, {"name": "fragment_network", "width": 2, "depth": 1}),
    "frames": ({"crop": 16}, {"name": "frame_network", "channels": [2], "hidden": 3, "pooling": "attention"}),
    "features": ({}, {"name": "quality_perceptron", "hidden": 3}),
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


def write_video(file, seed):
    rng = np.random.default_rng(seed)
    still = rng.integers(0, 256, (SIZE[1] // 8, SIZE[0] // 8, 3)).repeat(8, 0).repeat(8, 1)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
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
    return folder


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    """For each kind of inputs a run whose data are gone, and what it predicts for its test videos."""
    found = {}
    for inputs, (settings, model) in MODELS.items():
        data = tmp_path_factory.mktemp("data")
        shutil.copytree(files, data, dirs_exist_ok=True)
        places = {"train_scores": "train.csv", "test_scores": "test.csv", "pairs": "pairs.csv", "cache": "cache"}
        task = {"name": "video_quality", "inputs": inputs, "frames": FRAMES, "path": str(data / "videos"), **settings}
        task |= {key: str(data / place) for key, place in places.items()}
        out = data / "out"
        setups = prepare(basinet.Experiment(SMALL | {"task": task, "model": model}), out)
        simulate(setups, out, TerminalMonitor(1, quiet=True), threading.Event(), measure_replica)
        run = out / "diffusion-atc"
        test = next(iter(setups.values())).task.test
        with torch.no_grad():
            outputs = basinet.load(run).model(run.name)(*take(test, slice(0, len(TEST)))[:-1])
        found[inputs] = run, dict(zip(TEST, outputs.flatten().tolist(), strict=True))
        for gone in (data / "videos", data / "cache"):
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


@pytest.mark.parametrize("inputs", MODELS)
def test_videos_are_rated_as_in_the_run(inputs, trained, files, some, capsys):
    run, wanted = trained[inputs]
    words = [str(some), "--model", str(run), "--out", str(some / "s.csv")]
    assert main(["score-videos", *words, "--mos", str(files / "test.csv"), "--pairs", str(files / "pairs.csv")]) == 0
    found = scores_in(some / "s.csv")
    assert list(found) == sorted(wanted)
    assert found == pytest.approx(wanted, rel=1e-5)  # a batch of one video rounds otherwise
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    measured = load_run(run).metrics[-1]
    names = {"score": "challenge_score"}
    assert {name: float(value) for name, value in printed.items()} == pytest.approx(
        {name: measured[f"test_{names.get(name, name)}"] for name in printed}, abs=1e-4
    )


def test_a_bad_video_does_not_lose_the_others(trained, some, capsys):
    run, wanted = trained["fragments"]
    (some / "bad.mp4").write_bytes((some / "a.mp4").read_bytes()[:200])
    (some / "text.mkv").write_text("no video")
    (some / "empty.webm").touch()
    (some / "notes.txt").write_text("left out")
    assert main(["score-videos", str(some), "--model", str(run), "--out", str(some / "s.csv")]) == 1
    assert scores_in(some / "s.csv") == pytest.approx(wanted, rel=1e-5)
    said = capsys.readouterr().err.splitlines()
    assert any(f"{some / 's.csv'} (videos: 3; other files left out: 1)" in line for line in said)
    failed = [line for line in said if line.startswith("basinet: ")]
    assert [name in line for name, line in zip(("bad.mp4", "empty.webm", "text.mkv"), failed, strict=True)] == [
        True
    ] * 3


def test_an_interruption_loses_no_scores(trained, some, monkeypatch, capsys):
    run, wanted = trained["features"]
    batch_of = VideoQuality.batch_of

    def interrupted(task, file):
        if file.name == "d.avi":
            raise KeyboardInterrupt
        return batch_of(task, file)

    monkeypatch.setattr(VideoQuality, "batch_of", interrupted)
    words = ["score-videos", str(some), "--model", str(run), "--out", str(some / "s.csv")]
    assert main(words) == 130
    assert f"scores so far: {some / 's.csv.partial'}" in capsys.readouterr().err
    first = {name: score for name, score in wanted.items() if name != "d.avi"}
    assert scores_in(some / "s.csv.partial") == pytest.approx(first, rel=1e-5) and not (some / "s.csv").exists()
    monkeypatch.undo()
    assert main(words) == 0
    assert scores_in(some / "s.csv").keys() == wanted.keys() and not (some / "s.csv.partial").exists()


def test_agents_have_scores_of_their_own(trained, some):
    run, wanted = trained["features"]
    seen = []
    found = basinet.score_videos(some, run, agent=1, show=lambda done, name: seen.append((done, name)))
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
    ],
)
def test_mistakes_are_said_in_a_sentence_and_write_nothing(case, wrong, trained, some, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained["features"][0], run)
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
    assert main(["score-videos", str(folder), "--model", str(run), "--out", str(out), *more]) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(wrong, said), said
    assert not (some / "s.csv").exists()
