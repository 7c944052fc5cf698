"""The figure and the table of images that runs have restored."""

import logging
from collections.abc import Sequence
from math import isnan

from basinet.analysis.drawing.choice import WIDE
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.layout import Fitted, Sheet
from basinet.analysis.drawing.panels import finish_panels
from basinet.analysis.plots.vision.restorations import MOST_RESTORED, draw_restored
from basinet.analysis.runs.restorations_of_runs import (
    ALL,
    BICUBIC,
    gains,
    opener,
    restoration_rows,
    restored_together,
    restores_images,
)
from basinet.analysis.runs.solution import Solutions, replicas_of
from basinet.analysis.statistics.ranking import leaders
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row

__all__ = ["restoration_drawing"]

_log = logging.getLogger(__name__)

_MOST_IMAGES = 3
"""Most test images in the figure."""

_MOST_PIXELS, _MOST_BY_AGENTS = 1e8, 5e7
"""Most pixels that all replicas restore together, and that the agents of a run do: some minutes of computing."""

_FEW, _LOW, _HIGH = 3, 1.6, 2.5
"""Number of runs whose parts are drawn in a row, and heights in inches of a test image and its parts in one or two."""

_HEADINGS = {
    "psnr_y": ("PSNR-Y in dB ↑", 2),
    "ssim_y": ("SSIM-Y ↑", 4),
    "psnr_rgb": ("PSNR-RGB in dB ↑", 2),
    "ssim_rgb": ("SSIM-RGB ↑", 4),
}
"""Headings of the scores, and how many decimals are shown."""


def restoration_drawing(runs: Sequence[Run]) -> Drawing | None:
    """Draw what runs make of the test images on which most is gained; its data are the scores of all test images.

    Args:
        runs: The runs; of many, the best of each strategy are drawn.

    Returns:
        The figure; None if no run restores images, if runs restore different ones, or if what they were trained on is
        not there any more.
    """
    ran = [run for run in runs if restores_images(run) and replicas_of(run)]
    count = len(ran)
    if count > MOST_RESTORED:
        ran = [ran[place] for place in leaders(ran)[:MOST_RESTORED]]
    solutions = opener()
    pixels = _MOST_PIXELS / max(1, sum(len(replicas_of(run)) for run in ran))
    ran = [run for run in ran if _readable(run, pixels, solutions)]
    if not ran:
        return None
    rows = restoration_rows(ran, most=_MOST_BY_AGENTS, pixels=pixels, solutions=solutions)
    gained = gains(rows)
    shown = [*gained][:_MOST_IMAGES]
    try:
        found = restored_together(ran, shown, solutions)
    except ExperimentError as error:
        _log.warning("restored images are not drawn: %s", error)
        return None
    figure = Sheet(figsize=(WIDE, (_LOW if len(ran) <= _FEW else _HIGH) * len(shown)), layout=Fitted())
    axes = figure.subplots(len(shown), squeeze=False).ravel().tolist()
    for image, ax in zip(found, axes, strict=True):
        draw_restored(image, ax, legend=False)
    finish_panels(figure, axes, share_x=False)
    return Drawing(
        "restorations",
        "Restored images",
        _caption(rows, count, len(ran), len(shown)),
        figure,
        rows,
        _finding(rows),
        _table(rows),
    )


def _caption(rows: Sequence[Row], count: int, drawn: int, shown: int) -> str:
    scored = _scored(rows)
    which = f"The {shown} of {scored} test images on which most is gained" if shown < scored else "The test images"
    if scored < rows[0]["images"]:
        which = f"Of the first {scored} of {rows[0]['images']} test images, the {shown} on which most is gained"
    caption = (
        f"{which}, and the part of each where restored images differ most from bicubic interpolation, in low"
        " resolution, restored by the centroids of the first replica that did not diverge, and as it is. Numbers are"
        " the PSNR of the luma of whole images in dB."
    )
    if count > drawn:
        caption += f" Drawn: {drawn} of {count} runs, the best of each strategy."
    every = "all" if scored == rows[0]["images"] else f"these {scored}"
    caption += f" The table has {every} test images, the mean over the replicas"
    caption += " ± their standard deviation" if any("psnr_y_spread" in row for row in rows) else ""
    caption += ", and mean and range over the agents of the first replica" if _by_agents(rows) else ""
    return f"{caption}."


def _scored(rows: Sequence[Row]) -> int:
    """Count the test images that were scored."""
    return len({row["image"] for row in rows} - {ALL})


def _by_agents(rows: Sequence[Row]) -> bool:
    return any("psnr_y_agents" in row for row in rows)


def _finding(rows: Sequence[Row]) -> str:
    means = {row["label"]: row["psnr_y"] for row in rows if row["image"] == ALL}
    bicubic = means.pop(BICUBIC)
    best = max(means, key=lambda label: (not isnan(means[label]), means[label]))
    few = "" if _scored(rows) == rows[0]["images"] else f" of the first {_scored(rows)} images"
    return (
        f"The largest mean PSNR of the luma{few} is {means[best]:.2f} dB, {best}; that of bicubic is {bicubic:.2f} dB."
    )


def _table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Format the scores by image, their mean first."""
    headings = ["image", "restored by", *(heading for heading, _ in _HEADINGS.values()), "agents, PSNR-Y in dB ↑"]
    mean = "mean over the images" if _scored(rows) == rows[0]["images"] else f"mean over these {_scored(rows)} images"
    order = dict.fromkeys([ALL, *(row["image"] for row in rows)])
    cells = []
    for image in order:
        for row in (row for row in rows if row["image"] == image):
            scores = [_score(row, name, digits) for name, (_, digits) in _HEADINGS.items()]
            agents = ""
            if "psnr_y_agents" in row:
                agents = f"{row['psnr_y_agents']:.2f} ({row['psnr_y_low']:.2f} to {row['psnr_y_high']:.2f})"
            cells.append([mean if image == ALL else image, row["label"], *scores, agents])
    return headings, cells


def _score(row: Row, name: str, digits: int) -> str:
    spread = row.get(f"{name}_spread")
    return f"{row[name]:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def _readable(run: Run, pixels: float, solutions: Solutions) -> bool:
    """Return whether the images of a run can be restored, for which its data and code have to be there."""
    try:
        restoration_rows([run], most=_MOST_BY_AGENTS, pixels=pixels, solutions=solutions)
    except (ExperimentError, ImportError, OSError) as error:
        _log.warning("restored images of %s are not drawn: %s", run.name, error)
        return False
    return True
