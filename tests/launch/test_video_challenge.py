"""The challenge of video quality: files of scores, and finished runs."""

import csv
import threading

import numpy as np
import pytest
from scipy import stats

import basinet
from basinet.analysis.challenges.leaderboard import SEED
from basinet.analysis.challenges.video_submissions import VIDEO_QUALITY
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.analysis.statistics.bootstrap import resamples
from basinet.launch.cli import main
from basinet.launch.progress_bar import TerminalMonitor
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import load_run
from basinet.sim.run.simulation import prepare, simulate

pytestmark = pytest.mark.usefixtures("untried")

VIDEOS = [f"{content}_{version}.mp4" for content in range(10) for version in range(4)]
NOISE = {"close": 0.1, "near": 0.3, "far": 1.5}


def write_scores(file, scores, header=("filename", "score")):
    with open(file, "w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([header, *scores.items()])


def write_pairs(file, pairs):
    rows = [(kind, a, b, better) for kind, found in pairs.items() for a, b, better in found]
    with open(file, "w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([("kind", "first", "second", "better"), *rows])


@pytest.fixture(scope="module")
def scores():
    """True scores, and those of submissions."""
    rng = np.random.default_rng(0)
    truth = dict(zip(VIDEOS, rng.uniform(1, 5, len(VIDEOS)), strict=True))
    found = {name: {v: s + noise * rng.normal() for v, s in truth.items()} for name, noise in NOISE.items()}
    return {"truth": truth, **found, "constant": dict.fromkeys(truth, 3.0)}


@pytest.fixture(scope="module")
def pairs(scores):
    truth = scores["truth"]

    def judged(a, b):
        return a, b, 1 if truth[a] > truth[b] else 2

    return {
        "source": [judged(VIDEOS[i], VIDEOS[i + 1]) for i in range(0, 40, 2)],
        "nonsource": [judged(VIDEOS[i], VIDEOS[i + 8]) for i in range(0, 32)],
    }


@pytest.fixture(scope="module")
def place(scores, pairs, tmp_path_factory):
    place = tmp_path_factory.mktemp("videos")
    for name, found in scores.items():
        write_scores(place / f"{name}.csv", found if name == "truth" else dict(reversed(found.items())))
    write_pairs(place / "pairs.csv", pairs)
    return place


@pytest.fixture(scope="module")
def board(place):
    files = (place / f"{name}.csv" for name in ("far", "constant", "close", "near"))
    return basinet.challenge("video-quality", *files, truth=place / "truth.csv", pairs=place / "pairs.csv")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has hardly begun to rate clips."""
    folder = tmp_path_factory.mktemp("run")
    task = {"name": "video_quality", "inputs": "frames", "contents": 10, "size": 32, "frames": 3, "key_frames": 1}
    experiment = basinet.Experiment(
        task=task | {"cache": str(tmp_path_factory.mktemp("cache"))},
        topology={"name": "ring", "agents": 2},
        strategy="diffusion",
        optimizer={"name": "sgd", "lr": 0.01},
        batch_size=4,
        steps=2,
        replicas=2,
        analysis=[],
        metrics=["spearman", "pearson"],
        runtime={"device": "cpu"},
    )
    setups = prepare(experiment, folder)
    simulate(setups, folder, TerminalMonitor(1, quiet=True), threading.Event(), measure_replica)
    return folder


def test_submissions_are_ranked_by_the_score_of_the_challenge(board, scores, pairs):
    assert [entry.name for entry in board.entries] == ["close.csv", "near.csv", "far.csv", "constant.csv"]
    truth = [*scores["truth"].values()]
    for entry in board.entries:
        found = scores[entry.name.removesuffix(".csv")]
        if entry.name == "constant.csv":
            correlations = [0.0, 0.0]
        else:
            correlations = [test([*found.values()], truth)[0] for test in (stats.spearmanr, stats.pearsonr)]
        right = [
            np.mean([(1 if found[a] >= found[b] else 2) == better for a, b, better in pairs[kind]])
            for kind in ("nonsource", "source")
        ]
        assert [entry.numbers[name] for name in ("srocc", "plcc", "rank_nonsource", "rank_source")] == pytest.approx(
            [*correlations, *right]
        )
        assert entry.numbers["score"] == pytest.approx(np.dot([0.45, 0.45, 0.05, 0.05], [*correlations, *right]))
    assert "constant.csv gives all videos the same score" in " ".join(board.how())


def test_the_mean_score_stands_beside_without_a_rank(board, pairs):
    """Of its equal scores, the first video of a pair counts as the better one."""
    (row,) = board.baseline_rows()
    assert (row["rank"], row["submission"], row["srocc"], row["plcc"]) == (None, "baseline: mean score", 0, 0)
    right = {kind: np.mean([better == 1 for *_, better in rows]) for kind, rows in pairs.items()}
    assert {kind: row[f"rank_{kind}"] for kind in pairs} == pytest.approx(right)
    assert row["score"] == pytest.approx(0.05 * sum(right.values()))
    assert "baseline: mean score gives all videos the same score" in " ".join(board.how())


def test_intervals_of_correlations_are_near_those_of_fisher(board):
    entry = next(entry for entry in board.entries if entry.name == "far.csv")
    low, high = (np.quantile(entry.draws["plcc"], q) for q in (0.025, 0.975))
    middle, half = np.arctanh(entry.numbers["plcc"]), 1.96 / np.sqrt(len(VIDEOS) - 3)
    assert (low, high) == pytest.approx((np.tanh(middle - half), np.tanh(middle + half)), abs=0.1)


def test_pairs_count_as_often_as_both_videos_are_drawn(board, scores, pairs):
    picked = [[VIDEOS[row] for row in rows] for rows in resamples(len(VIDEOS), seed=SEED)[:20]]
    for entry in board.entries:
        given = scores[entry.name.removesuffix(".csv")]
        for kind, rows in pairs.items():
            for drawn, value in zip(picked, entry.draws[f"rank_{kind}"], strict=False):
                met = [
                    (1 if given[a] >= given[b] else 2) == better
                    for a, b, better in rows
                    for first in drawn
                    for second in drawn
                    if (first, second) == (a, b)
                ]
                assert value == pytest.approx(np.mean(met))
        draws = entry.draws["rank_nonsource"]
        assert np.nanmean(draws) == pytest.approx(entry.numbers["rank_nonsource"], abs=0.02)
        assert ((draws >= 0) & (draws <= 1)).all()


def test_which_differences_carry(board):
    found = {(gap.better, gap.other): gap.carries for gap in board.gaps}
    assert found["close.csv", "far.csv"] and found["close.csv", "constant.csv"] and found["near.csv", "far.csv"]


def test_an_excel_file_of_pairs_is_the_same(place, pairs, board):
    from openpyxl import Workbook

    book = Workbook()
    book.remove(book.active)
    for kind, rows in pairs.items():
        sheet = book.create_sheet(kind)
        for row in [("video1", "video2", "rank"), *rows]:
            sheet.append(row)
    book.save(place / "pairs.xlsx")
    files = (place / f"{name}.csv" for name in ("near", "constant"))
    again = basinet.challenge("video-quality", *files, truth=place / "truth.csv", pairs=place / "pairs.xlsx")
    same = {entry.name: entry.numbers for entry in board.entries}
    assert all(entry.numbers == same[entry.name] for entry in again.entries)


def test_without_pairs_there_is_no_score(place, capsys):
    assert (
        main(["challenge", "video-quality", f"{place}/near.csv", f"{place}/far.csv", "--truth", f"{place}/truth.csv"])
        == 0
    )
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "There are no pairs of videos (--pairs), which the score of the challenge needs: ranked by SROCC alone." in said
    )
    board = basinet.challenge("video-quality", place / "near.csv", truth=place / "truth.csv")
    row = board.rows()[0]
    assert (board.by, row["score"], row["rank_source"], row["score_low"]) == ("srocc", None, None, None)


def test_published_results_stand_beside(place, capsys):
    words = [f"{place}/near.csv", "--truth", f"{place}/truth.csv", "--pairs", f"{place}/pairs.csv"]
    assert main(["challenge", "video-quality", *words]) == 0
    said = capsys.readouterr().out
    assert "As published, on their own data, the 854 test videos of KVQ" in " ".join(said.split())
    for team, *numbers in VIDEO_QUALITY.published.rows:
        assert team in said
        srocc, plcc, *ranks, score = map(float, numbers)
        assert 0.45 * (srocc + plcc) + 0.05 * sum(ranks) == pytest.approx(score, abs=1e-4)


FAULTS = {
    "missing": (lambda rows: rows[:-2], f"missing videos: {VIDEOS[-2]}, {VIDEOS[-1]}"),
    "extra": (lambda rows: [*rows, ("x.mp4", 1)], "videos that the truth does not have: x.mp4"),
    "twice": (lambda rows: [*rows, rows[3]], f"videos with several scores: {VIDEOS[2]}"),
    "word": (lambda rows: [*rows[:-1], (VIDEOS[-1], "good")], f"scores that are no numbers: 'good' of {VIDEOS[-1]}"),
    "blank": (lambda rows: [*rows[:-1], (VIDEOS[-1], "")], f"scores that are no numbers: '' of {VIDEOS[-1]}"),
    "nan": (lambda rows: [*rows[:-1], (VIDEOS[-1], "nan")], f"scores that are not finite: nan of {VIDEOS[-1]}"),
    "inf": (lambda rows: [*rows[:-1], (VIDEOS[-1], "-inf")], f"scores that are not finite: -inf of {VIDEOS[-1]}"),
    "long": (lambda rows: [*rows[:-1], (*rows[-1], 1)], "rows without 2 columns: row 41 has 3"),
    "header": (
        lambda rows: [("name", "score"), *rows[1:]],
        "its columns are name, score; allowed are filename and score",
    ),
    "wide": (
        lambda rows: [(*row, 1) for row in rows],
        "its columns are filename, score, 1; allowed are filename and score",
    ),
    "capitals": (
        lambda rows: [("Filename", "Score"), *rows[1:]],
        "its columns are Filename, Score; allowed are filename and score, in lower case",
    ),
    "semicolons": (
        lambda rows: [(f"{name};{score}",) for name, score in rows],
        "its columns are filename;score; allowed are filename and score, separated by a comma, not by ';'",
    ),
    "folder": (
        lambda rows: [rows[0], *((f"test/{name}", score) for name, score in rows[1:])],
        f"videos whose names have another folder or ending: test/{VIDEOS[0]} for {VIDEOS[0]}, test/{VIDEOS[1]} for"
        f" {VIDEOS[1]}, test/{VIDEOS[2]} for {VIDEOS[2]}, and 37 more",
    ),
    "ending": (
        lambda rows: [*rows[:-1], (VIDEOS[-1].removesuffix(".mp4"), 2)],
        f"videos whose names have another folder or ending: {VIDEOS[-1].removesuffix('.mp4')} for {VIDEOS[-1]}",
    ),
    "one": (lambda rows: rows[:2], "correlations need the scores of at least 2 videos, and it has 1"),
    "empty": (lambda rows: [], "its columns are none; allowed are filename and score"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_and_other_submissions_scored(place, scores, tmp_path, fault):
    spoil, sentence = FAULTS[fault]
    with open(tmp_path / "spoiled.csv", "w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows(spoil([("filename", "score"), *scores["near"].items()]))
    board = basinet.challenge("video-quality", tmp_path / "spoiled.csv", place / "far.csv", truth=place / "truth.csv")
    assert board.refused["spoiled.csv"] == (sentence,)
    assert [entry.name for entry in board.entries] == ["far.csv"]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00filename", b'filename,score\n"a,1\n'])
def test_other_files_are_no_submissions(place, tmp_path, content):
    (tmp_path / "odd.csv").write_bytes(content)
    board = basinet.challenge("video-quality", tmp_path / "odd.csv", place / "far.csv", truth=place / "truth.csv")
    where = "line 1 of 'odd.csv' is not text in UTF-8" if content.startswith(b"\xff") else ""
    assert f"no CSV file in UTF-8: {where}" in board.refused["odd.csv"][0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"source": []}, "has no source pairs, which the score needs"),
        ({"source": [("x.mp4", VIDEOS[0], 1)]}, "has 'x.mp4', which is none of the test videos"),
        ({"source": [(VIDEOS[1], VIDEOS[0], 3)]}, "allowed are 1 and 2"),
    ],
)
def test_pairs_must_be_of_the_videos(place, pairs, tmp_path, change, sentence):
    write_pairs(tmp_path / "pairs.csv", pairs | change)
    with pytest.raises(ExperimentError, match=f"^--pairs: .*{sentence}"):
        basinet.challenge("video-quality", place / "far.csv", truth=place / "truth.csv", pairs=tmp_path / "pairs.csv")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({VIDEOS[3]: 70}, r"line 5 of \S+odd\.csv has the score '70'; allowed are numbers from 1 to 5"),
        ({"": 3}, r"line 42 of \S+odd\.csv has no file name"),
    ],
)
def test_true_scores_are_read_as_those_of_the_task(place, scores, tmp_path, change, sentence):
    write_scores(tmp_path / "odd.csv", scores["truth"] | change)
    with pytest.raises(ExperimentError, match=f"^--truth: {sentence}$"):
        basinet.challenge("video-quality", place / "far.csv", truth=tmp_path / "odd.csv")


def test_a_constant_truth_ranks_nothing(place):
    with pytest.raises(ExperimentError, match=r"--truth: .*constant.csv gives all videos the same score"):
        basinet.challenge("video-quality", place / "far.csv", truth=place / "constant.csv")


def test_a_run_enters_with_what_it_has_measured(run, tmp_path):
    """Its test data are the truth; a file with its scores is its equal."""
    folder = run / "diffusion-atc"
    board = basinet.challenge("video-quality", folder, out=tmp_path / "out")
    entry = board.entries[0]
    measured = load_run(folder)
    for name, metric in {"srocc": "spearman", "plcc": "pearson"}.items():
        assert entry.numbers[name] == pytest.approx(measured.final(f"test_{metric}")[0], abs=1e-3)
    assert "diffusion-atc is the centroid of replica 0 of 2." in board.notes
    assert board.by == "score" and len(entry.items) == board.count
    write_scores(tmp_path / "same.csv", {row["video"]: row["predicted"] for row in entry.items})
    write_scores(tmp_path / "truth.csv", {row["video"]: row["truth"] for row in entry.items})
    for truth in (None, tmp_path / "truth.csv"):
        again = basinet.challenge("video-quality", tmp_path / "same.csv", run, truth=truth)
        assert [row["rank"] for row in again.rows()] == [1, 1]
        assert {entry.name for entry in again.entries} == {"same.csv", f"{run.name}/diffusion-atc"}


def test_runs_of_other_tasks_are_refused(run, place):
    board = basinet.challenge("video-quality", place / "near.csv", run, truth=place / "truth.csv")
    assert any(told.startswith("missing videos") for told in board.refused[f"{run.name}/diffusion-atc"])
    with pytest.raises(ExperimentError, match="it is no finished run of the task super_resolution"):
        basinet.challenge("super-resolution", run)
