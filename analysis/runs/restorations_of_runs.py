"""Images that finished runs have restored, and how close each is to the true one."""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite, isnan, nan
from statistics import fmean, stdev
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from basinet.analysis.runs.solution import Solution, Solutions, is_solved, replicas_of
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

__all__ = [
    "ALL",
    "BICUBIC",
    "EIGHT_VIEWS",
    "Restored",
    "gains",
    "opener",
    "restoration_rows",
    "restored_images",
    "restored_together",
    "restores_images",
]

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

T = TypeVar("T")

_MOST_REMEMBERED = 4096
_remembered: dict[Hashable, Any] = {}
"""Scores of replicas, and of bicubic interpolation of images, which take long."""


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


def restoration_rows(
    runs: Sequence[Run],
    *,
    most: float | None = None,
    pixels: float | None = None,
    solutions: Solutions | None = None,
) -> list[Row]:
    """Score each test image as finished runs restore it.

    Args:
        runs: Runs; left out are those for which `restores_images` does not hold, and those in which all replicas
            diverged.
        most: Most pixels that the single agents of a run restore, all together: with more, the centroid alone is
            scored. None for any number, 0 for none.
        pixels: Most pixels that a replica restores: with more, the first test images alone are scored, at least one.
            None for any number.
        solutions: What opens the runs; by default something new.

    Returns:
        Rows with a `label`, that of a run or "bicubic"; `scale`; `image`, its name, or "mean" for that of the scored
        images; for each of psnr_y, ssim_y, psnr_rgb and ssim_rgb the mean over the replicas at the centroid, NaN if an
        image has pixels that are NaN or infinite; and `images`, the number of test images. For several replicas also
        `_spread`, the standard deviation; for several agents `psnr_y_agents`, `psnr_y_low` and `psnr_y_high`, mean and
        range over those of the first replica, and the same of ssim_y.

    Raises:
        ExperimentError: A run cannot be read.
    """
    solutions = solutions or opener()
    trivial: dict[tuple[Any, ...], Row] = {}
    rows: list[Row] = []
    for run, label in _finished(runs):
        found = [
            _scores(run, replica, 0 if place else most, pixels, solutions)
            for place, replica in enumerate(replicas_of(run))
        ]
        first = found[0]
        for index, image in enumerate((*first.names, ALL)):
            where = {"scale": first.scale, "image": image}
            row = {"label": BICUBIC, **where, **{name: first.bicubic[name][index] for name in SCORES}}
            trivial[tuple(row.values())] = row | {"images": first.images}
        rows += _rows(label, first, [each.centroid for each in found], first.agents)
        if first.views is not None:
            rows += _rows(label + EIGHT_VIEWS, first, [each.views for each in found if each.views is not None], [])
    return [*trivial.values(), *rows]


