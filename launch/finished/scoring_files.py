"""Scores of image and video files by the model of a finished run."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from basinet.analysis.challenges.logistic_fit import krocc, plcc_fitted
from basinet.analysis.challenges.video_protocol import five_numbers, plcc, srocc
from basinet.analysis.challenges.video_submissions import scores_by_name, truth_in
from basinet.launch.results import load_one
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import first_line, place_of, reason_of
from basinet.sim.run.files import write_atomically
from basinet.sim.run.folder import Run, RunFolder
from basinet.sim.run.records import csv_text
from basinet.sim.tasks.model_outputs import output_of
from basinet.sim.tasks.vision.file_inputs import RATED, FileInputs, file_inputs
from basinet.sim.tasks.vision.quality.image_files import read_scores
from basinet.sim.tasks.vision.videos.kvq_files import read_pairs

__all__ = ["FileScores", "score"]

_SECONDS = 5
"""After which the scores so far are written again."""


@dataclass(frozen=True)
class FileScores:
    """Scores of the images or videos in a folder.

    Attributes:
        scores: The scores, by file name.
        failures: Why other files have none, by file name.
        noun: What the files are, "image" or "video".
        left_out: Number of other files, whose names do not end as those of such files do.
        numbers: How they compare with the true scores, if these were given and all those files have a score.
    """

    scores: dict[str, float]
    failures: dict[str, str]
    noun: str
    left_out: int = 0
    numbers: dict[str, float] | None = None

    def write(self, file: str | Path) -> None:
        """Write the scores to a CSV file with the columns filename and score.

        Args:
            file: The file.
        """
        rows = ((name, f"{score:.9g}") for name, score in self.scores.items())
        write_atomically(Path(file), csv_text(("filename", "score"), rows))


def score(
    folder: str | Path,
    model: str | Path,
    *,
    mos: str | Path | None = None,
    pairs: str | Path | None = None,
    replica: int = 0,
    agent: int | str = "centroid",
    keep: str | Path | None = None,
    show: Callable[[float, str], object] | None = None,
) -> FileScores:
    """Rate the images or videos of a folder by the model of a finished run, whose training data need not be there.

    Files are read as those that the run measured: images with a crop in the middle, or shrunk as a whole; videos with
    as many frames, evenly spaced, as patches or a crop in the middle; or with features, by the extractors of the run if
    it has any, which are standardised by its training videos.

    Args:
        folder: The folder of the files, whose names have usual endings, such as .jpg or .mp4; they are taken in the
            order of their names.
        model: The folder of a run of `image_quality` or `image_aesthetics`, which rates images, or of `video_quality`
            or `pretrained_ensemble`, which rates videos.
        mos: A file of the true scores of some of the files: a CSV file with the columns filename and score; of images,
            whatever their task reads, on the scale of the run.
        pairs: Pairs of these videos, as for `video_quality`, for the rank accuracies.
        replica: Number of the replica.
        agent: An agent's number, or "centroid".
        keep: A CSV file to which the scores so far are written now and then, and if the rest is not rated, so that they
            are not lost.
        show: Called with the fraction done, and the name of the next file.

    Returns:
        The scores. A file that cannot be read has none; the others are not lost.

    Raises:
        ExperimentError: The run rates no files, there are none, none can be read, or a file of true scores is wrong.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ExperimentError(f"DIR: {folder} is no folder")
    results, run = load_one(model)
    inputs = _inputs(run)
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    rated = [path for path in files if path.suffix.lower() in inputs.suffixes]
    if not rated:
        raise ExperimentError(f"DIR: {folder} holds no {inputs.noun}s ({', '.join(inputs.suffixes)})")
    truth = _Truth.read(run, inputs.noun, folder, mos, pairs)
    module = results.model(run, replica, agent)
    dtype = next(module.parameters()).dtype
    scores: dict[str, float] = {}
    failures: dict[str, str] = {}
    so_far, written, last = FileScores(scores, failures, inputs.noun), 0, time.monotonic()
    try:
        for place, file in enumerate(rated):
            if show is not None:
                show(place / len(rated), file.name)
            try:
                scores[file.name] = _score(module, [part.to(dtype) for part in inputs.read(file)], file)
            except ImportError as error:
                raise ExperimentError(str(error)) from error
            except ValueError as error:
                failures[file.name] = f"{error}{place_of(error)}"
            if keep is not None and len(scores) > written and time.monotonic() > last + _SECONDS:
                so_far.write(keep)
                written, last = len(scores), time.monotonic()
    finally:  # also if it is interrupted
        if keep is not None and len(scores) > written:
            so_far.write(keep)
    if not scores:
        raise ExperimentError(f"DIR: no {inputs.noun} of {len(rated)} has a score: {next(iter(failures.values()))}")
    return FileScores(scores, failures, inputs.noun, len(files) - len(rated), truth.compared(scores))


