"""Test crops, what a model sees of them, and what runs predict of the rest."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from basinet.analysis.drawing.axes import finish, new_axes
from basinet.analysis.drawing.data_checks import NoDataError, require_runs
from basinet.analysis.drawing.layout import SMALLEST
from basinet.analysis.drawing.sizes import cell_of, text_width
from basinet.analysis.drawing.style import ink, styles
from basinet.analysis.plots.vision.picture_tiles import name_tile, shortened, show_tile
from basinet.analysis.runs.reconstructions_of_runs import Reconstructed, reconstructed_crops, reconstructs
from basinet.analysis.runs.solution import replicas_of
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import Run

__all__ = ["MOST_RECONSTRUCTED", "draw_reconstructed", "plot_reconstructions"]

MOST_RECONSTRUCTED = 4
"""Most runs whose predictions are drawn side by side."""

_LARGEST = 9.0
_GAP = 0.05  # inches


def plot_reconstructions(runs: Sequence[Run], *, crops: int = 4, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Draw test crops, what a model sees of them, what runs predict of the masked units, and what these are.

    Rows are crops, evenly spaced over the test data; numbers are losses of single crops. If pixels are normalised in
    each unit, predictions are drawn with the mean and the variance of the true unit. Drawn is the centroid of the first
    replica that did not diverge.

    Args:
        runs: Finished runs of the task `quality_pretraining`, of the same test crops; of more than four, the first four
            are drawn.
        crops: Number of crops.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes.

    Raises:
        NoDataError: If no run has predicted masked units.
        ExperimentError: If there are no crops to draw.
    """
    require_runs(runs)
    if crops < 1:
        raise ExperimentError(f"crops: got {crops}; allowed are 1, 2, …")
    finished = [run for run in runs if reconstructs(run) and replicas_of(run)]
    found = reconstructed_crops(finished[:MOST_RECONSTRUCTED], crops)
    if not found:
        raise NoDataError("no run has finished the task quality_pretraining, with a replica that did not diverge")
    return draw_reconstructed(found, new_axes(ax), legend=legend)


def draw_reconstructed(found: Sequence[Reconstructed], ax: Axes, *, legend: bool = True) -> Axes:
    """Draw crops whose masked units are predicted already; see `plot_reconstructions`.

    Args:
        found: The crops.
        ax: Where to draw.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes.
    """
    looks = styles(found[0].predicted)
    columns = 2 + len(looks) + (not found[0].is_clean)
    width, height = (0.9 * length for length in cell_of(ax))
    size = _LARGEST
    for _ in range(2):  # smaller letters leave more room for tiles, which are as wide as the widest name
        line = 1.3 * size / 72
        unit = min(width / columns - _GAP, (height - line) / len(found) - line - _GAP)
        size = min(_LARGEST, max(SMALLEST, 0.9 * 72 * unit / text_width("original", 1)))
    line = 1.3 * size / 72
    for row, crop in enumerate(found):
        tiles = {"original": crop.original, "seen": crop.seen, **crop.predicted}
        if not crop.is_clean:  # else the truth is the original
            tiles["truth"] = crop.truth
        y = line + row * (unit + line + _GAP)
        for column, (label, image) in enumerate(tiles.items()):
            x = column * (unit + _GAP)
            show_tile(ax, image, x, y + line, unit, unit)
            middle = x + unit / 2
            if row == 0:
                name_tile(ax, label, middle, line / 2, size, looks)
            if label in crop.losses:
                text = f"{crop.losses[label]:.3g}"
                ax.text(middle, y + line / 2, text, fontsize=size, ha="center", va="center", color=ink())
        name = shortened(f"{crop.name}, {crop.chain}", 72 * 2 * unit, size)
        ax.text(0, y + line / 2, name, fontsize=size, ha="left", va="center", color=ink())
    ax.set_xlim(0, columns * (unit + _GAP))
    ax.set_ylim(line + len(found) * (unit + line + _GAP), 0)
    ax.set_aspect("equal")
    ax.set_axis_off()
    if legend:
        ax.set_anchor("W")  # beside the legend
    return finish(ax, legend=legend)
