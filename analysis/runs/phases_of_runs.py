"""Phases that finished runs recognise in the frames of test videos."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from basinet.analysis.runs.solution import Solutions, is_solved, replicas_of
from basinet.analysis.statistics.run_labels import labels
from basinet.sim.data.rows import length, take
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row
from basinet.sim.tasks import VideoLanguage

__all__ = ["Recognised", "confusion_rows", "recognised_phases", "recognises_phases"]

_CHUNK = 512
"""Frames that pass through a model at a time."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Recognised:
    """Frames of test videos in the order of time, and the phases that runs recognise in them.

    Attributes:
        phases: Names of the phases.
        sets: The set of each video.
        video: The video of each frame, [n].
        phase: Its phase.
        predicted: What the centroid of each run recognises, by the label of the run.
    """

    phases: tuple[str, ...]
    sets: tuple[str, ...]
    video: Numbers
    phase: Numbers
    predicted: dict[str, Numbers]


def recognises_phases(run: Run) -> bool:
    """Return whether a run has finished and is one of the task `video_language`, with a centroid.

    Args:
        run: The run.

    Returns:
        Whether it is.
    """
    return is_solved(run, "video_language")


def recognised_phases(runs: Sequence[Run], solutions: Solutions | None = None) -> Recognised | None:
    """Recognise phases by finished runs, each by the centroid of its first replica that did not diverge.

    Args:
        runs: Runs; left out are those for which `recognises_phases` does not hold, those in which all replicas
            diverged, and those without tests.
        solutions: What opens the runs; by default something new.

    Returns:
        What they recognise; None if no run recognises any.

    Raises:
        ExperimentError: The runs are tested on different videos, or a run cannot be read.
    """
    solutions = solutions or Solutions("float32")
    found: Recognised | None = None
    for run, label in zip(runs, labels(runs), strict=True):
        if not (recognises_phases(run) and replicas_of(run)):
            continue
        solution = solutions.open(run, replicas_of(run)[0])
        task = solution.task
        if not isinstance(task, VideoLanguage) or task.test is None:
            continue
        model, predicted = solution.centroid(), []
        with torch.no_grad():
            for first in range(0, length(task.test), _CHUNK):
                outputs = task.outputs(model, take(task.test, slice(first, first + _CHUNK)))
                predicted.append(task.predict(outputs))
        video, phase = (part.cpu().numpy() for part in (task.test.video, task.test.phase))
        own = Recognised(task.phases, task.sets, video, phase, {label: torch.cat(predicted).cpu().numpy()})
        if found is None:
            found = own
            continue
        if own.phases != found.phases or not (_equal(own.video, found.video) and _equal(own.phase, found.phase)):
            raise ExperimentError(
                f"the runs are tested on different videos ({next(iter(found.predicted))} and {label}); draw those with"
                " the same ones"
            )
        found.predicted.update(own.predicted)
    return found


def _equal(a: Numbers, b: Numbers) -> bool:
    return bool(np.array_equal(a, b))


def confusion_rows(found: Recognised) -> list[Row]:
    """Count which phases are taken for which.

    Args:
        found: What runs recognise.

    Returns:
        Rows with the `label` of a run, the `set` of the videos, a `phase`, that `predicted`, and the number of
        `frames`; those of all phases that occur, and all that could be predicted.
    """
    rows: list[Row] = []
    of_frame = np.array(found.sets)[found.video]
    count = len(found.phases)
    for label, predicted in found.predicted.items():
        for name in dict.fromkeys(found.sets):
            kept = of_frame == name
            pairs = np.bincount(found.phase[kept] * count + predicted[kept], minlength=count**2).reshape(count, count)
            for phase, counts in zip(found.phases, pairs.tolist(), strict=True):
                rows += [
                    {"label": label, "set": name, "phase": phase, "predicted": other, "frames": frames}
                    for other, frames in zip(found.phases, counts, strict=True)
                    if any(counts)
                ]
    return rows
