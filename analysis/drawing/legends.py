"""Legends outside the axes, and coinciding marks, which share a legend entry."""

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D

from basinet.analysis.drawing.layout import SMALLEST, Fitted, Sheet, place_below
from basinet.analysis.drawing.sizes import cell_of, text_width, wrap_text

__all__ = [
    "SAME",
    "coinciding",
    "companion",
    "labelled_lines",
    "legend_below_panels",
    "merge_marks",
    "outside_legend",
    "unmerged",
]

_NARROW = 4.5
"""Width in inches below which a legend goes below its axes: beside them it would leave too little room."""
SAME = " ≈ "
"""Joins the names of coinciding marks."""
_NEAR = 0.005
"""Fraction of the axes' size within which marks coincide."""
_SAFE = 0.91
"""Fraction of the room that a legend may fill: text is wider at low resolution."""


def _legend_size() -> float:
    return FontProperties(size=rcParams["legend.fontsize"]).get_size_in_points()


def _columns(labels: Sequence[str], width: float, size: float) -> tuple[int, list[str], float]:
    """Minimise the height of a legend; return the number of columns, the wrapped labels and the height in points."""
    handle = size * (rcParams["legend.handlelength"] + rcParams["legend.handletextpad"])
    frame = 2 * size * rcParams["legend.borderpad"]
    space = size * rcParams["legend.columnspacing"]
    gap = size * rcParams["legend.labelspacing"]
    natural = [text_width(label, size) for label in labels]
    arrangements = []
    for count in range(1, min(len(labels), 6) + 1):
        whole = _SAFE * width - frame - (space + handle) * count + space
        if sum(float(part.max()) for part in np.array_split(natural, count)) <= whole:
            texts = list(labels)
        elif count == 1 or whole / count >= 10 * size:
            texts = [wrap_text(label, whole / count, size) for label in labels]
        else:
            break
        lines = np.array_split([text.count("\n") + 1 for text in texts], count)
        height = max(float(1.2 * size * part.sum() + gap * len(part)) for part in lines)
        arrangements.append((count, texts, height + frame))
    return min(arrangements, key=lambda arrangement: arrangement[-1])


