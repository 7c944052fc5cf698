"""The challenge of super-resolution: folders of images, and finished runs."""

import json
import math
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import basinet
from basinet.analysis.challenges.challenge_page import draw_ranking
from basinet.analysis.challenges.image_submissions import images_in, score_images
from basinet.analysis.challenges.leaderboard import Leaderboard
from basinet.analysis.drawing.legibility import illegible
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.launch.cli import main
from basinet.launch.progress_bar import TerminalMonitor
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import load_run
from basinet.sim.run.simulation import prepare, simulate
from basinet.sim.vision.photos import read_photo
from basinet.sim.vision.picture_files import Pixels, write_pixels
from basinet.sim.vision.resizing import crop_to, enlarge, shrink

pytestmark = pytest.mark.usefixtures("untried")

BICUBIC = {"astronaut": 26.844, "coins": 25.003}
NAMES = [f"{number:04d}" for number in range(801, 815)]


def enlarged(image):
    return enlarge(shrink(crop_to(image, 4), 4), 4)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """True images, and submissions that are worse and worse."""
    place = tmp_path_factory.mktemp("images")
    for folder in ("truth", "sharp", "bicubic", "noisy"):
        (place / folder).mkdir()
    photo = read_photo("chelsea")
    random = torch.Generator().manual_seed(0)
    for shift, name in enumerate(NAMES):
        true = photo[:, 9 * shift : 9 * shift + 30 + shift % 4, 20 * shift : 20 * shift + 26]
        low, true_part = enlarged(true), crop_to(true, 4)
        noise = 3 * torch.randn(low.shape, generator=random)
        for file, image in {
            f"truth/{name}.png": true,
            f"sharp/{name}.png": (0.8 * low + 0.2 * true_part).round(),
            f"bicubic/{name}x4.png": low,
            f"noisy/{name}.png": (low + noise).round().clamp(0, 255),
        }.items():
            write_pixels(place / file, Pixels(image.byte()))
    (place / "sharp" / "readme.txt").write_text("runtime per image [s] : 10")
    return place


@pytest.fixture(scope="module")
def board(place):
    return basinet.challenge(
        "super-resolution", *(place / name for name in ("noisy", "bicubic", "sharp")), truth=place / "truth"
    )


def test_bicubic_interpolation_of_photos_scores_as_published_prototypes(tmp_path):
    for folder in ("truth", "bicubic"):
        (tmp_path / folder).mkdir()
    for name in BICUBIC:
        write_pixels(tmp_path / "truth" / f"{name}.png", Pixels(read_photo(name)))
        restored = enlarged(read_photo(name))
        if name == "coins":  # which is grey
            restored = restored[:1]
        write_pixels(tmp_path / "bicubic" / f"{name}x4.png", Pixels(restored))
    entry = score_images("bicubic", images_in(tmp_path / "bicubic", BICUBIC), images_in(tmp_path / "truth"))
    assert {row["image"]: row["psnr_y"] for row in entry.items} == pytest.approx(BICUBIC, abs=0.001)
    assert entry.numbers["psnr_y"] == pytest.approx(np.mean([*BICUBIC.values()]), abs=0.001)


def test_submissions_are_ranked_by_the_mean_psnr_of_the_luma(board):
    rows = board.rows()
    assert [(row["rank"], row["submission"]) for row in rows] == [(1, "sharp"), (2, "bicubic"), (3, "noisy")]
    for entry, row in zip(board.entries, rows, strict=True):
        values = [item["psnr_y"] for item in entry.items]
        assert row["psnr_y"] == pytest.approx(np.mean(values))
        # The percentile bootstrap of a mean is close to the normal interval with the population's variance.
        half = 1.96 * np.std(values) / math.sqrt(len(values))
        assert row["psnr_y_high"] - row["psnr_y_low"] == pytest.approx(2 * half, rel=0.15)
    assert not board.refused


def test_bicubic_interpolation_stands_beside_without_a_rank(board):
    """As a submission of the same images; it has no part in the comparisons."""
    (row,) = board.baseline_rows()
    submitted = next(row for row in board.rows() if row["submission"] == "bicubic")
    assert row == submitted | {"rank": None, "submission": "baseline: bicubic interpolation"}
    assert board.cells()[1][-1][:3] == ["–", row["submission"], board.cells()[1][1][2]]
    assert board.as_json()["baseline"] == [row]


