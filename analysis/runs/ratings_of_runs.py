"""Scores that finished runs give their test samples, beside the true ones."""

from collections.abc import Sequence

import torch

from basinet.analysis.runs.solution import Solutions, is_solved, replicas_of
from basinet.analysis.statistics.run_labels import labels
from basinet.sim.data.rows import length, take
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row
from basinet.sim.tasks import Scoring
from basinet.sim.tasks.vision.file_inputs import RATED
from basinet.sim.vision.video_files import evenly_spaced

__all__ = ["rates", "rating_rows"]

_CHUNK = 16
"""Samples that pass through a model at a time."""


def rates(run: Run) -> bool:
    """Return whether a run has finished and is one of a task of mean opinion scores, with a centroid.

    Args:
        run: The run.

    Returns:
        Whether it is.
    """
    return is_solved(run, *RATED)


def rating_rows(runs: Sequence[Run], most: int | None = None, solutions: Solutions | None = None) -> list[Row]:
    """Rate test samples by finished runs, each by the centroid of its first replica that did not diverge.

    Args:
        runs: Runs; left out are those for which `rates` does not hold, those in which all replicas diverged, and those
            without tests.
        most: Most samples that each rates, evenly spaced over the test data; None for all.
        solutions: What opens the runs; by default something new.

    Returns:
        Rows with the `label` of a run, the name of a `sample`, its scores `truth` and `predicted`, and the number of
        all test `samples`.

    Raises:
        ExperimentError: A run cannot be read.
    """
    solutions = solutions or Solutions("float32")
    rows: list[Row] = []
    for run, label in zip(runs, labels(runs), strict=True):
        if not (rates(run) and replicas_of(run)):
            continue
        solution = solutions.open(run, replicas_of(run)[0])
        task = solution.task
        if not isinstance(task, Scoring) or task.test is None:
            continue
        model, found, count = solution.centroid(), [], length(task.test)
        places = evenly_spaced(count, min(count, most or count))
        with torch.no_grad():
            for chunk in torch.split(torch.tensor(places), _CHUNK):
                batch = take(task.test, chunk)
                found.append(torch.cat(task.both_scores(task.outputs(model, batch), batch), 1))
        for place, (predicted, truth) in zip(places, torch.cat(found).tolist(), strict=True):
            rated = {"sample": task.names[place], "truth": truth, "predicted": predicted}
            rows.append({"label": label, **rated, "samples": count})
    return rows
