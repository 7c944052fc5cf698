"""Scores of video files by the model of a finished run."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from basinet.analysis.challenges.video_protocol import five_numbers
from basinet.analysis.challenges.video_submissions import truth_in
from basinet.launch.results import load_one
from basinet.sim.data.nests import map_nest
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.files import write_atomically
from basinet.sim.run.folder import Run, RunFolder
from basinet.sim.run.records import csv_text
from basinet.sim.tasks.kept import identities
from basinet.sim.tasks.vision.videos.kvq_files import read_pairs
from basinet.sim.tasks.vision.videos.video_quality import VideoQuality, reading_of
from basinet.sim.vision.video_files import VIDEO_SUFFIXES

__all__ = ["VideoScores", "score_videos"]


@dataclass(frozen=True)
class VideoScores:
    """Scores of the videos in a folder.

    Attributes:
        scores: The scores, by file name.
        failures: Why other videos have none, by file name.
        left_out: Number of other files, whose names do not end as those of videos do.
        numbers: The five numbers of the challenge, if the true scores were given and all those videos have a score.
    """

    scores: dict[str, float]
    failures: dict[str, str]
    left_out: int = 0
    numbers: dict[str, float] | None = None

    def write(self, file: str | Path) -> None:
        """Write the scores to a CSV file with the columns filename and score.

        Args:
            file: The file.
        """
        rows = ((name, f"{score:.9g}") for name, score in self.scores.items())
        write_atomically(Path(file), csv_text(("filename", "score"), rows))


def score_videos(
    folder: str | Path,
    model: str | Path,
    *,
    mos: str | Path | None = None,
    pairs: str | Path | None = None,
    replica: int = 0,
    agent: int | str = "centroid",
    keep: str | Path | None = None,
    show: Callable[[float, str], object] | None = None,
) -> VideoScores:
    """Rate the videos of a folder by the model of a finished run, whose training data need not be there.

    Videos are read as those that the run measured: as many frames, evenly spaced, with patches or a crop in the
    middle, or with features that are standardised by the training videos of the run.

    Args:
        folder: The folder of the videos, whose names have usual endings, such as .mp4; they are taken in the order of
            their names.
        model: The folder of a run of `video_quality`.
        mos: A CSV file with the columns filename and score of the true scores, of some of the videos.
        pairs: Pairs of these videos, as for `video_quality`, for the rank accuracies.
        replica: Number of the replica.
        agent: An agent's number, or "centroid".
        keep: A CSV file to which the scores so far are written after each video, so that none is lost if the rest is
            not rated.
        show: Called with the fraction done, and the name of the next video.

    Returns:
        The scores. A video that cannot be read has none; the others are not lost.

    Raises:
        ExperimentError: The run rates no videos, there are none, none can be read, or a file of true scores is wrong.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ExperimentError(f"DIR: {folder} is no folder")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        raise ExperimentError(f"DIR: {folder} holds no videos ({', '.join(VIDEO_SUFFIXES)})")
    truth, known = _truth(folder, mos, pairs)
    results, run = load_one(model)
    task = _task(run)
    module = results.model(run, replica, agent)
    dtype = next(module.parameters()).dtype
    scores: dict[str, float] = {}
    failures: dict[str, str] = {}
    for place, file in enumerate(videos):
        if show is not None:
            show(place / len(videos), file.name)
        try:
            batch = map_nest(lambda part: part.to(dtype), task.batch_of(file))
        except ValueError as error:
            failures[file.name] = str(error)
            continue
        except ImportError as error:
            raise ExperimentError(str(error)) from error
        with torch.no_grad():
            score = float(task.outputs(module, batch))
        if math.isfinite(score):
            scores[file.name] = score
            if keep is not None:
                VideoScores(scores, failures).write(keep)
        else:
            failures[file.name] = f"{file}: the model's score is {score}"
    if not scores:
        raise ExperimentError(f"DIR: no video of {len(videos)} has a score: {next(iter(failures.values()))}")
    numbers = None
    if truth and truth.keys() <= scores.keys():
        numbers = five_numbers([scores[name] for name in truth], [*truth.values()], known)
    return VideoScores(scores, failures, len(files) - len(videos), numbers)


def _task(run: Run) -> VideoQuality:
    """Make the task of a run without its data."""
    given = run.config["task"]
    if given["name"] != "video_quality":
        raise ExperimentError(f"RUN: the task of {run.path} is {given['name']}; allowed are runs of video_quality")
    kept, recorded = RunFolder(run.path).kept_of_task("standards"), run.status.get("kept", {})
    try:
        task = VideoQuality(train=(), reading=reading_of({**given, "standards": kept if recorded else None}))
    except ValueError as error:
        raise ExperimentError(f"RUN: {error}") from error
    if identities(task.kept) != recorded:
        raise ExperimentError(f"RUN: {kept} does not hold what the run has written there")
    return task


def _truth(
    folder: Path, mos: str | Path | None, pairs: str | Path | None
) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Read the true scores, and pairs of their videos."""
    if mos is None:
        if pairs is not None:
            raise ExperimentError("--pairs: true scores are needed, too; give --mos")
        return {}, {}
    truth = truth_in(Path(mos), "--mos", folder)
    try:
        return truth, {} if pairs is None else read_pairs(Path(pairs), [*truth])
    except (ImportError, ValueError) as error:
        raise ExperimentError(f"--pairs: {str(error).removeprefix('video_quality: ')}") from error
