"""Legibility of figures: nothing cut off, overlapping or hidden."""

from collections.abc import Iterable, Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from basinet.analysis.drawing.legends import coinciding, labelled_lines
from basinet.analysis.drawing.sizes import overlaps
from basinet.analysis.drawing.ticks import tick_labels

__all__ = ["illegible"]

_SLACK = 1.0
"""Points by which bounding boxes may overlap, as letters do not fill them."""
_SMALLEST = 4.9
_NARROWEST = 30.0
"""Minimum width and height of axes in points."""


def illegible(figure: Figure) -> list[str]:
    """Find what is illegible in a figure as it would be saved.

    Args:
        figure: Any figure; it is laid out in the process.

    Returns:
        A sentence for each text that is cut off, too small, or overlaps another text or other axes; each legend over
        other axes or data; each labelled mark hidden by another one; and axes without room.

    Example:
        ::

            figure, ax = pyplot.subplots(figsize=(3.25, 2.5))
            plot_curves(runs, ax=ax)
            assert not illegible(figure)
    """
    figure.draw_without_rendering()
    return [*_texts(figure), *_legends(figure), *_marks(figure)]


def _drawn(figure: Figure) -> Iterator[tuple[Axes | None, Text, Bbox]]:
    """Iterate over the visible texts, with their axes."""
    inside: set[Text] = set()
    for ax in figure.axes:
        texts = set(ax.findobj(Text))
        inside |= texts
        for axis in (ax.xaxis, ax.yaxis):
            own = set(axis.findobj(Text))
            texts -= own
            if ax.axison and ax.get_visible() and axis.get_visible():
                texts |= {axis.label, axis.offsetText, *tick_labels(axis)}
        yield from ((ax, text, box) for text, box in _boxes(texts) if ax.get_visible())
    yield from ((None, text, box) for text, box in _boxes(set(figure.findobj(Text)) - inside))


def _boxes(texts: set[Text]) -> Iterator[tuple[Text, Bbox]]:
    for text in texts:
        if text.get_visible() and text.get_text().strip():
            yield text, text.get_window_extent()


def _edges(boxes: Iterable[Bbox]) -> NDArray[np.float64]:
    return np.array([box.extents for box in boxes]).reshape(-1, 4)


def _texts(figure: Figure) -> Iterator[str]:
    """Find texts that are cut off, too small, over other axes, or overlapping."""
    slack = _SLACK * figure.dpi / 72
    drawn = list(_drawn(figure))
    visible = [ax for ax in figure.axes if ax.get_visible()]
    boxes = _edges(box for *_, box in drawn)
    over_axes = overlaps(boxes, _edges(ax.get_window_extent() for ax in visible), slack)
    for (ax, text, box), over in zip(drawn, over_axes, strict=True):
        name = repr(text.get_text())
        inside = figure.bbox.x0 - slack <= box.x0 and box.x1 <= figure.bbox.x1 + slack
        if not inside or box.y0 < figure.bbox.y0 - slack or box.y1 > figure.bbox.y1 + slack:
            yield f"{name} is cut by the edge of the figure"
        if float(text.get_fontsize()) < _SMALLEST:
            yield f"{name} is smaller than {_SMALLEST:.0f} points"
        for other, covered in zip(visible, over, strict=True):
            if other is not ax and covered:
                yield f"{name} lies over other axes"
    for first, second in np.argwhere(np.triu(overlaps(boxes, boxes, slack), k=1)):
        yield f"{drawn[first][1].get_text()!r} and {drawn[second][1].get_text()!r} overlap"


def _legends(figure: Figure) -> Iterator[str]:
    """Find legends over other axes or over data of their own axes."""
    slack = _SLACK * figure.dpi / 72
    legends: list[tuple[Axes | None, Legend]] = [(None, legend) for legend in figure.legends]
    legends += [(ax, child) for ax in figure.axes for child in ax.get_children() if isinstance(child, Legend)]
    for owner, legend in legends:
        box = legend.get_window_extent()
        over_axes = overlaps(_edges([box]), _edges(ax.get_window_extent() for ax in figure.axes), slack)[0]
        for ax in (ax for ax, over in zip(figure.axes, over_axes, strict=True) if over):
            if ax is not owner:
                yield "a legend lies over other axes"
            elif any(
                box.count_contains(ax.transData.transform(line.get_xydata()))
                for _, line in labelled_lines(ax)
                if line.get_transform() == ax.transData
            ):
                yield "a legend lies over data"


def _marks(figure: Figure) -> Iterator[str]:
    """Find axes without room, and lines hidden by other lines."""
    for ax in figure.axes:
        box = ax.get_window_extent()
        if min(box.width, box.height) * 72 / figure.dpi < _NARROWEST and not hasattr(ax, "_colorbar"):
            yield f"axes have no room: {box.width:.0f} × {box.height:.0f} pixels"
        for first, second in coinciding(ax):
            yield f"{second.get_label()!r} lies under {first.get_label()!r}"
