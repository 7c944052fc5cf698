"""Phases of videos that runs have recognised: over time, and which are taken for which."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties

from basinet.analysis.drawing.axes import finish, new_axes, whole_numbers
from basinet.analysis.drawing.data_checks import NoDataError, require, require_rows, require_runs
from basinet.analysis.drawing.sizes import cell_of, shorten, text_width
from basinet.analysis.drawing.style import GREY, contrast, styles
from basinet.analysis.runs.phases_of_runs import Recognised, recognised_phases, recognises_phases
from basinet.analysis.runs.solution import replicas_of
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import Run

__all__ = ["MOST_RECOGNISED", "draw_phases", "plot_confusion", "plot_phases"]

MOST_RECOGNISED = 4
"""Most runs whose phases are drawn together."""

_MOST_NUMBERS = 100

_NAMES, _NAMES_OF_BOTH = 0.35, 0.25
"""Largest shares of the width or height of a panel that names of phases take, beside one of its axes or both."""


def plot_phases(runs: Sequence[Run], *, video: int = 0, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Draw the phases of a test video over time, and those that runs recognise in its frames.

    Drawn is the centroid of the first replica that did not diverge.

    Args:
        runs: Finished runs of the task `video_language`, tested on the same videos; of more than four, the first four
            are drawn.
        video: Number of the test video; those of transfer follow the usual ones.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes: the frames of the video by the phases.

    Raises:
        NoDataError: If no run has recognised phases.
        ExperimentError: If there is no such video.
    """
    require_runs(runs)
    finished = [run for run in runs if recognises_phases(run) and replicas_of(run)]
    found = recognised_phases(finished[:MOST_RECOGNISED])
    if found is None:
        raise NoDataError("no run has finished the task video_language with tests, and a replica that did not diverge")
    if not 0 <= video < len(found.sets):
        raise ExperimentError(f"video: got {video}; allowed are 0 to {len(found.sets) - 1}, the test videos")
    return draw_phases(found, video, new_axes(ax), legend=legend)


def draw_phases(found: Recognised, video: int, ax: Axes, *, legend: bool = True) -> Axes:
    """Draw phases that are recognised already; see `plot_phases`.

    Args:
        found: What runs recognise.
        video: Number of the test video.
        ax: Where to draw.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes.
    """
    kept = found.video == video
    phase = found.phase[kept]
    times = np.arange(len(phase))
    edges = [0, *(np.flatnonzero(np.diff(phase)) + 1).tolist(), len(phase)]
    for first, end in pairwise(edges):
        label = None if first else "true phase"
        ax.barh(
            phase[first], end - first, left=first - 0.5, height=0.9, color=GREY, alpha=0.3, linewidth=0, label=label
        )
    looks = styles(found.predicted)
    apart = 0.6 / max(1, len(looks) - 1)
    for place, (label, style) in enumerate(looks.items()):
        shift = 0.0 if len(looks) == 1 else apart * place - 0.3
        ax.plot(
            times,
            found.predicted[label][kept] + shift,
            linestyle="",
            marker=style.marker,
            markersize=3,
            color=style.color,
            label=label,
        )
    _name_ticks(ax, found.phases, "y", _NAMES)
    ax.set_ylim(len(found.phases) - 0.5, -0.5)
    ax.xaxis.set_major_locator(whole_numbers())
    ax.set(xlabel="frame", ylabel="phase")
    return finish(ax, legend=legend)


def plot_confusion(
    rows: Sequence[dict[str, Any]], *, label: str | None = None, of: str = "test", ax: Axes | None = None,
    colorbar: bool = True,
) -> Axes:  # fmt: skip
    """Draw which phases a run takes for which, in per cent of the frames of each.

    Args:
        rows: Rows from `confusion_rows`.
        label: Label of the run; by default the first.
        of: The set of the test videos.
        ax: Where to draw; new axes if None.
        colorbar: Whether to draw a colour bar.

    Returns:
        The axes: an image of phases by predicted ones.

    Raises:
        NoDataError: If there are no rows of this run and set.
    """
    require_rows(rows, "label", "set", "phase", "predicted", "frames", otherwise="no phases are recognised")
    label = rows[0]["label"] if label is None else label
    chosen = [row for row in rows if row["label"] == label and row["set"] == of]
    require(chosen, f"there are no frames of the set {of} in which {label} has recognised phases")
    phases, others = ([*dict.fromkeys(row[name] for row in chosen)] for name in ("phase", "predicted"))
    counts = np.array([row["frames"] for row in chosen], dtype=float).reshape(len(phases), len(others))
    shares = 100 * counts / counts.sum(1, keepdims=True)
    ax = new_axes(ax)
    image = ax.imshow(shares, cmap="Blues", aspect="auto", vmin=0, vmax=100, interpolation="nearest")
    if shares.size <= _MOST_NUMBERS:
        for (row, column), share in np.ndenumerate(shares):
            color = contrast(image.cmap(image.norm(share)))
            ax.text(column, row, f"{share:.0f}", color=color, ha="center", va="center", fontsize=7)
    _name_ticks(ax, others, "x", _NAMES_OF_BOTH)
    _name_ticks(ax, phases, "y", _NAMES_OF_BOTH)
    ax.set(xlabel="predicted", ylabel="phase")
    if colorbar:
        ax.figure.colorbar(image, ax=ax, label="% of the frames")
    return ax


def _name_ticks(ax: Axes, phases: Sequence[str], which: Literal["x", "y"], share: float) -> None:
    """Name the ticks of an axis by phases, shortened to a share of the panel, which they may take."""
    size = FontProperties(size="small").get_size_in_points()
    width, height = (72 * length for length in cell_of(ax))
    if which == "y":
        ax.set_yticks(range(len(phases)), [shorten(name, share * width, size) for name in phases], fontsize=size)
    elif sum(text_width(name, size) for name in phases) < width / 2:
        ax.set_xticks(range(len(phases)), phases, fontsize=size)
    else:
        names = [shorten(name, share * height, size) for name in phases]
        ax.set_xticks(range(len(phases)), names, fontsize=size, rotation=90)
