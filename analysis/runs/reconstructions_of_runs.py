"""What finished runs predict of the masked units of test crops, and what curation has kept to train on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from basinet.analysis.runs.solution import Solution, Solutions, is_solved, replicas_of
from basinet.analysis.statistics.run_labels import labels
from basinet.sim.data.rows import take
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import Run
from basinet.sim.tasks import QualityPretraining
from basinet.sim.tasks.model_outputs import fit, output_of
from basinet.sim.tasks.vision.quality.masked_crops import MaskedCrops, unit_pixels
from basinet.sim.vision.fidelity import to_bytes
from basinet.sim.vision.video_files import evenly_spaced

__all__ = ["Reconstructed", "pretraining_of", "reconstructed_crops", "reconstructs"]

_GREY = 0.5
"""Brightness of masked units."""


@dataclass(frozen=True)
class Reconstructed:
    """A test crop of which runs have predicted the masked units, uint8 [3, S, S] each.

    Attributes:
        name: The name of its image.
        chain: How it is degraded.
        original: The crop as it is.
        seen: What a model sees of it; masked units are grey.
        truth: What it sees, and what is to be predicted.
        predicted: What it sees, and what the centroid of each run predicts, by the label of the run.
        losses: The loss of each, by the label of the run.
        is_clean: Whether clean pixels are predicted.
        is_normalised: Whether predictions have the mean and variance of each true unit instead of their own.
    """

    name: str
    chain: str
    original: Tensor
    seen: Tensor
    truth: Tensor
    predicted: dict[str, Tensor]
    losses: dict[str, float]
    is_clean: bool
    is_normalised: bool


def reconstructs(run: Run) -> bool:
    """Return whether a run has finished and is one of the task `quality_pretraining`, with a centroid.

    Args:
        run: The run.

    Returns:
        Whether it is.
    """
    return is_solved(run, "quality_pretraining")


def reconstructed_crops(runs: Sequence[Run], count: int, solutions: Solutions | None = None) -> list[Reconstructed]:
    """Predict the masked units of test crops by finished runs, each by the centroid of its first good replica.

    Models that predict normalised pixels say nothing of the brightness and contrast of a unit, which are then those of
    the true one.

    Args:
        runs: Runs; left out are those for which `reconstructs` does not hold, and those in which all replicas diverged.
        count: Number of crops, evenly spaced over the test data, and degraded in turn by each chain.
        solutions: What opens the runs; by default something new.

    Returns:
        The crops; none if no run predicts any.

    Raises:
        ExperimentError: The runs predict different crops, or a run cannot be read.
    """
    solutions = solutions or Solutions("float32")
    found: list[Reconstructed] = []
    for run, label in zip(runs, labels(runs), strict=True):
        if not (reconstructs(run) and replicas_of(run)):
            continue
        own = _of_run(solutions.open(run, replicas_of(run)[0]), run, label, count)
        if not found:
            found = own
        elif not all(map(_equal, found, own)) or len(found) != len(own):
            raise ExperimentError(
                f"the runs predict different units of test crops ({next(iter(found[0].predicted))} and {label}); draw"
                " those of the same task and seed"
            )
        for crop, other in zip(found, own, strict=True):
            crop.predicted.update(other.predicted)
            crop.losses.update(other.losses)
    return found


def pretraining_of(run: Run, solutions: Solutions) -> QualityPretraining:
    """Make the task of a run that has finished, with its data.

    Args:
        run: The run.
        solutions: What opens it.

    Returns:
        The task.

    Raises:
        ExperimentError: The run cannot be read, or its task is another one.
    """
    return _task(solutions.open(run, replicas_of(run)[0]), run)


def _task(solution: Solution, run: Run) -> QualityPretraining:
    task = solution.task
    if not isinstance(task, QualityPretraining):
        raise ExperimentError(f"{run.path}: its task predicts no masked units")
    return task


def _equal(a: Reconstructed, b: Reconstructed) -> bool:
    return torch.equal(a.seen, b.seen) and torch.equal(a.truth, b.truth) and a.is_normalised == b.is_normalised


def _of_run(solution: Solution, run: Run, label: str, count: int) -> list[Reconstructed]:
    task, model, found = _task(solution, run), solution.centroid(), []
    data = task.test
    assert isinstance(data, MaskedCrops)
    chains = len(data.chains)
    crops = len(data) // chains
    for place, each in enumerate(evenly_spaced(crops, min(count, crops))):
        row = each * chains + place % chains  # degraded in turn by each chain
        rows = torch.tensor([row])
        batch: Any = take(data, rows)
        units, places, wanted, targets = batch
        with torch.no_grad():
            outputs = fit(output_of(task.outputs(model, batch)), targets.shape, "the model returns outputs")
            loss = float(task.loss(outputs, batch).mean())
        if not outputs.isfinite().all():
            raise ExperimentError(f"{run.path}: what it predicts of {task.tested[row]} is NaN or infinite")
        truth = data.fetch(rows)[3].to(targets.dtype) / 255
        pixels = unit_pixels(outputs, truth, normalised=task.normalised)
        parts = (truth.new_full(truth.shape, _GREY), truth, pixels)
        seen, true, predicted = (_image(units, places, masked, wanted) for masked in parts)
        chain = "+".join(data.chains[row % chains])
        clean = data.target == "clean"
        crop = Reconstructed(
            str(task.tested[row]),
            chain,
            data.clean(rows)[0],
            seen,
            true,
            {label: predicted},
            {label: loss},
            clean,
            bool(task.normalised),
        )
        found.append(crop)
    return found


def _image(units: Tensor, places: Tensor, masked: Tensor, wanted: Tensor) -> Tensor:
    """Put the units of one crop at their places, uint8 [3, S, S]."""
    order = torch.cat([places, wanted], 1)[0].argsort()
    whole = torch.cat([units, masked], 1)[0, order]
    across = round(len(whole) ** 0.5)
    rows = torch.unflatten(whole, 0, (across, across)).permute(2, 0, 3, 1, 4)
    return to_bytes(rows.flatten(3).flatten(1, 2))
