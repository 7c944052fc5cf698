"""Video quality as the NTIRE 2024 challenge on KVQ scores it: submissions of scores, their checks and numbers."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.analysis.challenges.leaderboard import SEED, Challenge, Entry, Published
from basinet.analysis.challenges.submission_checks import Faults, Refused, different
from basinet.analysis.challenges.video_protocol import (
    challenge_score,
    five_numbers,
    is_constant,
    pairs_right,
    plcc,
    srocc,
)
from basinet.analysis.runs.solution import Solution
from basinet.analysis.statistics.bootstrap import resamples
from basinet.sim.data.nests import Nest
from basinet.sim.data.rows import length, take
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.records import Row
from basinet.sim.tasks.loaders.csv_files import wanted_columns
from basinet.sim.tasks.model_outputs import output_of
from basinet.sim.tasks.vision.quality.ratings import Ratings, read_ratings
from basinet.sim.tasks.vision.videos.kvq_files import read_pairs
from basinet.sim.tasks.vision.videos.video_rating import VideoRating
from basinet.sim.tasks.vision.videos.video_views import KINDS
from basinet.topologies.policies.matrix_files import decode

__all__ = [
    "VIDEO_QUALITY",
    "Pairs",
    "Scores",
    "pairs_in",
    "score_mean",
    "score_videos",
    "scores_by_name",
    "scores_in",
    "scores_of",
    "truth_in",
    "truth_of_videos",
]

Scores = Mapping[str, float]
"""Scores of videos by the names of their files."""

Pairs = Mapping[str, NDArray[np.int64]]
"""Rows of pairs, of the kinds source and nonsource; see `five_numbers`."""

_COLUMNS = ["filename", "score"]
_TOGETHER = 250
"""Resamples that are ranked at once, which bounds the memory."""

VIDEO_QUALITY = Challenge(
    name="video-quality",
    title="Quality of short-form videos",
    tasks=("video_quality", "pretrained_ensemble"),
    item="video",
    protocol="Protocol of NTIRE 2024 short-form video quality (KVQ): 0.45 SROCC + 0.45 PLCC, without a logistic fit,"
    " + 0.05 of the pairs of different contents (non-source) + 0.05 of the pairs of the same content (source) that are"
    " in the right order; with equal scores, the first video of a pair counts as the better one.",
    headings={
        "score": "score",
        "srocc": "SROCC",
        "plcc": "PLCC",
        "rank_nonsource": "non-source",
        "rank_source": "source",
    },
    decimals=dict.fromkeys(("score", "srocc", "plcc", "rank_nonsource", "rank_source"), 4),
    published=Published(
        "As published, on their own data, the 854 test videos of KVQ, and not ranked with the above (NTIRE 2024,"
        " arXiv:2404.11313; table of github.com/sunwei925/RQ-VQA). RANK1 and RANK2 are the two accuracies of pairs; the"
        " source does not say which is which.",
        ("team", "SROCC", "PLCC", "RANK1", "RANK2", "score"),
        (
            ("SJTU MMLab", "0.9361", "0.9359", "0.7792", "0.8284", "0.9228"),
            ("IH-VQA (WeChat)", "0.9298", "0.9325", "0.7013", "0.8284", "0.9145"),
            ("TVQE (Tencent)", "0.9268", "0.9312", "0.6883", "0.8284", "0.9120"),
            ("BDVQAGroup (ByteDance)", "0.9275", "0.9211", "0.7489", "0.8462", "0.9116"),
            ("VideoFusion (Zhejiang U.)", "0.9026", "0.9071", "0.7186", "0.8580", "0.8932"),
        ),
    ),
)


def scores_in(file: Path) -> dict[str, float]:
    """Read scores from a CSV file.

    Args:
        file: The file, with the columns `filename` and `score` in any order.

    Returns:
        The scores by the names of the videos.

    Raises:
        Refused: It is no such file, names a video twice, or a score is no finite number.
    """
    if not file.is_file():
        raise Refused("it is no CSV file" if file.exists() else "there is no such file")
    try:
        lines = io.StringIO(decode(file.read_bytes(), file.name, "it is no CSV file in UTF-8"), newline="")
    except ValueError as error:
        raise Refused(str(error)) from None
    try:
        header, *rows = [row for row in csv.reader(lines, strict=True) if row] or [[]]
    except csv.Error as error:
        raise Refused(f"it is no CSV file in UTF-8: {error}") from None
    header = [column.strip() for column in header]
    if not {*_COLUMNS} <= {*header} or len(header) > len(_COLUMNS):
        raise Refused(f"its columns are {', '.join(header) or 'none'}; allowed are {wanted_columns(header, _COLUMNS)}")
    named, scored = map(header.index, _COLUMNS)
    faults = Faults()
    found: dict[str, float] = {}
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            faults.add(f"rows without {len(header)} columns", f"row {number} has {len(row)}")
            continue
        name, text = row[named].strip(), row[scored].strip()
        if name in found:
            faults.add("videos with several scores", name)
        try:
            found[name] = float(text)
        except ValueError:
            faults.add("scores that are no numbers", f"{text!r} of {name}")
            found[name] = 0.0
        if not math.isfinite(found[name]):
            faults.add("scores that are not finite", f"{text} of {name}")
    faults.check()
    if len(found) < 2:
        raise Refused(f"correlations need the scores of at least 2 videos, and it has {len(found)}")
    return found


def truth_in(file: Path, option: str = "--truth", folder: Path | None = None) -> dict[str, float]:
    """Read true scores.

    Args:
        file: A CSV file; see `read_ratings`.
        option: What names it on the command line, for messages.
        folder: The folder of the videos; None if they need not be there.

    Returns:
        The scores by the names of the videos.

    Raises:
        ExperimentError: It cannot be read, holds something else, or the scores of fewer than two videos.
    """
    try:
        found = read_ratings(file, folder)
    except (ImportError, ValueError) as error:
        raise ExperimentError(f"{option}: {str(error).removeprefix('video_quality: ')}") from error
    return scores_by_name(found, f"{option}: {file}")


def scores_by_name(found: Ratings, where: str, noun: str = "video") -> dict[str, float]:
    """Return scores by name, of which there have to be two to be compared with anything.

    Args:
        found: The scores.
        where: Where they are, for messages.
        noun: What they are of.

    Returns:
        The scores.

    Raises:
        ExperimentError: There are fewer.
    """
    if found.scores is None or len(found.names) < 2:
        raise ExperimentError(f"{where} has scores of {len(found.names)} {noun}; at least two are needed")
    return dict(zip(found.names, found.scores.tolist(), strict=True))


def pairs_in(file: Path, videos: Sequence[str]) -> Pairs:
    """Read pairs of videos.

    Args:
        file: The file; see `read_pairs`.
        videos: Names of the videos.

    Returns:
        The pairs, of both kinds, by the places of these.

    Raises:
        ExperimentError: It cannot be read, names other videos, or lacks a kind.
    """
    try:
        found = read_pairs(file, videos)
    except (ImportError, ValueError) as error:
        raise ExperimentError(f"--pairs: {str(error).removeprefix('video_quality: ')}") from error
    for kind in KINDS:
        if not len(found[kind]):
            raise ExperimentError(f"--pairs: {file} has no {kind} pairs, which the score needs; allowed are both kinds")
    return _arrays(found)


def _arrays(pairs: Mapping[str, Tensor]) -> Pairs:
    return {kind: rows.cpu().numpy() for kind, rows in pairs.items()}


def score_videos(name: str, submitted: Scores, truth: Scores, pairs: Pairs) -> Entry:
    """Check the scores of a submission, and score them.

    Args:
        name: Its name.
        submitted: Its scores.
        truth: The mean opinion scores.
        pairs: Pairs of videos by their places in the truth, of both kinds or none.

    Returns:
        Its numbers.

    Raises:
        Refused: Something is wrong with it.
    """
    faults = Faults()
    faults.compare({name: name for name in submitted}, {name: name for name in truth}, "videos")
    faults.add("scores that are not finite", *(video for video, s in submitted.items() if not math.isfinite(s)))
    faults.check()
    predicted, scores = np.array([submitted[video] for video in truth]), np.array([*truth.values()])
    numbers = five_numbers(predicted, scores, pairs)
    rows: list[Row] = [
        {"video": video, "predicted": float(given), "truth": float(true)}
        for video, given, true in zip(truth, predicted, scores, strict=True)
    ]
    remark = f"{name} gives all videos the same score, so that its SROCC and PLCC count as 0."
    return Entry(name, numbers, _draws(predicted, scores, pairs), rows, (remark,) if is_constant(predicted) else ())


def score_mean(truth: Scores, pairs: Pairs) -> Entry:
    """Score the mean of the true scores, given to all videos, as the baseline.

    Args:
        truth: The mean opinion scores.
        pairs: See `score_videos`.

    Returns:
        Its numbers.
    """
    return score_videos("baseline: mean score", dict.fromkeys(truth, float(np.mean([*truth.values()]))), truth, pairs)


def _draws(predicted: NDArray[np.float64], truth: NDArray[np.float64], pairs: Pairs) -> dict[str, NDArray[np.float64]]:
    """Compute the numbers in each resample of the videos, in which a pair counts as often as its videos meet."""
    count = len(truth)
    picked = resamples(count, seed=SEED)
    parts = [picked[first : first + _TOGETHER] for first in range(0, len(picked), _TOGETHER)]
    draws = {
        "srocc": np.concatenate([srocc(predicted[rows], truth[rows]) for rows in parts]),
        "plcc": np.concatenate([plcc(predicted[rows], truth[rows]) for rows in parts]),
    }
    times = np.stack([np.bincount(rows, minlength=count) for rows in picked])
    for kind in KINDS:
        rows = np.asarray(pairs.get(kind, np.zeros((0, 3), np.int64)))
        met = times[:, rows[:, 0]] * times[:, rows[:, 1]]
        with np.errstate(invalid="ignore"):
            draws[f"rank_{kind}"] = (met * pairs_right(predicted, rows)).sum(1) / met.sum(1)
    return {"score": challenge_score(draws), **draws}


def truth_of_videos(solution: Solution) -> tuple[dict[str, float], Pairs]:
    """Return the true scores and the pairs of the test videos of a run.

    Args:
        solution: A run that rates videos.

    Returns:
        The scores, and the pairs by the places of these.

    Raises:
        Refused: It has no test videos.
    """
    task = _task(solution)
    targets = [float(task.targets(batch)) for batch in _test(task)]
    return dict(zip(different(task.names), targets, strict=True)), _arrays(task.pairs)


def scores_of(solution: Solution) -> dict[str, float]:
    """Return the scores that the centroid of a run gives its test videos.

    Args:
        solution: A run that rates videos.

    Returns:
        The scores.

    Raises:
        Refused: It has no test videos.
    """
    task, model = _task(solution), solution.centroid()
    with torch.no_grad():
        found = [float(output_of(task.outputs(model, batch))) for batch in _test(task)]
    return dict(zip(task.names, found, strict=True))


def _task(solution: Solution) -> VideoRating:
    task = solution.task
    if not isinstance(task, VideoRating) or task.test is None:
        raise Refused("the task of the run has no videos to rate")
    return task


def _test(task: VideoRating) -> Iterator[Nest]:
    """Yield the test videos one by one."""
    yield from (take(task.test, slice(place, place + 1)) for place in range(length(task.test)))
