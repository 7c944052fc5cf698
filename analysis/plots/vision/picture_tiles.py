"""Pictures side by side in one figure, and their names."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from basinet.analysis.drawing.sizes import text_width
from basinet.analysis.drawing.style import Style, ink

__all__ = ["name_tile", "shortened", "show_tile"]


def show_tile(ax: Axes, image: Tensor, x: float, y: float, width: float, height: float) -> None:
    """Draw an image, each of whose pixels stays a square.

    Args:
        ax: Where to draw.
        image: uint8 [3, H, W].
        x: Its left edge.
        y: Its upper edge, on an axis that points down.
        width: Its width.
        height: Its height.
    """
    ax.imshow(
        np.ascontiguousarray(image.permute(1, 2, 0).numpy()),
        extent=(x, x + width, y + height, y),
        interpolation="none",
    )


def name_tile(ax: Axes, label: str, x: float, y: float, size: float, looks: Mapping[str, Style]) -> None:
    """Write the name of an image; or draw the marker of a run, whose name is in the legend.

    Args:
        ax: Where to draw.
        label: The name, or the label of a run.
        x: The middle.
        y: The middle.
        size: Size of the font in points.
        looks: How runs look, by their labels.
    """
    if label not in looks:
        ax.text(x, y, label, fontsize=size, ha="center", va="center", color=ink())
        return
    look = looks[label]
    ax.plot([x], [y], linestyle="", marker=look.marker, color=look.color, markersize=0.7 * size, label=label)


def shortened(text: str, width: float, size: float) -> str:
    """Cut the end off a text that is too wide.

    Args:
        text: The text.
        width: The width that it may have, in points.
        size: Size of the font in points.

    Returns:
        The text, or what fits of it and an ellipsis.
    """
    if text_width(text, size) <= width:
        return text
    while text and text_width(f"{text}…", size) > width:
        text = text[:-1]
    return f"{text}…"
