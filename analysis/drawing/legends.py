"""Legends outside the axes, and marks that lie on each other, which a legend names together."""

from collections.abc import Iterator, Sequence
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

__all__ = ["SAME", "coinciding", "companion", "labelled_lines", "legend_below_panels", "merge_marks", "outside_legend"]

_NARROW = 4.5
"""Inches of width below which a legend goes under its axes: beside them, it would leave too little."""
SAME = " ≈ "
"""Joins the names of marks in one place."""
_NEAR = 0.005
"""Part of the axes' size within which one mark covers another."""
_SAFE = 0.91
"""Part of the room that a legend may fill: letters are wider where there are few pixels."""


def _legend_size() -> float:
    return FontProperties(size=rcParams["legend.fontsize"]).get_size_in_points()


def _columns(labels: Sequence[str], width: float, size: float) -> tuple[int, list[str], float]:
    """Arrange a legend so that it is low: the number of columns, the wrapped labels and the height, in points."""
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
        elif count == 1 or whole / count >= 14 * size:
            texts = [wrap_text(label, whole / count, size) for label in labels]
        else:
            break
        lines = np.array_split([text.count("\n") + 1 for text in texts], count)
        height = max(float(1.2 * size * part.sum() + gap * len(part)) for part in lines)
        arrangements.append((count, texts, height + frame))
    return min(arrangements, key=lambda arrangement: arrangement[-1])


def legend_below_panels(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Put a legend below all panels, and make the figure higher by it.

    Args:
        figure: The figure.
        handles: What is explained.
        labels: By which names; without any there is no legend.
    """
    if not labels:
        return
    width, height = figure.get_size_inches()
    count, texts, high = _columns(labels, 72 * width, _legend_size())
    figure.set_size_inches(width, height + high / 72)
    figure.legend(list(handles), texts, loc="outside lower center", ncols=count, frameon=False)


def outside_legend(ax: Axes, *, below: bool = False, title: str | None = None) -> None:
    """Put a legend beside the axes, or below them where the figure is narrow: it covers no data.

    A figure of these axes alone that the caller has not made grows by a legend below.

    Args:
        ax: Axes with labelled artists; without any there is no legend.
        below: Whether to put it below in any case.
        title: What stands above it.
    """
    handles, labels = ax.get_legend_handles_labels()
    if not labels:
        return
    figure = ax.get_figure(root=True)
    assert figure is not None
    looks: dict[str, Any] = {"frameon": False, "borderaxespad": 0.0, "title": title, "alignment": "left"}
    if not isinstance(figure.get_layout_engine(), Fitted) or ax.get_subplotspec() is None:
        ax.legend(handles, labels, loc="best")  # nobody would make room for it elsewhere
        return
    size = _legend_size()
    width, height = (72 * inches for inches in cell_of(ax))
    texts = [wrap_text(label, 0.4 * width - 3 * size, size) for label in labels]
    lines = sum(text.count("\n") + 1 for text in texts) + (1 if title else 0)
    high = 1.2 * size * lines + 0.5 * size * len(texts)
    room = height * (_SAFE if ax.get_aspect() == "auto" else 0.7)  # square axes are lower than their part
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
    """Go through what a legend names.

    Args:
        ax: The axes.

    Yields:
        Each artist that has a label and draws marks or lines at points, and its line.
    """
    for handle in ax.get_legend_handles_labels()[0]:
        line = handle[0] if isinstance(handle, ErrorbarContainer) else handle
        if isinstance(line, Line2D) and len(np.atleast_1d(line.get_xdata())):
            yield handle, line


def coinciding(ax: Axes) -> Iterator[tuple[Any, Any]]:
    """Find the labelled marks and lines that cover others.

    Args:
        ax: Axes whose limits are settled.

    Yields:
        Pairs of artists that are drawn in one place, the first one the same in all pairs of that place.
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
    """Draw once, in both colours and under both names, what would be hidden under marks in the same place.

    Their bands, and the small marks around them, are merged as well: those whose label is `companion` of theirs.

    Args:
        ax: Axes whose limits are settled.
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


def companion(label: str) -> str:
    """Name what is drawn around labelled marks, and is not in a legend.

    Args:
        label: The label of the marks.

    Returns:
        Another one.
    """
    return f"_around {label}"


def _companions(ax: Axes, label: str) -> list[Artist]:
    return [artist for artist in (*ax.lines, *ax.collections) if artist.get_label() == companion(label)]


def _points(artist: Any) -> np.ndarray:
    points = (
        artist.get_xydata() if isinstance(artist, Line2D) else np.concatenate([p.vertices for p in artist.get_paths()])
    )
    return np.asarray(points, dtype=float)


def _color_twice(artist: Artist, color: Any) -> None:
    if isinstance(artist, Line2D) and artist.get_fillstyle() == "full":
        artist.set(fillstyle="left", markerfacecoloralt=color)
        if artist.get_linestyle() not in ("None", "-"):
            artist.set_gapcolor(color)
