"""Images that runs have restored, beside those of low resolution and the true ones."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from basinet.analysis.drawing.axes import finish, new_axes
from basinet.analysis.drawing.data_checks import NoDataError, require_runs
from basinet.analysis.drawing.layout import SMALLEST
from basinet.analysis.drawing.sizes import cell_of, text_width
from basinet.analysis.drawing.style import ink, styles
from basinet.analysis.plots.vision.picture_tiles import name_tile, show_tile
from basinet.analysis.runs.restorations_of_runs import Restored, restored_images, restores_images
from basinet.analysis.runs.solution import replicas_of
from basinet.sim.run.folder import Run
from basinet.sim.vision.fidelity import fidelity

__all__ = ["MOST_RESTORED", "draw_restored", "plot_restorations"]

MOST_RESTORED = 6
"""Most runs whose images are drawn side by side."""

_LARGEST = 8.0
_GAP = 0.05  # inches
_MOST_PIXELS = 250
"""A whole image is shrunk to less than twice as many pixels along its longer side."""


def plot_restorations(
    runs: Sequence[Run], *, image: str | None = None, crop: int = 96, ax: Axes | None = None, legend: bool = True
) -> Axes:
    """Draw a test image, and a part of it in low resolution, as runs have restored it, and as it is.

    The part, marked in the whole image, is where restored images differ most from bicubic interpolation. Numbers are
    the PSNR of the luma of whole images in dB. Drawn is the centroid of the first replica that did not diverge.

    Args:
        runs: Finished runs of the task `super_resolution`, of the same scale and test images; of more than six, the
            first six are drawn.
        image: Name of the image; by default the one on which most is gained over bicubic interpolation.
        crop: Height and width of the part, in pixels of high resolution.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes.

    Raises:
        NoDataError: If no run has restored images.
    """
    require_runs(runs)
    finished = [run for run in runs if restores_images(run) and replicas_of(run)]
    found = restored_images(finished[:MOST_RESTORED], image)
    if found is None:
        raise NoDataError("no run has finished the task super_resolution, with a replica that did not diverge")
    return draw_restored(found, crop=crop, ax=new_axes(ax), legend=legend)


def draw_restored(found: Restored, ax: Axes, *, crop: int = 96, legend: bool = True) -> Axes:
    """Draw images that are restored already; see `plot_restorations`.

    Args:
        found: The images.
        ax: Where to draw.
        crop: Height and width of the part.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes.
    """
    top, left, side = _most_changed(found, crop)
    inner = (slice(top, top + side), slice(left, left + side))
    small = tuple(slice(part.start // found.scale, part.stop // found.scale) for part in inner)
    tiles = {
        "low": (found.low[:, *small], None),
        "bicubic": (found.bicubic[:, *inner], found.bicubic),
        **{label: (whole[:, *inner], whole) for label, whole in found.restored.items()},
        "truth": (found.truth[:, *inner], None),
    }
    height, width = found.truth.shape[1:]
    looks = styles(found.restored)
    rows, columns, unit, line, size = _layout(ax, len(tiles), width / height)
    step = unit + 2 * line
    whole = rows * step - 2 * line  # as high as the tiles beside it, without the last names
    across = whole * width / height
    show_tile(ax, _thumbnail(found.truth), 0, 0, across, whole)
    scale = whole / height
    for color, thickness in (("black", 2.5), ("white", 1.0)):  # one of which is seen on any image
        place, length = (left * scale, top * scale), side * scale
        ax.add_patch(Rectangle(place, length, length, fill=False, edgecolor=color, linewidth=thickness))
    name = found.name if len(found.name) <= 20 else f"{found.name[:9]}…{found.name[-10:]}"
    ax.text(across / 2, whole + line / 2, name, fontsize=size, ha="center", va="center", color=ink())
    for number, (label, (tile, restored)) in enumerate(tiles.items()):
        row, column = divmod(number, columns)
        x, y = across + _GAP + column * (unit + _GAP), row * step
        show_tile(ax, tile, x, y, unit, unit)
        middle = x + unit / 2
        name_tile(ax, label, middle, y + unit + line / 2, size, looks)
        if restored is not None:
            value = float(fidelity(restored, found.truth, found.scale, ["psnr_y"])["psnr_y"])
            text = f"{value:.2f}"
            ax.text(middle, y + unit + 1.5 * line, text, fontsize=size, ha="center", va="center", color=ink())
    ax.set_xlim(0, across + columns * (unit + _GAP))
    ax.set_ylim(rows * step, 0)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return finish(ax, legend=legend)


def _layout(ax: Axes, count: int, aspect: float) -> tuple[int, int, float, float, float]:
    """Choose rows and columns of tiles beside a whole image, the size of a tile and a line in inches, and the font."""
    width, height = (0.9 * length for length in cell_of(ax))
    best = (0, 0, 0.0, 0.0, SMALLEST)
    for rows in range(1, count + 1):
        columns = math.ceil(count / rows)
        line = 1.3 * SMALLEST / 72
        # The width is aspect · (rows · (unit + 2 line) − 2 line) + columns · (unit + gap).
        wide = (width - aspect * 2 * (rows - 1) * line - columns * _GAP) / (aspect * rows + columns)
        unit = min(wide, height / rows - 2 * line)
        if unit > best[2]:
            best = (rows, columns, unit, line, SMALLEST)
    rows, columns, unit, line, size = best
    room = 72 * unit / text_width("bicubic", 1)
    grown = min(_LARGEST, max(size, room))
    return rows, columns, unit, line * grown / size, grown


def _thumbnail(image: Tensor) -> Tensor:
    """Shrink an image that has more pixels than are seen."""
    factor = max(image.shape[1:]) // _MOST_PIXELS
    if factor < 2:
        return image
    return nn.functional.avg_pool2d(image.float(), factor).round().byte()


def _most_changed(found: Restored, crop: int) -> tuple[int, int, int]:
    """Find the square in which restored images differ most from bicubic interpolation, on the grid of small pixels."""
    scale = found.scale
    height, width = found.low.shape[1:]
    side = max(1, min(crop // scale, height, width))
    changes = sum((image.double() - found.bicubic.double()).abs().mean(0) for image in found.restored.values())
    assert isinstance(changes, Tensor)
    coarse = nn.functional.avg_pool2d(changes[None], scale)
    place = int(nn.functional.avg_pool2d(coarse, side, stride=1).argmax())
    top, left = divmod(place, width - side + 1)
    return scale * top, scale * left, scale * side
