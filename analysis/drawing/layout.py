"""How figures are laid out: text is wrapped, ticks are thinned and legends make room, so that all can be read."""

import itertools
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib import cbook, rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator
from matplotlib.transforms import Bbox, ScaledTranslation

__all__ = [
    "SMALLEST",
    "Fitted",
    "Sheet",
    "cell_of",
    "fit_figure",
    "make_room",
    "place_below",
    "text_width",
    "tick_labels",
    "wrap_text",
]

SMALLEST = 5.0
"""Points below which text is too small to read."""
_BELOW = "legend-below"
_MOST_TURNS = 3
"""How often a figure is laid out again: text of more lines leaves less room for the rest."""


_WHOLE: WeakKeyDictionary[Text, tuple[str, str]] = WeakKeyDictionary()
"""What has been wrapped, before and after."""


class Sheet(Figure):
    """A figure that embeds its fonts in PDF and PostScript as TrueType, which can be searched and edited.

    In SVG, text is drawn as paths: it looks the same where the fonts are missing.
    """

    def savefig(self, fname: Any, *, transparent: bool | None = None, **kwargs: Any) -> None:
        """Save the figure.

        Args:
            fname: As for any figure.
            transparent: As for any figure.
            **kwargs: As for any figure.
        """
        with rc_context({"pdf.fonttype": 42, "ps.fonttype": 42}):
            super().savefig(fname, transparent=transparent, **kwargs)


class Fitted(ConstrainedLayoutEngine):
    """The constrained layout, after which what does not fit is wrapped or thinned, and laid out again."""

    def execute(self, fig: Figure) -> None:
        """Lay a figure out.

        Args:
            fig: The figure.
        """
        super().execute(fig)
        for _ in range(_MOST_TURNS):
            if not any([_fit_names(fig), *map(_fit_axes, fig.axes)]):
                break
            super().execute(fig)
        for ax in fig.axes:  # what lies inside the axes takes no room
            _fit_inside(ax)


def fit_figure(ax: Axes) -> None:
    """Let the figure of axes be laid out by `Fitted`, unless its owner has chosen another way.

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


@lru_cache(maxsize=4096)
def text_width(text: str, size: float) -> float:
    """Measure a line.

    Args:
        text: The line.
        size: Size of the font in points.

    Returns:
        Its width in points.
    """
    return float(text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)[0])


def wrap_text(text: str, width: float, size: float) -> str:
    """Break text into lines: before a parenthesis, at spaces, after punctuation, and within words at last.

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


def _wrap(text: Text, length: float, *, vertical: bool = False) -> bool:
    """Wrap text that is longer than some pixels; return whether it was."""
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
    """Wrap what stands along the edges of a figure."""
    names = [text for text in figure.texts if text.get_transform() == figure.transSubfigure]
    sides = {text: text.get_rotation() == 90 for text in names}
    lengths = {True: 0.96 * figure.bbox.height, False: 0.96 * figure.bbox.width}
    return any([_wrap(text, lengths[vertical], vertical=vertical) for text, vertical in sides.items()])


def _fit_axes(ax: Axes) -> bool:
    """Wrap the names of axes, thin their ticks and place a legend below; return whether anything changed."""
    if not ax.get_visible():
        return False
    ax.apply_aspect()
    box = ax.get_window_extent()
    figure = ax.get_figure(root=True)
    assert figure is not None
    width = ax.get_position(original=True).width * figure.bbox.width  # that of its aspect may be less
    changed = [_wrap(ax.title, width)]
    if ax.axison:
        changed += [_wrap(ax.xaxis.label, width), _wrap(ax.yaxis.label, box.height, vertical=True)]
        changed += [_fit_ticks(ax.xaxis, 0), _fit_ticks(ax.yaxis, 1)]
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


def tick_labels(axis: Axis) -> list[Text]:
    """Collect the labels of the major ticks that are drawn.

    Args:
        axis: The axis.

    Returns:
        Texts in the order of the ticks.
    """
    low, high = sorted(axis.get_view_interval())
    room = 1e-9 * (high - low)
    axis.get_majorticklabels()  # brings them up to date
    ticks, places = axis.get_major_ticks(), axis.get_majorticklocs()
    return [
        label
        for tick, place in zip(ticks, places, strict=False)
        if low - room <= place <= high + room
        for label in (tick.label1, tick.label2)
        if label.get_visible() and label.get_text()
    ]