def test_differences_carry_where_each_image_is_better(board):
    assert [(gap.better, gap.other) for gap in board.gaps] == [
        ("sharp", "bicubic"),
        ("sharp", "noisy"),
        ("bicubic", "noisy"),
    ]
    assert all(gap.carries and 0 < gap.low < gap.difference < gap.high for gap in board.gaps)


def test_equal_submissions_share_a_rank_and_do_not_differ(place, tmp_path):
    again = tmp_path / "again"
    again.mkdir()
    for file in (place / "bicubic").iterdir():
        (again / file.name).write_bytes(file.read_bytes())
    board = basinet.challenge("super-resolution", place / "bicubic", again, truth=place / "truth")
    assert [row["rank"] for row in board.rows()] == [1, 1]
    (gap,) = board.gaps
    assert (gap.difference, gap.p, gap.carries) == (0, 1, False)


def test_two_images_show_no_difference(place, tmp_path):
    for folder in ("truth", "bicubic", "sharp"):
        (tmp_path / folder).mkdir()
        for file in sorted((place / folder).glob("*.png"))[:2]:
            (tmp_path / folder / file.name).write_bytes(file.read_bytes())
    board = basinet.challenge("super-resolution", tmp_path / "bicubic", tmp_path / "sharp", truth=tmp_path / "truth")
    assert [(gap.p, gap.carries) for gap in board.gaps] == [(0.5, False)]
    assert "since 2 images are few" in " ".join(board.how())


