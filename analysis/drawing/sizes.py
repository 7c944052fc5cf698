"""Sizes of texts and panels."""

import re
from functools import lru_cache

import numpy as np
from matplotlib import cbook
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

__all__ = ["cell_of", "overlaps", "shorten", "text_width", "wrap_text"]


@lru_cache(maxsize=4096)
def text_width(text: str, size: float) -> float:
    """Measure the width of a line of text.

    Args:
        text: The line.
        size: Size of the font in points.

    Returns:
        Its width in points.
    """
    return float(text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)[0])


def shorten(text: str, length: float, size: float) -> str:
    """Cut out the middle of a text that is too long.

    Args:
        text: The text.
        length: The length that it may have, in points.
        size: Size of the font in points.

    Returns:
        The text, or its ends around an ellipsis.
    """
    kept = len(text)
    while kept > 2 and text_width(text, size) > length:
        kept -= 1
        text = f"{text[: kept // 2]}…{text[len(text) - kept // 2 :]}"
    return text


def wrap_text(text: str, width: float, size: float) -> str:
    """Break text into lines: before a parenthesis, at spaces, after punctuation, or as a last resort within words.

    Args:
        text: The text; formulas are left as they are.
        width: Width of a line in points.
        size: Size of the font in points.

    Returns:
        The text with line breaks.
    """
    text = text.replace("\n", " ")
    if cbook.is_math_text(text) is True or "$" in text.replace(r"\$", "") or text_width(text, size) <= width:
        return text
    lines: list[str] = []
    for part in re.split(r" (?=\()", text):
        lines.append("")
        for word in re.findall(r"[^ ]+ *", part):
            pieces = [word]
            for pattern in (r"[^,_=/:;+\-]*[,_=/:;+\-]*\s*", r"\\.|."):  # at punctuation, and anywhere
                if any(text_width(piece.rstrip(), size) > width for piece in pieces):
                    pieces = [found for piece in pieces for found in re.findall(pattern, piece)]
            for piece in pieces:
                if lines[-1] and text_width((lines[-1] + piece).rstrip(), size) > width:
                    lines.append("")
                lines[-1] += piece
    return "\n".join(line.strip() for line in lines if line.strip())


def cell_of(ax: Axes) -> tuple[float, float]:
    """Measure the grid cell of axes in their figure.

    Args:
        ax: The axes.

    Returns:
        Its width and height in inches.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    width, height = figure.get_size_inches()
    spec = ax.get_subplotspec()
    if spec is None:
        place = ax.get_position()
        return float(width * place.width), float(height * place.height)
    spec = spec.get_topmost_subplotspec()
    rows, columns = spec.get_gridspec().get_geometry()
    return float(width * len(spec.colspan) / columns), float(height * len(spec.rowspan) / rows)


def overlaps(first: NDArray[np.float64], second: NDArray[np.float64], slack: float = 0.0) -> NDArray[np.bool_]:
    """Find which bounding boxes overlap, given as left, lower, right and upper edge.

    Args:
        first: Boxes, [n, 4].
        second: Boxes, [m, 4].
        slack: Width and height of an intersection that does not count.

    Returns:
        Whether each of the first overlaps each of the second, [n, m].
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    wide, tall = np.moveaxis(high - low > slack, -1, 0)
    common: NDArray[np.bool_] = np.logical_and(wide, tall)
    return common
