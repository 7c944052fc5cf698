"""How every figure looks: colours and markers by strategy, axes and their names, panels and legends."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import ceil, log10
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)
from numpy.typing import ArrayLike

from basinet.analysis.drawing.data import NoDataError, require, require_runs
from basinet.analysis.drawing.layout import Fitted, Sheet, fit_figure, make_room
from basinet.analysis.drawing.legends import legend_below_panels, merge_marks, outside_legend
from basinet.analysis.statistics.quantities import quantity_of
from basinet.analysis.statistics.run_labels import names
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import Run
from basinet.sim.run.quantity import METRICS

__all__ = [
    "ACCENT",
    "GREY",
    "MAIN",
    "SHADES",
    "Style",
    "axis_label",
    "choose_scale",
    "contrast",
    "finish",
    "finish_panels",
    "grid",
    "ink",
    "label_log_axes",
    "legend_below_panels",
    "new_axes",
    "outside_legend",
    "panels",
    "same_styles",
    "styles",
    "symmetric_log",
]

Scale = Literal["linear", "log"]

MAIN, ACCENT, GREY = "#0072B2", "#D55E00", "0.5"
SHADES = ListedColormap(colormaps["viridis"](np.linspace(0.2, 0.9, 256)), "shades")
"""Colours of quantities: without the ends of viridis, its lines can be seen on light and on dark."""

_FEW_DECADES = 2.5
_LARGE = 1e5
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_INK = "text"
"""Stands for the colour of text, which follows the background."""
Dashes = str | tuple[int, tuple[float, ...]]


class Style(NamedTuple):
    """How a series is drawn: its colour, and a marker and a line that tell it apart without colour."""

    color: str
    marker: str
    line: Dashes


# Okabe and Ito, Color Universal Design (2008): distinct in the common forms of colour blindness.
_KNOWN = {
    "centralized": Style(_INK, "s", "-"),
    "consensus": Style("#E69F00", "^", "--"),
    "diffusion ATC": Style("#0072B2", "o", "-."),
    "diffusion CTA": Style("#009E73", "D", ":"),
    "isolated": Style("#CC79A7", "v", (0, (5, 1, 1, 1, 1, 1))),
}
_OTHERS = (
    Style("#D55E00", "P", (0, (8, 2))),
    Style("#56B4E9", "X", (0, (3, 1, 1, 1))),
    Style(_INK, "*", (0, (1, 3))),
    Style("#E69F00", "<", (0, (6, 1, 2, 1))),
    Style("#0072B2", ">", (0, (10, 3))),
    Style("#009E73", "p", (0, (2, 1))),
    Style("#CC79A7", "h", (0, (4, 4))),
)

_TOGETHER: ContextVar[tuple[str, ...]] = ContextVar("together", default=())
"""Strategies of the figures that belong together."""

_RUNS: ContextVar[Sequence[Run]] = ContextVar("runs", default=())
"""Their runs, which know what their metrics are called."""


def styles(series: Iterable[str]) -> dict[str, Style]:
    """Give each series its style.

    Args:
        series: Labels; the usual strategies always look the same, others take what is left in order. A strategy under
            several conditions, which follow its name after a comma, keeps its colour. See also `same_styles`.

    Returns:
        A mapping from label to style.
    """
    labels = list(dict.fromkeys(series))
    others = _other_styles()
    first: dict[str, Style] = {}
    for label in (*_TOGETHER.get(), *labels):
        name = label.split(", ")[0]
        if name not in first:
            first[name] = _KNOWN.get(name) or next(others)
    found: dict[str, Style] = {}
    for label in labels:
        style = first[label.split(", ")[0]]
        found[label] = style if style not in found.values() else next(others)._replace(color=style.color)
    return {label: style._replace(color=ink()) if style.color == _INK else style for label, style in found.items()}


def ink() -> str:
    """Return the colour of text and lines that stand out from the background.

    Returns:
        What matplotlib is set to.
    """
    return str(rcParams["text.color"])


def contrast(color: Any) -> str:
    """Choose a colour for text on a filled area.

    Args:
        color: The colour of the area.

    Returns:
        Black or white.
    """
    return "black" if float(np.dot(to_rgb(color), (0.299, 0.587, 0.114))) > 0.55 else "white"


@contextmanager
def same_styles(runs: Sequence[Run]) -> Iterator[None]:
    """Let a strategy look the same in all figures and panels that are drawn meanwhile, whichever runs they show.

    Args:
        runs: All runs; within another call, those of that one decide.

    Yields:
        Nothing.
    """
    token = _TOGETHER.set(_TOGETHER.get() or tuple(strategy for strategy, _ in names(runs)))
    told = _RUNS.set(_RUNS.get() or runs)
    try:
        yield
    finally:
        _TOGETHER.reset(token)
        _RUNS.reset(told)


def _other_styles() -> Iterator[Style]:
    """Go through the styles that are left; once they are used up, their parts come in other combinations."""
    colors, markers, lines = zip(*_OTHERS, strict=True)
    count = len(_OTHERS)
    for n in itertools.count():
        turn = n // count
        yield Style(colors[n % count], markers[(n + turn) % count], lines[(n + 2 * turn) % count])


def axis_label(metric: str, runs: Sequence[Run] = (), *, wrap: bool = False) -> str:
    """Name a metric on an axis.

    Args:
        metric: Name of the metric.
        runs: Those that have measured it, which know what it is; by default those of `same_styles`.
        wrap: Whether what is in parentheses goes to a line of its own: a vertical axis is short.

    Returns:
        The name in words, with its unit where it has one.
    """
    name = quantity_of(metric, runs or _RUNS.get()).axis
    return name.replace(" (", "\n(", 1) if wrap else name


def choose_scale(metric: str, values: Sequence[float]) -> Scale:
    """Choose a logarithmic axis for positive values that span more than a decade.

    Args:
        metric: Name of the metric; an accuracy is always on a linear axis.
        values: What will be drawn.

    Returns:
        `log` or `linear`.
    """
    spread = bool(values) and min(values) > 0 and max(values) > 10 * min(values)
    return "log" if spread and not metric.endswith("accuracy") else "linear"


def symmetric_log(ax: Axes, values: ArrayLike) -> None:
    """Let the horizontal axis be logarithmic to both sides, and linear for a thousandth of the largest value.

    Args:
        ax: The axes.
        values: What will be drawn.
    """
    largest = float(np.abs(np.asarray(values)).max())
    # A power of ten: labels within the linear part would lie on each other.
    ax.set_xscale("symlog", linthresh=10.0 ** round(log10(max(1e-12, 1e-3 * largest))))


def new_axes(ax: Axes | None) -> Axes:
    """Return axes to draw on.

    Args:
        ax: The axes, or None for a new pyplot figure, which belongs to the caller. A figure that has no layout engine,
            or the constrained one, is laid out so that what is drawn can be read.

    Returns:
        The axes.

    Raises:
        ExperimentError: It is something else.
    """
    if ax is None:
        from matplotlib import pyplot

        return pyplot.subplots(FigureClass=Sheet, layout=Fitted())[1]
    if not isinstance(ax, Axes):
        raise ExperimentError(f"ax: expected matplotlib's Axes, not {type(ax).__name__}; give one of a figure's axes")
    fit_figure(ax)
    return ax


def finish(ax: Axes, *, legend: bool = True, **kwargs: Any) -> Axes:
    """Finish what has been drawn: draw once what coincides, label the ticks and explain the marks.

    Args:
        ax: The axes.
        legend: Whether to draw a legend outside the axes, if anything is labelled.
        **kwargs: Handed to `outside_legend`.

    Returns:
        The axes.
    """
    label_log_axes(ax)
    if legend:
        merge_marks(ax)
        outside_legend(ax, **kwargs)
    return ax


def label_log_axes(ax: Axes) -> None:
    """Label the ticks with plain numbers: where logarithmic axes span few decades, and where there are bytes.

    Args:
        ax: Axes whose limits are settled.
    """
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        decades = log10(high / low) if axis.get_scale() == "log" and low > 0 else _FEW_DECADES
        if decades < 0.7:  # there may be no power of ten
            axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
            axis.set_minor_locator(NullLocator())
        elif decades < _FEW_DECADES:
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,)))
        if axis.get_scale() != "linear":
            write = "{:g}".format if decades < _FEW_DECADES else _power
            axis.set_major_formatter(FuncFormatter(lambda value, _, write=write: write(value)))
            axis.set_minor_formatter(NullFormatter())
        if axis.get_label_text() == METRICS["communicated_bytes"].axis:
            axis.set_major_formatter(EngFormatter("B"))
        elif axis.get_scale() == "linear" and max(abs(low), abs(high)) >= _LARGE:
            axis.set_major_formatter(EngFormatter(sep=""))


def _power(value: float) -> str:
    """Write a power of ten; matplotlib sets it as a formula, which takes many times as long."""
    exponent = round(log10(abs(value))) if value else 0
    power = f"10{str(exponent).translate(_SUPERSCRIPTS)}" if value else "0"
    return f"−{power}" if value < 0 else power


def grid(
    count: int,
    *,
    share_x: bool,
    share_y: bool,
    width: float = 4.0,
    height: float = 3.2,
    total: float | None = None,
) -> tuple[Figure, list[Axes]]:
    """Make a figure of panels, at most three in a row, that pyplot does not know.

    Args:
        count: How many panels.
        share_x: Whether the panels share their horizontal axes.
        share_y: Whether the panels share their vertical axes.
        width: Width of a panel in inches; a single one is wider.
        height: Height of a panel in inches, less where the figure is narrow.
        total: Width of the figure in inches, instead of that of a panel.

    Returns:
        The figure and its panels.
    """
    most = 3 if total is None else min(3, max(1, int(total / 1.6)))
    rows = ceil(count / most)
    columns = ceil(count / rows)
    full = total or max(6.0, width * columns)
    height *= min(1.0, max(0.65, full / columns / width))
    figure = Sheet(figsize=(full, height * rows + 0.3), layout=Fitted())
    axes = figure.subplots(rows, columns, squeeze=False, sharex=share_x, sharey=share_y).ravel().tolist()
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def panels(
    runs: Sequence[Run], plot: Callable[..., Axes], *, share_x: bool = True, width: float | None = None, **kwargs: Any
) -> Figure:
    """Draw one panel for each value of the keys that vary besides the strategy.

    Args:
        runs: The runs.
        plot: A function `plot(runs, *, ax, legend, **kwargs)` of this package.
        share_x: Whether the panels share their horizontal axes.
        width: Width of the figure in inches, such as 3.25 for a column; by default 4 for each panel in a row.
        **kwargs: Handed to `plot`.

    Returns:
        A figure that pyplot does not know: it needs no closing. A panel for which there are no data says so.

    Raises:
        NoDataError: There are data for no panel.
    """
    require_runs(runs)
    require(runs, "there are no runs to draw")
    groups: dict[str, list[Run]] = {}
    for run, (_, condition) in zip(runs, names(runs), strict=True):
        groups.setdefault(condition, []).append(run)
    figure, axes = grid(len(groups), share_x=share_x, share_y=True, total=width)
    errors: list[NoDataError] = []
    for ax, (condition, group) in zip(axes, groups.items(), strict=True):
        try:
            with same_styles(runs):
                plot(group, ax=ax, legend=False, **kwargs)
        except NoDataError as error:
            errors.append(error)
            ax.text(0.5, 0.5, "no data", transform=ax.transAxes, ha="center", va="center", color=GREY)
        ax.set_title(condition, fontsize="medium")
    if len(errors) == len(axes):
        raise errors[0]
    finish_panels(figure, axes, share_x=share_x)
    return figure


def finish_panels(figure: Figure, axes: Sequence[Axes], *, share_x: bool) -> None:
    """Finish panels: name their axes at the edges alone, draw once what coincides, and explain all marks below.

    Args:
        figure: The figure, of `grid`.
        axes: Its panels, drawn without legends.
        share_x: Whether they share their horizontal axes.
    """
    handles: dict[str, Any] = {}
    columns = axes[0].get_subplotspec().get_gridspec().ncols  # type: ignore[union-attr]
    for index, ax in enumerate(axes):
        label_log_axes(ax)
        merge_marks(ax)
        lowest = index + columns >= len(axes)
        ax.tick_params(labelbottom=not share_x or lowest)
        ax.set_xlabel(ax.get_xlabel() if lowest else "")
        ax.set_ylabel(ax.get_ylabel() if index % columns == 0 else "")
        found, texts = ax.get_legend_handles_labels()
        handles |= {text: handle for text, handle in zip(texts, found, strict=True) if text not in handles}
    make_room(figure, axes, columns)
    legend_below_panels(figure, list(handles.values()), list(handles))
