"""Challenges by name: what is submitted is read, checked, scored and ranked."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from basinet.analysis.challenges.image_submissions import (
    SUPER_RESOLUTION,
    Images,
    images_in,
    images_of,
    score_bicubic,
    score_images,
    truth_of,
)
from basinet.analysis.challenges.leaderboard import Challenge, Entry, Leaderboard
from basinet.analysis.challenges.submission_checks import Refused, short_names
from basinet.analysis.challenges.video_protocol import is_constant
from basinet.analysis.challenges.video_submissions import (
    VIDEO_QUALITY,
    Pairs,
    Scores,
    pairs_in,
    score_mean,
    score_videos,
    scores_in,
    scores_of,
    truth_in,
    truth_of_videos,
)
from basinet.analysis.runs.solution import Solution, Solutions, is_solved, replicas_of
from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.mistakes import first_line
from basinet.sim.run.folder import load_run, load_runs
from basinet.sim.tasks.vision.videos.video_views import KINDS

__all__ = ["CHALLENGES", "Show", "judge"]

T = TypeVar("T")

CHALLENGES: dict[str, Challenge] = {challenge.name: challenge for challenge in (SUPER_RESOLUTION, VIDEO_QUALITY)}
"""The challenges by name."""

Show = Callable[[float, str], object]
"""Called with the fraction done, from 0 to 1, and what comes next."""


def judge(
    name: str,
    submissions: Sequence[Path],
    *,
    truth: Path | None = None,
    pairs: Path | None = None,
    show: Show = lambda done, text: None,
) -> Leaderboard:
    """Score submissions to a challenge, and rank them.

    Args:
        name: Name of the challenge.
        submissions: Folders of images or CSV files; or folders of finished runs, of which the centroid answers for the
            test data.
        truth: Folder of the true images, or CSV file of the true scores; by default the test data of the first run.
        pairs: File of the pairs of videos, whose order counts.
        show: Called with the fraction done, and the name of the next submission.

    Returns:
        The leaderboard.

    Raises:
        ExperimentError: There is no such challenge, the truth cannot be used, or no submission can be scored.
    """
    if name not in CHALLENGES:
        raise ExperimentError(f"CHALLENGE: there is no challenge '{name}'; {nearest(name, CHALLENGES)}")
    if not submissions:
        raise ExperimentError("SUBMISSION: none is given; allowed is at least one")
    if name == SUPER_RESOLUTION.name:
        if pairs is not None:
            raise ExperimentError(f"--pairs: {pairs} is given for images; allowed for videos alone")
        return _judge_images(submissions, truth, show)
    return _judge_videos(submissions, truth, pairs, show)


def _judge_images(submissions: Sequence[Path], truth: Path | None, show: Show) -> Leaderboard:
    given, opened = _named(submissions), partial(_solution, Solutions())
    known, source = _truth(given.values(), truth, images_in, lambda run: truth_of(opened(run, SUPER_RESOLUTION.tasks)))
    names, images = [*given, "bicubic interpolation"], [*known.files]

    def shown(name: str) -> Images:
        def read(image: str) -> Tensor:
            show((names.index(name) + images.index(image) / len(images)) / len(names), f"{name}: {image}")
            return known.read(image)

        return replace(known, read=read)

    def score(name: str) -> Entry:
        path, true = given[name], shown(name)
        if not _is_run(path):
            return score_images(name, images_in(path, known.files), true)
        solution = opened(path, SUPER_RESOLUTION.tasks)
        if truth is None:
            own = truth_of(solution)
            if {*own.files} == {*known.files} and not all(torch.equal(own.read(i), known.read(i)) for i in own.files):
                raise Refused(f"its true images are not those of {source}; give --truth")
        return _of_replica(score_images(name, images_of(solution), true), solution)

    entries, refused = _scored(given, score)
    return Leaderboard.of(
        SUPER_RESOLUTION, "psnr_y", entries, refused, source, baseline=score_bicubic(shown(names[-1]))
    )


def _judge_videos(submissions: Sequence[Path], truth: Path | None, pairs: Path | None, show: Show) -> Leaderboard:
    given, opened = _named(submissions), partial(_solution, Solutions())

    def read(file: Path) -> tuple[Scores, Pairs]:
        return truth_in(file), {}

    (scores, met), source = _truth(
        given.values(), truth, read, lambda run: truth_of_videos(opened(run, VIDEO_QUALITY.tasks))
    )
    if is_constant([*scores.values()]):
        raise ExperimentError(f"--truth: {source} gives all videos the same score, with which nothing correlates")
    if pairs is not None:
        met = pairs_in(pairs, [*scores])
    by, names, notes = "score", [*given], list[str]()
    if not all(len(met.get(kind, ())) for kind in KINDS):
        by = "srocc"
        notes.append(
            "There are no pairs of videos (--pairs), which the score of the challenge needs: ranked by SROCC alone."
        )

    def score(name: str) -> Entry:
        path = given[name]
        show(names.index(name) / len(names), name)
        if not _is_run(path):
            return score_videos(name, scores_in(path), scores, met)
        solution = opened(path, VIDEO_QUALITY.tasks)
        if truth is None and truth_of_videos(solution)[0] != scores:
            raise Refused(f"its true scores are not those of {source}; give --truth")
        return _of_replica(score_videos(name, scores_of(solution), scores, met), solution)

    entries, refused = _scored(given, score)
    return Leaderboard.of(VIDEO_QUALITY, by, entries, refused, source, notes, score_mean(scores, met))


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").exists()


def _named(submissions: Sequence[Path]) -> dict[str, Path]:
    """Name what is submitted; each run of an experiment is a submission."""
    given: dict[str, Path] = {}
    for name, path in short_names(submissions).items():
        if (path / "experiment.yaml").exists():
            given |= {f"{name}/{run.name}": run.path for run in load_runs(path)}
        else:
            given[name] = path
    return given


def _truth(
    given: Iterable[Path], truth: Path | None, read: Callable[[Path], T], of_run: Callable[[Path], T]
) -> tuple[T, str]:
    """Read the truth, or take the test data of the first run that has some; return it with its place."""
    if truth is not None:
        try:
            found = read(truth)
            if isinstance(found, Images):
                found.faults.check()
            return found, str(truth)
        except Refused as refused:
            raise ExperimentError(f"--truth: {truth}: {refused.sentences[0]}") from None
    why = "without it, a finished run of the task must be among the submissions"
    for path in filter(_is_run, given):
        try:
            return of_run(path), f"the test data of {path}"
        except Refused as refused:
            why = f"without it, a run must have test data, but {path}: {refused.sentences[0]}"
    raise ExperimentError(f"--truth: {why}")


def _solution(solutions: Solutions, path: Path, tasks: Sequence[str]) -> Solution:
    """Open a run that has found something."""
    try:
        run = load_run(path)
        if not is_solved(run, *tasks):
            raise Refused(f"it is no finished run of the task {' or '.join(tasks)} with a centroid")
        replicas = replicas_of(run)
        if not replicas:
            raise Refused("all its replicas diverged")
        solution = solutions.open(run, replicas[0])
        solution.centroid()  # reads the checkpoint
    except (ExperimentError, OSError) as error:
        raise Refused(first_line(error)) from error
    return solution


def _of_replica(entry: Entry, solution: Solution) -> Entry:
    """Say of which replica an entry is, if there are several."""
    count = solution.context.setup.config.replicas
    remark = f"{entry.name} is the centroid of replica {solution.replica} of {count}."
    return entry if count == 1 else replace(entry, remarks=(*entry.remarks, remark))


def _scored(given: Iterable[str], score: Callable[[str], Entry]) -> tuple[list[Entry], dict[str, tuple[str, ...]]]:
    """Score submissions; return the entries, and what is wrong with the others."""
    entries, refused = [], {}
    for name in given:
        try:
            entries.append(score(name))
        except Refused as error:
            refused[name] = error.sentences
    if not entries:
        found = "; ".join(f"{name}: {sentence}" for name, told in refused.items() for sentence in told)
        raise ExperimentError(f"SUBMISSION: none can be scored: {found}")
    return entries, refused