def _score(module: nn.Module, given: list[torch.Tensor], file: Path) -> float:
    with torch.no_grad():
        try:
            found = float(output_of(module(*given)))
        except Exception as error:  # the user's model may raise anything
            raise ValueError(f"{file}: the model cannot be applied to it: {first_line(error)}") from error
    if not math.isfinite(found):
        raise ValueError(f"{file}: the model's score is {found}")
    return found


def _inputs(run: Run) -> FileInputs:
    """Return how the model of a run sees files."""
    given = run.config["task"]
    if given["name"] not in RATED:
        raise ExperimentError(
            f"RUN: the task of {run.path} is {given['name']}; allowed are runs of {', '.join(RATED[:-1])} and"
            f" {RATED[-1]}"
        )
    recorded = run.status.get("kept", {}).get("standards")
    kept = RunFolder(run.path).kept_of_task("standards") if recorded else None
    if kept is not None:  # checked first, since it names code that is imported
        try:
            content = kept.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ExperimentError(f"RUN: standards: {kept} cannot be read: {reason_of(error)}") from error
        if digest(content) != recorded:
            raise ExperimentError(f"RUN: {kept} does not hold what the run has written there")
    try:
        return file_inputs({**given, "standards": kept})
    except (ImportError, ValueError) as error:
        raise ExperimentError(f"RUN: {error}") from error


@dataclass(frozen=True)
class _Truth:
    """True scores by file name, and the pairs of videos that are compared."""

    noun: str
    scores: dict[str, float] = field(default_factory=dict)
    pairs: dict[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def read(cls, run: Run, noun: str, folder: Path, mos: str | Path | None, pairs: str | Path | None) -> "_Truth":
        """Read true scores, and pairs of their files."""
        if pairs is not None and noun == "image":
            raise ExperimentError(f"--pairs: {pairs} is given for images; allowed for videos alone")
        if mos is None:
            if pairs is not None:
                raise ExperimentError("--pairs: true scores are needed, too; give --mos")
            return cls(noun)
        if noun == "image":
            return cls(noun, _scores_of_images(run.config["task"], Path(mos), folder))
        truth = truth_in(Path(mos), "--mos", folder)
        try:
            return cls(noun, truth, {} if pairs is None else read_pairs(Path(pairs), [*truth]))
        except (ImportError, ValueError) as error:
            raise ExperimentError(f"--pairs: {str(error).removeprefix('video_quality: ')}") from error

    def compared(self, scores: dict[str, float]) -> dict[str, float] | None:
        """Compare scores with the true ones: videos as the challenge does, images by their correlations."""
        if not self.scores or not self.scores.keys() <= scores.keys():
            return None
        both = [scores[name] for name in self.scores], [*self.scores.values()]
        if self.noun == "video":
            return five_numbers(*both, self.pairs)
        correlations = {"srocc": float(srocc(*both)), "plcc": float(plcc(*both))}
        return {**correlations, "krocc": krocc(*both), "plcc_fitted": plcc_fitted(*both)}


def _scores_of_images(task: dict[str, Any], file: Path, folder: Path) -> dict[str, float]:
    try:
        found = read_scores(task["name"], file, folder, task["scale"])
    except (ImportError, ValueError) as error:
        raise ExperimentError(f"--mos: {str(error).removeprefix(task['name'] + ': ')}") from error
    return scores_by_name(found, f"--mos: {file}", "image")