def gains(rows: Sequence[Row]) -> dict[str, float]:
    """Compute how much is gained over bicubic interpolation.

    Args:
        rows: Scores, from `restoration_rows`, of one scale.

    Returns:
        The mean gain in PSNR of the luma of everything else on each image, the largest first.
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["image"] != ALL:
            found.setdefault(row["image"], []).append(row["psnr_y"])
    # Bicubic interpolation comes first.
    mean = {image: fmean(others) - bicubic for image, (bicubic, *others) in found.items()}
    return dict(sorted(mean.items(), key=lambda pair: (isnan(pair[1]), -pair[1])))


def opener() -> Solutions:
    """Return what opens runs to restore images by them."""
    return Solutions(_TYPE)


def restored_images(
    runs: Sequence[Run], image: str | None = None, solutions: Solutions | None = None
) -> Restored | None:
    """Restore a test image by finished runs, each by the centroid of its first replica that did not diverge.

    Args:
        runs: The runs; see `restoration_rows`.
        image: Name of the image; by default the one on which most is gained over bicubic interpolation.
        solutions: What opens the runs; by default something new.

    Returns:
        The images; None if no run restores any.

    Raises:
        ExperimentError: There is no such image, the runs restore different ones, or a run cannot be read.
    """
    solutions = solutions or opener()
    if not _finished(runs):
        return None
    if image is None:
        image = next(iter(gains(restoration_rows(runs, most=0, solutions=solutions))))
    return restored_together(runs, [image], solutions)[0]


def restored_together(runs: Sequence[Run], images: Sequence[str], solutions: Solutions) -> list[Restored]:
    """Restore several test images, with each run opened once; see `restored_images`.

    Args:
        runs: The runs, some of which restore images.
        images: Names of the images.
        solutions: What opens the runs.

    Returns:
        Each image.

    Raises:
        ExperimentError: There is no such image, the runs restore different ones, or a run cannot be read.
    """
    found = {label: _restored(run, images, solutions) for run, label in _finished(runs)}
    return [_joined({label: parts[place] for label, parts in found.items()}) for place in range(len(images))]


def _joined(found: dict[str, Restored]) -> Restored:
    """Join what runs have made of an image."""
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


@dataclass(frozen=True)
class _Scored:
    """The scores of a replica, on the first of some test images."""

    names: tuple[str, ...]
    images: int
    scale: int
    bicubic: Scores
    centroid: Scores
    views: Scores | None
    agents: list[Scores]


def _once(what: Hashable, make: Callable[[], T]) -> T:
    """Make something, or return it as it was made before."""
    if what not in _remembered:
        made = make()
        while len(_remembered) >= _MOST_REMEMBERED:
            del _remembered[next(iter(_remembered))]
        _remembered[what] = made
    found: T = _remembered[what]
    return found


def _scores(run: Run, replica: int, most: float | None, pixels: float | None, solutions: Solutions) -> _Scored:
    """Score the images of a replica of a run."""
    checkpoint = RunFolder(run.path).checkpoint
    written = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0

    def make() -> _Scored:
        solution = solutions.open(run, replica)
        task = _task(solution, run)
        count, total = _first(task, pixels)
        trivial = _mean([_once(_content(task, row), partial(_bicubic, task, row)) for row in range(count)])
        model = solution.centroid()
        centroid = _score(task, model, count)
        views = _score(task, _views(model), count) if task.self_ensemble else None
        total *= solution.context.setup.num_agents
        agents = solution.agents() if most is None or total <= most else ()  # after the centroid, in its module
        by_agents = [_score(task, model, count, _OF_AGENTS) for model in agents]
        return _Scored(task.names[:count], len(task.names), task.scale, trivial, centroid, views, by_agents)

    return _once((run.path, written, replica, most, pixels), make)


def _first(task: SuperResolution, pixels: float | None) -> tuple[int, int]:
    """Count the first test images that have no more pixels together, and these."""
    total = 0
    for row in range(len(task.names)):
        size = _batch(task, row)[1][0, 0].numel()
        if row and pixels is not None and total + size > pixels:
            return row, total
        total += size
    return len(task.names), total


def _content(task: SuperResolution, row: int) -> Hashable:
    """Return what tells a test image from others, whatever the run."""
    found = hashlib.blake2b(digest_size=16)
    for part in _batch(task, row):
        found.update(repr(part.shape).encode())
        found.update(to_bytes(part).numpy().tobytes())
    return BICUBIC, task.scale, found.hexdigest()


def _restored(run: Run, images: Sequence[str], solutions: Solutions) -> list[Restored]:
    """Restore images by the centroid of the first replica of a run that did not diverge."""
    solution = solutions.open(run, replicas_of(run)[0])
    task = _task(solution, run)
    model, found = solution.centroid(), []
    for image in images:
        if image not in task.names:
            raise ExperimentError(f"image: got {image!r}; {nearest(image, task.names)}")
        batch = _batch(task, task.names.index(image))
        with torch.no_grad():
            made = (*batch, task.bicubic(batch), output_of(task.outputs(model, batch)))
        if not made[-1].isfinite().all():
            raise ExperimentError(f"{run.path}: what it makes of {image} has pixels that are NaN or infinite")
        low, truth, bicubic, restored = (to_bytes(part)[0] for part in made)
        found.append(Restored(image, task.scale, low, truth, bicubic, {"": restored}))
    return found


def _task(solution: Solution, run: Run) -> SuperResolution:
    task = solution.task
    if not isinstance(task, SuperResolution) or task.test is None:
        raise ExperimentError(f"{run.path}: its task does not restore images")
    return task


def _batch(task: SuperResolution, row: int) -> tuple[Tensor, Tensor]:
    low, high = take(task.test, torch.tensor([row]))
    return low, high


def _views(model: nn.Module) -> Callable[[Tensor], Tensor]:
    return of_eight_views(lambda low: output_of(model(low)))


def _bicubic(task: SuperResolution, row: int) -> dict[str, float]:
    """Score what bicubic interpolation makes of a test image."""
    batch = _batch(task, row)
    return _fidelity(task, task.bicubic(batch), batch, SCORES)


def _score(task: SuperResolution, model: Callable[[Tensor], Any], count: int, names: Sequence[str] = SCORES) -> Scores:
    """Score what a model makes of each of the first test images."""
    found = []
    for row in range(count):
        batch = _batch(task, row)
        with torch.no_grad():
            found.append(_fidelity(task, output_of(task.outputs(model, batch)), batch, names))
    return _mean(found)


def _fidelity(
    task: SuperResolution, restored: Tensor, batch: tuple[Tensor, Tensor], names: Sequence[str]
) -> dict[str, float]:
    return {name: float(value) for name, value in fidelity(restored, batch[1], task.scale, names).items()}


def _mean(scores: Sequence[dict[str, float]]) -> Scores:
    """List the scores of images, and last their mean."""
    found = {name: [each[name] for each in scores] for name in scores[0]}
    return {name: [*values, fmean(values)] for name, values in found.items()}


def _rows(label: str, first: _Scored, replicas: Sequence[Scores], agents: Sequence[Scores]) -> list[Row]:
    """Summarize the scores of each image over replicas and agents."""
    rows = []
    for index, image in enumerate((*first.names, ALL)):
        row: Row = {"label": label, "scale": first.scale, "image": image}
        for name in SCORES:
            values = [scores[name][index] for scores in replicas]
            row[name] = fmean(values)
            if len(values) > 1:
                row[f"{name}_spread"] = stdev(values) if all(map(isfinite, values)) else nan
            if len(agents) > 1 and name in _OF_AGENTS:
                own = [scores[name][index] for scores in agents]
                row |= {f"{name}_agents": fmean(own), f"{name}_low": min(own), f"{name}_high": max(own)}
        rows.append({**row, "images": first.images})
    return rows