def legend_below_panels(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Put a legend below all panels and increase the figure's height by it.

    Args:
        figure: The figure.
        handles: The legend's artists.
        labels: Their labels; if empty, no legend is drawn.
    """
    if not labels:
        return
    width, height = figure.get_size_inches()
    count, texts, high = _columns(labels, 72 * width, _legend_size())
    figure.set_size_inches(width, height + high / 72)
    figure.legend(list(handles), texts, loc="outside lower center", ncols=count, frameon=False)


def outside_legend(ax: Axes, *, below: bool = False, title: str | None = None) -> None:
    """Put a legend beside the axes, or below them if the figure is narrow, so that it covers no data.

    A figure with only these axes that the caller has not created grows by a legend below.

    Args:
        ax: Axes with labelled artists; without any, no legend is drawn.
        below: Whether to always put it below.
        title: Title of the legend.
    """
    handles, labels = ax.get_legend_handles_labels()
    if not labels:
        return
    figure = ax.get_figure(root=True)
    assert figure is not None
    looks: dict[str, Any] = {"frameon": False, "borderaxespad": 0.0, "title": title, "alignment": "left"}
    if not isinstance(figure.get_layout_engine(), Fitted) or ax.get_subplotspec() is None:
        ax.legend(handles, labels, loc="best")  # there is no layout engine to make room outside
        return
    size = _legend_size()
    width, height = (72 * inches for inches in cell_of(ax))
    texts = [wrap_text(label, 0.4 * width - 3 * size, size) for label in labels]
    lines = sum(text.count("\n") + 1 for text in texts) + (1 if title else 0)
    high = 1.2 * size * lines + 0.5 * size * len(texts)
    room = height * (_SAFE if ax.get_aspect() == "auto" else 0.7)  # axes of fixed aspect are lower than their cell
    if not below and width >= 72 * _NARROW and high <= room:
        ax.legend(handles, texts, loc="upper left", bbox_to_anchor=(1.02, 1.0), **looks)
        return
    own = isinstance(figure, Sheet) and figure.axes == [ax]
    count, texts, high = _columns(labels, width, size)
    while not own and high > 0.5 * height and size > SMALLEST:
        size = max(size - 0.5, SMALLEST)
        count, texts, high = _columns(labels, width, size)
    if own:
        figure.set_size_inches(width / 72, (height + high) / 72)
    legend = ax.legend(handles, texts, loc="upper left", ncols=count, fontsize=size, **looks)
    place_below(ax, legend, -0.6, -0.5)


def labelled_lines(ax: Axes) -> Iterator[tuple[Any, Line2D]]:
    """Iterate over the entries of a legend.

    Args:
        ax: The axes.

    Yields:
        Each labelled artist that draws marks or lines, and its line.
    """
    for handle in ax.get_legend_handles_labels()[0]:
        line = handle[0] if isinstance(handle, ErrorbarContainer) else handle
        if isinstance(line, Line2D) and len(np.atleast_1d(line.get_xdata())):
            yield handle, line


def coinciding(ax: Axes) -> Iterator[tuple[Any, Any]]:
    """Find labelled marks and lines that coincide.

    Args:
        ax: Axes with final limits.

    Yields:
        Pairs of coinciding artists; all pairs in one place share their first artist.
    """
    kept: list[tuple[Any, Line2D, np.ndarray]] = []
    for handle, line in labelled_lines(ax):
        if line.get_transform() != ax.transData:
            continue
        places = (ax.transData - ax.transAxes).transform(np.asarray(line.get_xydata(), dtype=float))
        for first, other, there in kept:
            looks = (line.get_linestyle() == "None") == (other.get_linestyle() == "None")
            if looks and places.shape == there.shape and np.abs(places - there).max() < _NEAR:
                yield first, handle
                break
        else:
            kept.append((handle, line, places))


def merge_marks(ax: Axes) -> None:
    """Merge coinciding marks: draw them once, in both colours and under both names.

    Their bands and small marks, labelled with their `companion`, are merged as well.

    Args:
        ax: Axes with final limits.
    """
    for first, second in list(coinciding(ax)):
        line, other = (part[0] if isinstance(part, ErrorbarContainer) else part for part in (first, second))
        around = [_companions(ax, part.get_label().split(SAME)[0]) for part in (first, second)]
        for mine, theirs in zip(*around, strict=False):
            places = [(ax.transData - ax.transAxes).transform(_points(artist)) for artist in (mine, theirs)]
            if places[0].shape == places[1].shape and np.abs(places[0] - places[1]).max(initial=0) < _NEAR:
                _color_twice(mine, other.get_color())
                theirs.remove()
        first.set_label(first.get_label() + SAME + second.get_label())
        _color_twice(line, other.get_color())
        second.remove()


def unmerged(ax: Axes) -> dict[str, Any]:
    """Copy the entries of a legend before marks are merged.

    Args:
        ax: The axes.

    Returns:
        What draws the entry of each label.
    """
    found: dict[str, Any] = {}
    for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
        if isinstance(handle, ErrorbarContainer):
            line, *bars = handle
            found[label] = ErrorbarContainer((copy(line), *bars), handle.has_xerr, handle.has_yerr, label=label)
        else:
            found[label] = copy(handle)
    return found


def companion(label: str) -> str:
    """Return the label of artists that accompany labelled marks and are not in a legend.

    Args:
        label: The label of the marks.

    Returns:
        The label of their companions.
    """
    return f"_around {label}"


def _companions(ax: Axes, label: str) -> list[Artist]:
    return [artist for artist in (*ax.lines, *ax.collections) if artist.get_label() == companion(label)]


def _points(artist: Any) -> np.ndarray:
    if isinstance(artist, Line2D):
        return np.asarray(artist.get_xydata(), dtype=float)
    return np.concatenate([np.empty((0, 2)), *(path.vertices for path in artist.get_paths())])


def _color_twice(artist: Artist, color: Any) -> None:
    if isinstance(artist, Line2D) and artist.get_fillstyle() == "full":
        artist.set(fillstyle="left", markerfacecoloralt=color)
        if artist.get_linestyle() not in ("None", "-"):
            artist.set_gapcolor(color)