def test_a_single_image_has_no_interval(place, tmp_path):
    for folder in ("truth", "bicubic", "sharp"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0801.png").write_bytes(next((place / folder).glob("0801*.png")).read_bytes())
    board = basinet.challenge(
        "super-resolution",
        tmp_path / "bicubic",
        tmp_path / "sharp",
        truth=tmp_path / "truth",
        out=tmp_path / "out",
    )
    told = " ".join(board.how())
    assert "There are no intervals, since there is a single image." in told and "too short" not in told
    assert "percentile bootstrap" not in told
    header, cells = board.cells()
    assert header[2] == "PSNR-Y dB" and all("[" not in cell for row in cells for cell in row)
    rows = (*board.rows(), *board.gap_rows())
    ends = [value for row in rows for name, value in row.items() if name.endswith(("low", "high"))]
    assert len(ends) == 2 * 4 * 2 + 2 and {*ends} == {None}
    assert "95 %" not in (tmp_path / "out" / "report.html").read_text().split("<h2>How")[0].replace("95 % interval", "")


def test_the_truth_itself_is_infinitely_good(place, tmp_path):
    perfect = tmp_path / "perfect"
    perfect.mkdir()
    for file in (place / "truth").iterdir():
        write_pixels(perfect / file.name, Pixels(crop_to(images_in(place / "truth").read(file.stem), 4)))
    board = basinet.challenge(
        "super-resolution", place / "bicubic", perfect, truth=place / "truth", out=tmp_path / "out"
    )
    assert board.entries[0].numbers["psnr_y"] == math.inf == board.rows()[0]["psnr_y"]
    first, second, _ = board.cells()[1]
    assert first[2] == "∞ [∞, ∞]" and first[4] == "∞" and second[-2] == "∞ *"
    assert (tmp_path / "out" / "ranking.csv").read_text().splitlines()[1].startswith("1,perfect,inf,inf,inf,1.0,")
    assert not illegible(draw_ranking(board))
    assert "perfect equals the truth in 14 of 14 images" in " ".join(board.how())
    assert json.loads((tmp_path / "out" / "challenge.json").read_text())["ranking"][0]["psnr_y"] is None


def spoil(folder, fault):
    """Make a fault in a folder of images; return the sentence about it."""
    first = folder / "0801x4.png"
    pixels = np.asarray(Image.open(first))
    if fault == "missing":
        first.unlink()
        return "missing images: 0801.png"
    if fault == "many":
        for file in sorted(folder.iterdir())[:5]:
            file.unlink()
        return "missing images: 0801.png, 0802.png, 0803.png, and 2 more"
    if fault == "extra":
        (folder / "0900.png").write_bytes(first.read_bytes())
        return "images that the truth does not have: 0900.png"
    if fault == "other":
        (folder / "scores.csv").write_text("")
        return "other things than images: scores.csv"
    if fault == "twice":
        (folder / "0801.png").write_bytes(first.read_bytes())
        return "several files for an image: 0801.png and 0801x4.png"
    if fault == "text":
        first.write_text("no image")
        return "0801x4.png cannot be used: cannot identify it as an image"
    if fault == "size":
        Image.fromarray(pixels[:-1]).save(first)
        return "images of another size: 0801x4.png has 24 × 27 pixels, not 24 × 28"
    if fault == "grey":
        Image.fromarray(pixels).convert("L").save(first)
        return "grey images where the truth has colours: 0801x4.png"
    if fault == "alpha":
        Image.fromarray(pixels).convert("RGBA").save(first)
        return "0801x4.png is of the mode RGBA; save it as RGB"
    if fault == "palette":
        Image.fromarray(pixels).convert("P").save(first)
        return "0801x4.png is of the mode P; save it as RGB"
    if fault == "bits":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(first)
        return "0801x4.png cannot be used: it has more than 8 bits per channel; save it with 8 bits"
    binary = (pixels > 127).astype(np.uint8)
    assert binary.max() == 1
    Image.fromarray(binary).save(first)
    return "images of another range than 0 to 255: 0801x4.png has no value above 1"


@pytest.mark.parametrize(
    "fault",
    ["missing", "many", "extra", "other", "twice", "text", "size", "grey", "alpha", "palette", "bits", "range"],
)
def test_faults_are_named_and_other_submissions_scored(place, tmp_path, fault):
    spoiled = tmp_path / "spoiled"
    spoiled.mkdir()
    for file in (place / "bicubic").iterdir():
        (spoiled / file.name).write_bytes(file.read_bytes())
    sentence = spoil(spoiled, fault)
    board = basinet.challenge("super-resolution", spoiled, place / "bicubic", truth=place / "truth")
    (told,) = board.refused["spoiled"]
    assert told.removeprefix(f"{spoiled}/") == sentence
    assert [entry.name for entry in board.entries] == ["bicubic"]


def test_the_command_writes_tables_a_figure_and_a_page(place, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    words, truth = [str(place / name) for name in ("bicubic", "noisy")], ["--truth", str(place / "truth")]
    status = main(
        [
            "challenge",
            "super-resolution",
            *words,
            str(tmp_path / "empty"),
            "--truth",
            str(place / "truth"),
            "--out",
            str(tmp_path / "out"),
        ]
    )
    said = capsys.readouterr()
    assert status == 1
    assert "empty is refused: it holds no images" in said.err
    assert "bicubic" in said.out and "exceed 31.1 dB" in " ".join(said.out.split())
    written = {file.name for file in (tmp_path / "out").rglob("*.*")}
    assert written == {"ranking.csv", "differences.csv", "images.csv", "challenge.json", "report.html"} | {
        f"ranking.{kind}" for kind in ("png", "csv")
    }
    assert len((tmp_path / "out" / "images.csv").read_text().splitlines()) == 1 + 2 * len(NAMES)
    assert "\n,baseline: bicubic interpolation," in (tmp_path / "out" / "ranking.csv").read_text()
    assert "bicubic is first of 2:" in (tmp_path / "out" / "report.html").read_text()
    # It may be written again, but over nothing else.
    assert main(["challenge", "super-resolution", words[0], *truth, "--out", words[1]]) == 2
    assert "holds something other than a leaderboard" in capsys.readouterr().err


def test_the_figure_is_legible(board):
    assert not illegible(draw_ranking(board))
    alone = Leaderboard.of(board.challenge, board.by, board.entries[:1], {}, "here")
    assert not illegible(draw_ranking(alone))
    assert alone.gaps == ()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["super-resolutoin", "x"], "did you mean 'super-resolution'?"),
        (["super-resolution", "{place}/sharp"], "a finished run of the task must be among the submissions"),
        (["super-resolution", "{place}/sharp", "--truth", "{place}/none"], "--truth: {place}/none: there is no such"),
        (["super-resolution", "{place}/none", "--truth", "{place}/truth"], "none can be scored: none: there is no"),
        (["super-resolution", "{place}/sharp", "{place}/sharp", "--truth", "{place}/truth"], "is given twice"),
        (["super-resolution", "{place}/sharp", "--pairs", "pairs.csv"], "--pairs: pairs.csv is given for images"),
    ],
)
def test_mistakes_are_told_in_a_sentence(place, capsys, words, sentence):
    assert main(["challenge", *(word.format(place=place) for word in words)]) == 2
    assert sentence.format(place=place) in capsys.readouterr().err