class _Every(Locator):
    """Each so-manieth tick of another locator."""

    def __init__(self, base: Locator, step: int) -> None:
        self.base, self.step = base, step

    def set_axis(self, axis: Any) -> None:
        super().set_axis(axis)
        self.base.set_axis(axis)

    def __call__(self) -> Any:
        return self._thin(self.base())

    def tick_values(self, vmin: float, vmax: float) -> Any:
        return self._thin(self.base.tick_values(vmin, vmax))

    def nonsingular(self, v0: float, v1: float) -> tuple[float, float]:
        return self.base.nonsingular(v0, v1)

    def _thin(self, places: Sequence[float]) -> list[float]:
        """Keep one of every `step` places in view, and zero among them."""
        low, high = sorted(self.axis.get_view_interval()) if self.axis is not None else (-np.inf, np.inf)
        inside = [place for place in places if low <= place <= high]
        whole = [place for place in inside if place == 0][:1] or inside[:1]  # zero stays
        start = inside.index(whole[0]) % self.step if whole else 0
        return inside[start :: self.step]


def _fit_ticks(axis: Axis, along: int) -> bool:
    """Turn and shorten names that run into each other; of numbers, leave out as many as it takes."""
    texts = tick_labels(axis)
    step = _step(texts, along)
    if step == 1:
        return False
    base = axis.get_major_locator()
    if along == 0 and isinstance(base, FixedLocator) and isinstance(axis.get_major_formatter(), FuncFormatter):
        names = [text.get_text() for text in axis.get_majorticklabels()]
        length = 0.3 * 72 * cell_of(axis.axes)[1]
        axis.set_ticks(
            axis.get_majorticklocs().tolist(),
            [_shorten(name, length, float(texts[0].get_fontsize())) for name in names],
        )
        axis.set_tick_params(labelrotation=90)
        base, step = axis.get_major_locator(), _step(tick_labels(axis), along)
        if step == 1:
            return True
    while step < len(texts):
        axis.set_major_locator(_Every(base, step))
        if _step(tick_labels(axis), along) == 1:
            break
        step += 1
    return True


def _shorten(text: str, length: float, size: float) -> str:
    """Leave out the middle of a name that is longer than some points."""
    kept = len(text)
    while kept > 2 and text_width(text, size) > length:
        kept -= 1
        text = f"{text[: kept // 2]}…{text[len(text) - kept // 2 :]}"
    return text


def _step(texts: Sequence[Text], along: int) -> int:
    """Find how many labels must go for one to stay."""
    if len(texts) < 2:
        return 1
    spans = [(box.min[along], box.max[along]) for box in (text.get_window_extent() for text in texts)]
    gap = 0.3 * float(np.mean([text.get_fontsize() for text in texts])) if along == 0 else 0.0
    for step in range(1, len(spans)):
        kept = sorted(spans[::step])
        if all(right[0] - left[1] >= gap for left, right in itertools.pairwise(kept)):
            return step
    return max(1, len(spans) - 1)


def _fit_inside(ax: Axes) -> None:
    """Leave out the labels of contours that cover each other, and shrink numbers in cells, or leave them all out."""
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
    """Return whether any of many texts covers another."""
    boxes = np.array([text.get_window_extent().extents for text in texts]).reshape(-1, 4)
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    both = ((low < boxes[None, :, 2:]) & (boxes[None, :, :2] < high)).all(-1)
    return int(both.sum()) > len(texts)


def make_room(figure: Figure, axes: Sequence[Axes], columns: int) -> None:
    """Make a figure of panels higher by the lines that their names will take.

    Args:
        figure: The figure.
        axes: Its panels, row by row.
        columns: How many are in a row.
    """
    width, height = figure.get_size_inches()
    for names in ([ax.title for ax in axes], [ax.xaxis.label for ax in axes]):
        for row in (names[start : start + columns] for start in range(0, len(names), columns)):
            size = float(row[0].get_fontsize())
            texts = [wrap_text(name.get_text(), 72 * 0.7 * width / columns, size) for name in row]
            height += 1.2 * size / 72 * max(text.count("\n") for text in texts)
    figure.set_size_inches(width, height)


def cell_of(ax: Axes) -> tuple[float, float]:
    """Measure the part of a figure that belongs to axes.

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


def place_below(ax: Axes, legend: Any, x: float, y: float) -> None:
    """Place a legend so many inches from the lower left corner of its axes.

    Args:
        ax: The axes.
        legend: The legend; `Fitted` moves it on when it knows what lies between.
        x: Inches to the right.
        y: Inches up.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    legend.set_gid(_BELOW)
    legend.set_bbox_to_anchor((0, 0), transform=ax.transAxes + ScaledTranslation(x, y, figure.dpi_scale_trans))
