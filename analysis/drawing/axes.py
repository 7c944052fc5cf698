"""Axes: scales, tick labels, and the steps before and after drawing on them."""

from collections.abc import Sequence
from math import log10
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import (
    AutoLocator,
    EngFormatter,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)
from numpy.typing import ArrayLike

from basinet.analysis.drawing.layout import Fitted, Sheet, fit_figure
from basinet.analysis.drawing.legends import merge_marks, outside_legend
from basinet.analysis.drawing.style import axis_label, described
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import Run
from basinet.sim.run.quantity import Quantity

__all__ = [
    "AxisScale",
    "choose_scale",
    "finish",
    "finish_labelled",
    "label_log_axes",
    "limit_scores",
    "new_axes",
    "symmetric_log",
    "whole_numbers",
    "widen_constants",
]

AxisScale = Literal["linear", "log"]

_FEW_DECADES = 2.5
_LARGE = 1e5
_ROUNDING = 1e-9
"""Values that differ by less, relative to themselves, are equal up to rounding."""
_AROUND = 0.1
"""How much of the axis of a score is shown around a single value."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def choose_scale(metric: str | Quantity, values: Sequence[float]) -> AxisScale:
    """Choose a logarithmic axis for positive values that span more than a decade, or are exponentials of means.

    Args:
        metric: Name of the metric, or its description; a score, such as an accuracy, is always on a linear axis.
        values: The values to draw.

    Returns:
        `log` or `linear`.
    """
    known, positive = described(metric), bool(values) and min(values) > 0
    spread = positive and max(values) > 10 * min(values) and not known.linear
    return "log" if spread or (positive and known.exponential) else "linear"


def limit_scores(ax: Axes, **metrics: str | Quantity) -> None:
    """Keep the axes of scores, such as accuracies, within 0 and 1 if all values are one and the same.

    Around a single value, matplotlib extends an axis in both directions.

    Args:
        ax: Axes with all that is to be drawn.
        **metrics: The metric on the axes `x` and `y`, or its description.
    """
    for direction, metric in metrics.items():
        low, high = getattr(ax.dataLim, f"interval{direction}")
        if described(metric).linear and 0 <= low == high <= 1:
            ends = [[max(0, low - _AROUND)] * 2, [min(1, low + _AROUND)] * 2]
            ax.update_datalim(ends, updatex=direction == "x", updatey=direction == "y")
            ax.autoscale_view(scalex=direction == "x", scaley=direction == "y")


def widen_constants(ax: Axes) -> None:
    """Show 5 % around values that are equal up to rounding, which would be magnified over the whole axis.

    Args:
        ax: Axes with all that is to be drawn.
    """
    for direction, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        if axis.get_scale() == "linear" and 0 < high - low <= _ROUNDING * max(abs(low), abs(high)):
            middle = (low + high) / 2
            ax.set(**{f"{direction}lim": (middle - 0.05 * abs(middle), middle + 0.05 * abs(middle))})


def symmetric_log(ax: Axes, values: ArrayLike) -> None:
    """Make the horizontal axis symmetric logarithmic, linear up to a thousandth of the largest value.

    Args:
        ax: The axes.
        values: The values to draw.
    """
    largest = float(np.abs(np.asarray(values)).max())
    # A power of ten: labels within the linear part would overlap.
    ax.set_xscale("symlog", linthresh=10.0 ** round(log10(max(1e-12, 1e-3 * largest))))


def new_axes(ax: Axes | None) -> Axes:
    """Return axes to draw on.

    Args:
        ax: The axes, or None for a new pyplot figure, which belongs to the caller. A figure without a layout engine,
            or with the constrained one, is laid out for legibility.

    Returns:
        The axes.

    Raises:
        ExperimentError: If `ax` is something else.
    """
    if ax is None:
        from matplotlib import pyplot

        return pyplot.subplots(FigureClass=Sheet, layout=Fitted())[1]
    if not isinstance(ax, Axes):
        raise ExperimentError(f"ax: expected matplotlib's Axes, not {type(ax).__name__}; give one of a figure's axes")
    fit_figure(ax)
    return ax


def finish(ax: Axes, *, legend: bool = True, **kwargs: Any) -> Axes:
    """Finish a plot: merge coinciding marks, label the ticks, count steps in whole numbers, and add a legend.

    Args:
        ax: The axes.
        legend: Whether to draw a legend outside the axes, if anything is labelled.
        **kwargs: Passed to `outside_legend`.

    Returns:
        The axes.
    """
    for axis in (ax.xaxis, ax.yaxis):
        if axis.get_label_text() == axis_label("step") and isinstance(axis.get_major_locator(), AutoLocator):
            axis.set_major_locator(whole_numbers())
    widen_constants(ax)
    label_log_axes(ax)
    if legend:
        merge_marks(ax)
        outside_legend(ax, **kwargs)
    return ax


def finish_labelled(
    ax: Axes, x: str | Quantity, y: str | Quantity, runs: Sequence[Run] = (), *, legend: bool = True
) -> Axes:
    """Finish a plot of one quantity against another: name its axes, and see `finish`.

    Args:
        ax: The axes.
        x: The quantity across, or its name.
        y: The quantity up, or its name.
        runs: Runs that have recorded what these are.
        legend: Whether to draw a legend outside the axes, if anything is labelled.

    Returns:
        The axes.
    """
    ax.set_xlabel(axis_label(x, runs))
    ax.set_ylabel(axis_label(y, runs, wrap=True))
    ax.grid(alpha=0.25)
    return finish(ax, legend=legend)


def whole_numbers() -> MaxNLocator:
    """Return a locator of ticks at whole numbers.

    Returns:
        The locator.
    """
    return MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True)


def label_log_axes(ax: Axes) -> None:
    """Label ticks with plain numbers on logarithmic axes of few decades and on axes of bytes.

    Args:
        ax: Axes with final limits.
    """
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        decades = log10(high / low) if axis.get_scale() == "log" and low > 0 else _FEW_DECADES
        if decades < 0.7:  # possibly without a power of ten
            axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
            axis.set_minor_locator(NullLocator())
        elif decades < _FEW_DECADES:
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,)))
        elif axis.get_scale() == "log":  # eight ticks a decade would be a smear
            axis.set_minor_locator(NullLocator())
        if axis.get_scale() != "linear":
            write = "{:g}".format if decades < _FEW_DECADES else _power
            axis.set_major_formatter(FuncFormatter(lambda value, _, write=write: write(value)))
            axis.set_minor_formatter(NullFormatter())
        if axis.get_label_text() == axis_label("communicated_bytes"):
            axis.set_major_formatter(EngFormatter("B"))
        elif axis.get_scale() == "linear" and max(abs(low), abs(high)) >= _LARGE:
            axis.set_major_formatter(EngFormatter(sep=""))


def _power(value: float) -> str:
    """Format a power of ten; matplotlib typesets it as a formula, which takes many times as long."""
    exponent = round(log10(abs(value))) if value else 0
    power = f"10{str(exponent).translate(_SUPERSCRIPTS)}" if value else "0"
    return f"−{power}" if value < 0 else power
