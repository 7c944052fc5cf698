"""Images that finished runs have restored, and how close each is to the true one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from basinet.analysis.runs.solution import Solution, is_solved, replicas_of
from basinet.analysis.statistics.run_labels import labels
from basinet.sim.data.rows import take
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.mistakes import nearest
from basinet.sim.run.folder import Run, RunFolder
from basinet.sim.run.records import Row
from basinet.sim.tasks import SuperResolution
from basinet.sim.tasks.model_outputs import output_of
from basinet.sim.vision.fidelity import SCORES, fidelity, to_bytes
from basinet.sim.vision.self_ensemble import of_eight_views

__all__ = ["ALL", "BICUBIC", "EIGHT_VIEWS", "Restored", "restoration_rows", "restored_images", "restores_images"]

BICUBIC = "bicubic"
"""Label of bicubic interpolation."""

EIGHT_VIEWS = ", eight views"
"""End of the label of a run whose images are means over eight views."""

_TYPE = "float32"
"""Type in which images are restored, whose pixels have 8 bits."""

_OF_AGENTS = ("psnr_y", "ssim_y")
"""Scores of single agents; others take longer than their images."""

ALL = "mean"
"""Name of the mean over the images, in the place of an image."""

Scores = dict[str, list[float]]
"""Scores of each test image, and last their mean, by metric."""


@dataclass(frozen=True)
class Restored:
    """An image that runs have restored, uint8 [3, H, W] each.

    Attributes:
        name: Its name.
        scale: By how much it was enlarged.
        low: The image in low resolution.
        truth: The image in high resolution.
        bicubic: What bicubic interpolation makes of it.
        restored: What the centroid of each run makes of it, by the label of the run.
    """

    name: str
    scale: int
    low: Tensor
    truth: Tensor
    bicubic: Tensor
    restored: dict[str, Tensor]


def restores_images(run: Run) -> bool:
    """Return whether a run has finished and is one of the task `super_resolution`, with a centroid.

    Args:
        run: The run.

    Returns:
        Whether it is.
    """
    return is_solved(run, "super_resolution")


def restoration_rows(runs: Sequence[Run], *, most: int | None = None) -> list[Row]:
    """Score each test image as finished runs restore it.

    Args:
        runs: Runs; left out are those for which `restores_images` does not hold, and those in which all replicas
            diverged.
        most: Most images that single agents restore, all together: with more, the centroid alone is scored. None for
            any number, 0 for none.

    Returns:
        Rows with a `label`, that of a run or "bicubic"; `scale`; `image`, its name, or "mean"; and for each of psnr_y,
        ssim_y, psnr_rgb and ssim_rgb the mean over the replicas at the centroid. For several replicas also `_spread`,
        the standard deviation; for several agents `psnr_y_agents`, `psnr_y_low` and `psnr_y_high`, mean and range over
        those of the first replica, and the same of ssim_y.

    Raises:
        ExperimentError: A run cannot be read.
    """
    trivial: dict[tuple[Any, ...], Row] = {}
    rows: list[Row] = []
    for run, label in _finished(runs):
        found = [
            _scores(run.path, _written(run), replica, 0 if place else most)
            for place, replica in enumerate(replicas_of(run))
        ]
        first = found[0]
        for index, image in enumerate((*first.names, ALL)):
            where = {"scale": first.scale, "image": image}
            row = {"label": BICUBIC, **where, **{name: first.bicubic[name][index] for name in SCORES}}
            trivial[tuple(row.values())] = row
        rows += _rows(label, first, [each.centroid for each in found], first.agents)
        if first.views is not None:
            rows += _rows(label + EIGHT_VIEWS, first, [each.views for each in found if each.views is not None], [])
    return [*trivial.values(), *rows]


def restored_images(runs: Sequence[Run], image: str | None = None) -> Restored | None:
    """Restore a test image by finished runs, each by the centroid of its first replica that did not diverge.

    Args:
        runs: The runs; see `restoration_rows`.
        image: Name of the image; by default the one on which most is gained over bicubic interpolation.

    Returns:
        The images; None if no run restores any.

    Raises:
        ExperimentError: There is no such image, the runs restore different ones, or a run cannot be read.
    """
    finished = _finished(runs)
    if not finished:
        return None
    image = _most_gained(runs) if image is None else image
    found = {label: _restored(run.path, _written(run), replicas_of(run)[0], image) for run, label in finished}
    (label, first), *others = found.items()
    for other, parts in others:
        if parts.scale != first.scale or not torch.equal(parts.low, first.low):
            raise ExperimentError(
                f"the runs restore different images ({label} and {other}); draw those with the same scale and test"
                " images"
            )
    restored = {each: parts.restored[""] for each, parts in found.items()}
    return Restored(first.name, first.scale, first.low, first.truth, first.bicubic, restored)


def _finished(runs: Sequence[Run]) -> list[tuple[Run, str]]:
    named = zip(runs, labels(runs), strict=True)
    return [(run, label) for run, label in named if restores_images(run) and replicas_of(run)]


def _written(run: Run) -> int:
    checkpoint = RunFolder(run.path).checkpoint
    return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0


def _most_gained(runs: Sequence[Run]) -> str:
    """Choose the image on which runs gain most over bicubic interpolation."""
    gains: dict[str, float] = {}
    for row in restoration_rows(runs, most=0):
        if row["image"] != ALL:
            sign = -len(runs) if row["label"] == BICUBIC else 1
            gains[row["image"]] = gains.get(row["image"], 0.0) + sign * row["psnr_y"]
    return max(gains, key=lambda image: gains[image])


@dataclass(frozen=True)
class _Scored:
    """The scores of a replica."""

    names: tuple[str, ...]
    scale: int
    bicubic: Scores
    centroid: Scores
    views: Scores | None
    agents: list[Scores]


@lru_cache(maxsize=64)
def _scores(path: Path, written: int, replica: int, most: int | None) -> _Scored:
    """Score the images of a replica of a run, whose checkpoint was written at some time."""
    solution = Solution(path, replica, _TYPE)
    task = _task(solution, path)
    bicubic, model = _score(task, None), solution.centroid()
    centroid, views = _score(task, model), _score(task, _views(model)) if task.self_ensemble else None
    count = len(task.names) * solution.context.setup.num_agents
    agents = solution.agents() if most is None or count <= most else ()  # after the centroid, in its module
    return _Scored(
        task.names, task.scale, bicubic, centroid, views, [_score(task, model, _OF_AGENTS) for model in agents]
    )


@lru_cache(maxsize=64)
def _restored(path: Path, written: int, replica: int, image: str) -> Restored:
    """Restore an image by the centroid of a replica of a run, whose checkpoint was written at some time."""
    solution = Solution(path, replica, _TYPE)
    task = _task(solution, path)
    if image not in task.names:
        raise ExperimentError(f"image: got {image!r}; {nearest(image, task.names)}")
    batch = _batch(task, task.names.index(image))
    with torch.no_grad():
        made = (*batch, task.bicubic(batch), output_of(task.outputs(solution.centroid(), batch)))
    low, truth, bicubic, restored = (to_bytes(part)[0] for part in made)
    return Restored(image, task.scale, low, truth, bicubic, {"": restored})


def _task(solution: Solution, path: Path) -> SuperResolution:
    task = solution.task
    if not isinstance(task, SuperResolution) or task.test is None:
        raise ExperimentError(f"{path}: its task does not restore images")
    return task


def _batch(task: SuperResolution, row: int) -> tuple[Tensor, Tensor]:
    low, high = take(task.test, torch.tensor([row]))
    return low, high


def _views(model: nn.Module) -> Callable[[Tensor], Tensor]:
    return of_eight_views(lambda low: output_of(model(low)))


def _score(task: SuperResolution, model: Callable[[Tensor], Any] | None, names: Sequence[str] = SCORES) -> Scores:
    """Score what a model makes of each test image; bicubic interpolation if there is none."""
    found: Scores = {name: [] for name in names}
    for row in range(len(task.names)):
        batch = _batch(task, row)
        with torch.no_grad():
            restored = task.bicubic(batch) if model is None else output_of(task.outputs(model, batch))
        for name, value in fidelity(to_bytes(restored), to_bytes(batch[1]), task.scale, names).items():
            found[name].append(float(value))
    return {name: [*values, fmean(values)] for name, values in found.items()}


def _rows(label: str, first: _Scored, replicas: Sequence[Scores], agents: Sequence[Scores]) -> list[Row]:
    """Summarize the scores of each image over replicas and agents."""
    rows = []
    for index, image in enumerate((*first.names, ALL)):
        row: Row = {"label": label, "scale": first.scale, "image": image}
        for name in SCORES:
            values = [scores[name][index] for scores in replicas]
            row[name] = fmean(values)
            row |= {f"{name}_spread": stdev(values)} if len(values) > 1 else {}
            if len(agents) > 1 and name in _OF_AGENTS:
                own = [scores[name][index] for scores in agents]
                row |= {f"{name}_agents": fmean(own), f"{name}_low": min(own), f"{name}_high": max(own)}
        rows.append(row)
    return rows