def test_small_true_images_cannot_be_scored(place, tmp_path):
    write_pixels(tmp_path / "small.png", Pixels(torch.zeros(3, 18, 40, dtype=torch.uint8)))
    with pytest.raises(ExperimentError, match="at least 19 × 19"):
        basinet.challenge("super-resolution", tmp_path, truth=tmp_path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An experiment of two runs, and one with other test images."""
    folder = tmp_path_factory.mktemp("runs")
    photo = read_photo("coffee")
    for start, part in enumerate(("same", "others", "trained")):
        (folder / part).mkdir()
        for place, name in enumerate(NAMES[:3]):
            y, x = 60 * start, 80 * place
            write_pixels(folder / part / f"{name}.png", Pixels(photo[:, y : y + 66, x : x + 71]))
    (folder / "bicubic").mkdir()
    for name in NAMES[:3]:
        low = enlarged(images_in(folder / "same").read(name))
        write_pixels(folder / "bicubic" / f"{name}x4.png", Pixels(low))
    train(folder, folder / "one", "same", strategy=["diffusion", "isolated"])
    train(folder, folder / "other", "others")
    return folder


def train(folder, out, tested, strategy="diffusion", task=()):
    given = {"name": "super_resolution", "path": f"{folder}/trained", "test_path": f"{folder}/{tested}", "patch": 6}
    experiment = basinet.Experiment(
        task=given | dict(task),
        model={"name": "residual_upscaler", "features": 2, "blocks": 1},
        topology={"name": "ring", "agents": 2},
        strategy=strategy,
        optimizer={"name": "adam", "lr": 0.01},
        batch_size=4,
        steps=2,
        replicas=1,
        analysis=[],
        runtime={"device": "cpu"},
    )
    setups = prepare(experiment, out)
    simulate(setups, out, TerminalMonitor(len(setups), quiet=True), threading.Event(), measure_replica)


def test_a_run_enters_with_what_it_has_measured(runs):
    board = basinet.challenge("super-resolution", runs / "bicubic", runs / "one")
    assert not board.refused and len(board.entries) == 3
    assert f"Truth: the test data of {runs}/one/diffusion-atc." in board.notes
    for entry in board.entries:
        if entry.name == "bicubic":
            continue
        found = load_run(runs / entry.name).final("test_psnr_y")[0]
        assert entry.numbers["psnr_y"] == pytest.approx(found, abs=1e-3)  # in float64 some bytes round otherwise
    given = basinet.challenge("super-resolution", runs / "one", truth=runs / "same")
    numbers = {entry.name: entry.numbers for entry in board.entries}
    assert all(entry.numbers == numbers[entry.name] for entry in given.entries)


def test_runs_with_other_test_images_are_refused(runs):
    board = basinet.challenge("super-resolution", runs / "one", runs / "other")
    (told,) = board.refused["other/diffusion-atc"]
    assert told == f"its true images are not those of the test data of {runs}/one/diffusion-atc; give --truth"


def test_runs_with_other_images_in_low_resolution_are_refused(runs, tmp_path):
    train(runs, tmp_path / "run", "same", task={"test_degradation": ["bicubic", "blur", "noise", "jpeg"]})
    board = basinet.challenge("super-resolution", tmp_path / "run", truth=runs / "same")
    assert len(board.entries) == 1 and len(board.refused) == 3
    for (told,) in board.refused.values():
        assert "images in low resolution are not those of the challenge" in told and " differs by up to " in told


def test_damaged_runs_are_refused(place, runs, tmp_path):
    for name, lost in (("damaged", "checkpoint/state.safetensors"), ("no_status", "status.json")):
        shutil.copytree(runs / "one" / "isolated", tmp_path / name)
        (tmp_path / name / lost).unlink()
    board = basinet.challenge(
        "super-resolution", tmp_path / "damaged", tmp_path / "no_status", place / "bicubic", truth=place / "truth"
    )
    assert [entry.name for entry in board.entries] == ["bicubic"]
    assert "state.safetensors" in board.refused["damaged"][0]
    assert "status.json: the file is damaged" in board.refused["no_status"][0]
