"""Layout of figures: for legibility, text is wrapped, ticks are thinned and legends make room."""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.transforms import Bbox, ScaledTranslation

from basinet.analysis.drawing.sizes import overlaps, wrap_text
from basinet.analysis.drawing.ticks import fit_ticks

__all__ = [
    "SMALLEST",
    "Fitted",
    "Sheet",
    "fit_figure",
    "make_room",
    "place_below",
]

SMALLEST = 5.0
"""Font size in points below which text is too small to read."""
_BELOW = "legend-below"
_MOST_TURNS = 3
"""Maximum number of layout passes: wrapped text leaves less room for the rest."""


_WHOLE: WeakKeyDictionary[Text, tuple[str, str]] = WeakKeyDictionary()
"""Wrapped texts, before and after."""


class Sheet(Figure):
    """A figure that embeds TrueType fonts in PDF and PostScript, so that text can be searched and edited.

    In SVG, text is drawn as paths, so that it looks the same without the fonts.
    """

    def savefig(self, fname: Any, *, transparent: bool | None = None, **kwargs: Any) -> None:
        """Save the figure.

        Args:
            fname: As for `Figure.savefig`.
            transparent: As for `Figure.savefig`.
            **kwargs: As for `Figure.savefig`.
        """
        with rc_context({"pdf.fonttype": 42, "ps.fonttype": 42}):
            super().savefig(fname, transparent=transparent, **kwargs)


class Fitted(ConstrainedLayoutEngine):
    """The constrained layout, repeated after wrapping or thinning what does not fit."""

    def execute(self, fig: Figure) -> None:
        """Lay a figure out.

        Args:
            fig: The figure.
        """
        for ax in fig.axes:
            for spine in ax.spines.values():  # along the edges of the axes: a tenth of the time for half a point
                spine.set_in_layout(False)
        super().execute(fig)
        for _ in range(_MOST_TURNS):
            if not any([_fit_names(fig), *map(_fit_axes, fig.axes)]):
                break
            super().execute(fig)
        for ax in fig.axes:  # content inside the axes does not affect the layout
            _fit_inside(ax)


def fit_figure(ax: Axes) -> None:
    """Set `Fitted` as the layout engine of a figure, unless its owner has chosen another.

    Args:
        ax: Axes in a grid.
    """
    figure = ax.get_figure(root=True)
    if figure is None or ax.get_subplotspec() is None:
        return
    engine = figure.get_layout_engine()
    if engine is None:
        figure.set_layout_engine(Fitted())
    elif type(engine) is ConstrainedLayoutEngine:
        figure.set_layout_engine(Fitted(**engine.get()))


def _wrap(text: Text, length: float, *, vertical: bool = False) -> bool:
    """Wrap text that is longer than `length` pixels; return whether it changed."""
    if not text.get_text() or not text.get_visible():
        return False
    box = text.get_window_extent()
    if (box.height if vertical else box.width) <= length:
        return False
    figure = text.get_figure(root=True)
    assert figure is not None
    before = text.get_text()
    whole, wrapped = _WHOLE.get(text, (before, before))
    whole = whole if before == wrapped else before
    text.set_text(wrap_text(whole, length * 72 / figure.dpi, float(text.get_fontsize())))
    _WHOLE[text] = whole, text.get_text()
    return text.get_text() != before


def _fit_names(figure: Figure) -> bool:
    """Wrap the texts along the edges of a figure."""
    names = [text for text in figure.texts if text.get_transform() == figure.transSubfigure]
    sides = {text: text.get_rotation() == 90 for text in names}
    lengths = {True: 0.96 * figure.bbox.height, False: 0.96 * figure.bbox.width}
    return any([_wrap(text, lengths[vertical], vertical=vertical) for text, vertical in sides.items()])


def _fit_axes(ax: Axes) -> bool:
    """Wrap axis labels, thin ticks and place a legend below; return whether anything changed."""
    if not ax.get_visible():
        return False
    ax.apply_aspect()
    box = ax.get_window_extent()
    figure = ax.get_figure(root=True)
    assert figure is not None
    width = ax.get_position(original=True).width * figure.bbox.width  # a fixed aspect may make the axes narrower
    changed = [_wrap(ax.title, width)]
    if ax.axison:
        changed += [_wrap(ax.xaxis.label, width), _wrap(ax.yaxis.label, box.height, vertical=True)]
        changed += [fit_ticks(ax.xaxis, 0), fit_ticks(ax.yaxis, 1)]
    legend = ax.get_legend()
    if legend is not None and legend.get_gid() == _BELOW:
        around = [found for axis in (ax.xaxis, ax.yaxis) if (found := axis.get_tightbbox()) is not None]
        around = [box, *(around if ax.axison else [])]
        place = (min(b.x0 for b in around) - box.x0, min(b.y0 for b in around) - box.y0)
        before = legend.get_window_extent()
        place_below(ax, legend, place[0] / figure.dpi, place[1] / figure.dpi - 0.06)
        after = legend.get_window_extent()
        changed.append(bool(np.abs(before.get_points() - after.get_points()).max() > 1))
    return any(changed)


def _fit_inside(ax: Axes) -> None:
    """Remove overlapping contour labels, and shrink or remove the numbers in cells."""
    drawn = [artist for artist in ax.collections if isinstance(artist, ContourSet)]
    lines = [text for artist in drawn for text in getattr(artist, "labelTexts", [])]
    ax.apply_aspect()
    frame = ax.get_window_extent()
    kept: list[Bbox] = []
    for text in lines:
        box = text.get_window_extent()
        inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        text.set_visible(inside and not any(box.overlaps(other) for other in kept))
        kept += [box] if text.get_visible() else []
    numbers = [text for text in ax.texts if text not in lines and text.get_text() and text.get_visible()]
    while _collide(numbers):
        smaller = max(float(text.get_fontsize()) for text in numbers) - 1
        for text in numbers:
            text.set_fontsize(min(float(text.get_fontsize()), smaller))
            text.set_visible(smaller >= SMALLEST)
        numbers = [text for text in numbers if text.get_visible()]


def _collide(texts: Sequence[Text]) -> bool:
    """Return whether any two texts overlap."""
    boxes = np.array([text.get_window_extent().extents for text in texts]).reshape(-1, 4)
    return int(overlaps(boxes, boxes).sum()) > len(texts)


def make_room(figure: Figure, axes: Sequence[Axes], columns: int) -> None:
    """Increase the height of a figure of panels by the lines of their titles.

    Args:
        figure: The figure.
        axes: Its panels, row by row.
        columns: Number of panels per row.
    """
    width, height = figure.get_size_inches()
    for names in ([ax.title for ax in axes], [ax.xaxis.label for ax in axes]):
        for row in (names[start : start + columns] for start in range(0, len(names), columns)):
            size = float(row[0].get_fontsize())
            texts = [wrap_text(name.get_text(), 72 * 0.7 * width / columns, size) for name in row]
            height += 1.2 * size / 72 * max(text.count("\n") for text in texts)
    figure.set_size_inches(width, height)


def place_below(ax: Axes, legend: Any, x: float, y: float) -> None:
    """Place a legend relative to the lower left corner of its axes.

    Args:
        ax: The axes.
        legend: The legend; `Fitted` later moves it below tick labels and axis label.
        x: Inches to the right.
        y: Inches up.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    legend.set_gid(_BELOW)
    legend.set_bbox_to_anchor((0, 0), transform=ax.transAxes + ScaledTranslation(x, y, figure.dpi_scale_trans))
