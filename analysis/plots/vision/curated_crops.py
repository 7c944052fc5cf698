"""Crops that curation has kept to train on, and crops that it has left out."""

import numpy as np
import torch
from matplotlib.axes import Axes

from basinet.analysis.drawing.layout import SMALLEST
from basinet.analysis.drawing.sizes import cell_of, text_width
from basinet.analysis.drawing.style import ink
from basinet.analysis.plots.vision.picture_tiles import shortened, show_tile
from basinet.sim.tasks import QualityPretraining
from basinet.sim.vision.curation import estimate_in_words
from basinet.sim.vision.video_files import evenly_spaced

__all__ = ["draw_curated"]

_LARGEST = 8.0
_GAP = 0.08  # inches


def draw_curated(task: QualityPretraining, ax: Axes, *, columns: int = 7) -> Axes:
    """Draw crops that are kept above crops that are left out, with the estimates by which they are ranked.

    Args:
        task: A task that has kept some of its crops, and left some out.
        ax: Where to draw.
        columns: Most crops of each kind, evenly spaced over all of it.

    Returns:
        The axes.
    """
    curation, crops = task.curation, task.candidates
    width = 0.9 * cell_of(ax)[0]
    lines = 1 + len(curation.estimates)
    unit = (width - 2 * _GAP) / (columns + 0.3) - _GAP
    size = min(_LARGEST, max(SMALLEST, 0.95 * 72 * unit / text_width("resolution 0.00 MP", 1)))
    line = 1.3 * size / 72
    step = unit + lines * line + 2 * _GAP
    margin = 2 * line
    for row, (title, chosen) in enumerate({"kept": curation.is_kept, "left out": ~curation.is_kept}.items()):
        places = np.flatnonzero(chosen)
        y = row * step
        ax.text(line, y + unit / 2, title, fontsize=size + 1, ha="center", va="center", rotation=90, color=ink())
        for column, place in enumerate(evenly_spaced(len(places), min(columns, len(places)))):
            candidate = int(places[place])
            x = margin + column * (unit + _GAP)
            (image,) = crops.clean(torch.tensor([candidate * len(crops.chains)]))
            show_tile(ax, image, x, y, unit, unit)
            said = [str(task.origins[candidate])]
            said += [
                f"{name} {estimate_in_words(name, found[candidate])}" for name, found in curation.estimates.items()
            ]
            for number, text in enumerate(said):
                ax.text(
                    x + unit / 2,
                    y + unit + (number + 0.6) * line,
                    shortened(text, 72 * unit, size),
                    fontsize=size,
                    ha="center",
                    va="center",
                    color=ink(),
                )
    ax.set_xlim(0, margin + columns * (unit + _GAP))
    ax.set_ylim(2 * step, 0)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax
