"""How every figure looks: colours and markers by strategy, axes and their names, panels and legends."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import ceil, log10
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from basinet.analysis.plots.data import NoDataError, require
from basinet.analysis.plots.names import names
from basinet.sim.folder import Run

__all__ = [
    "Style",
    "axis_label",
    "choose_scale",
    "label_log_axes",
    "new_axes",
    "outside_legend",
    "panels",
    "same_styles",
    "styles",
    "symmetric_log",
]

Scale = Literal["linear", "log"]

_FEW_DECADES = 2.5
Dashes = str | tuple[int, tuple[float, ...]]


class Style(NamedTuple):
    """How a series is drawn: its colour, and a marker and a line that tell it apart without colour."""

    color: str
    marker: str
    line: Dashes


# Okabe and Ito, Color Universal Design (2008): distinct in the common forms of colour blindness.
_KNOWN = {
    "centralized": Style("#000000", "s", "-"),
    "consensus": Style("#E69F00", "^", "--"),
    "diffusion ATC": Style("#0072B2", "o", "-."),
    "diffusion CTA": Style("#009E73", "D", ":"),
    "isolated": Style("#CC79A7", "v", (0, (5, 1, 1, 1, 1, 1))),
}
_OTHERS = (
    Style("#D55E00", "P", (0, (8, 2))),
    Style("#56B4E9", "X", (0, (3, 1, 1, 1))),
    Style("#000000", "*", (0, (1, 3))),
    Style("#E69F00", "<", (0, (6, 1, 2, 1))),
    Style("#0072B2", ">", (0, (10, 3))),
    Style("#009E73", "p", (0, (2, 1))),
    Style("#CC79A7", "h", (0, (4, 4))),
)

_TOGETHER: ContextVar[tuple[str, ...]] = ContextVar("together", default=())
"""Strategies of the figures that belong together."""

_AXES = {
    "step": "step",
    "epoch": "epoch",
    "communicated_bytes": "communication (bytes)",
    "train_loss": "training loss",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy (fraction correct)",
    "gradient_norm": "gradient norm",
    "consensus_distance": "consensus distance (mean squared)",
    "hessian_trace": "Hessian trace Tr H (smaller is flatter)",
    "hessian_top_eigenvalue": "largest Hessian eigenvalue λ_max (smaller is flatter)",
    "hessian_bottom_eigenvalue": "smallest Hessian eigenvalue λ_min",
    "excess_risk": "excess risk J(x) − J(x*)",
    "tail_index": "tail index of the gradient noise (smaller is heavier)",
    "consensus_sharpness": "consensus sharpness Σ π_k J(x_k) − J(x̄)",
    "noise_curvature": "curvature of the gradient noise Tr HΣ",
    "stability_limit": "limit of stability 2 / μ",
    "consensus_stability_limit": "limit of stability of consensus (1 + λ_min(W)) / μ",
}


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
    return found


@contextmanager
def same_styles(runs: Sequence[Run]) -> Iterator[None]:
    """Let a strategy look the same in all figures and panels that are drawn meanwhile, whichever runs they show.

    Args:
        runs: All runs; within another call, those of that one decide.

    Yields:
        Nothing.
    """
    token = _TOGETHER.set(_TOGETHER.get() or tuple(strategy for strategy, _ in names(runs)))
    try:
        yield
    finally:
        _TOGETHER.reset(token)


def _other_styles() -> Iterator[Style]:
    """Go through the styles that are left; once they are used up, their parts come in other combinations."""
    colors, markers, lines = zip(*_OTHERS, strict=True)
    count = len(_OTHERS)
    for n in itertools.count():
        turn = n // count
        yield Style(colors[n % count], markers[(n + turn) % count], lines[(n + 2 * turn) % count])


def axis_label(metric: str, *, wrap: bool = False) -> str:
    """Name a metric on an axis.

    Args:
        metric: Name of the metric.
        wrap: Whether what is in parentheses goes to a line of its own: a vertical axis is short.

    Returns:
        The name in words, with its unit where it has one.
    """
    name = _AXES.get(metric, metric.replace("_", " "))
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
        ax: The axes, or None for a new pyplot figure, which belongs to the caller.

    Returns:
        The axes.
    """
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(layout="constrained")[1]
    return ax


def outside_legend(ax: Axes) -> None:
    """Put a legend beside the axes, where it covers no data.

    Args:
        ax: Axes with labelled artists; without any there is no legend.
    """
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0.0, frameon=False)


def label_log_axes(ax: Axes) -> None:
    """Label the logarithmic axes with few plain numbers where they span few decades.

    Args:
        ax: Axes whose limits are settled.
    """
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        decades = log10(high / low) if axis.get_scale() == "log" and low > 0 else _FEW_DECADES
        if decades < _FEW_DECADES:
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())


def grid(
    count: int, *, share_x: bool, share_y: bool, width: float = 4.0, height: float = 3.2
) -> tuple[Figure, list[Axes]]:
    """Make a figure of panels, at most three in a row, that pyplot does not know.

    Args:
        count: How many panels.
        share_x: Whether the panels share their horizontal axes.
        share_y: Whether the panels share their vertical axes.
        width: Width of a panel in inches; a single one is wider.
        height: Height of a panel in inches.

    Returns:
        The figure and its panels.
    """
    columns = min(count, 3)
    rows = ceil(count / columns)
    size = (max(6.0, width * columns), height * rows + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=share_x, sharey=share_y).ravel().tolist()
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def panels(runs: Sequence[Run], plot: Callable[..., Axes], *, share_x: bool = True, **kwargs: Any) -> Figure:
    """Draw one panel for each value of the keys that vary besides the strategy.

    Args:
        runs: The runs.
        plot: A function `plot(runs, *, ax, legend, **kwargs)` of this package.
        share_x: Whether the panels share their horizontal axes.
        **kwargs: Handed to `plot`.

    Returns:
        A figure that pyplot does not know: it needs no closing. A panel for which there are no data says so.

    Raises:
        NoDataError: There are data for no panel.
    """
    require(runs, "there are no runs to draw")
    groups: dict[str, list[Run]] = {}
    for run, (_, condition) in zip(runs, names(runs), strict=True):
        groups.setdefault(condition, []).append(run)
    figure, axes = grid(len(groups), share_x=share_x, share_y=True)
    handles: dict[str, Any] = {}
    errors: list[NoDataError] = []
    for index, (ax, (condition, group)) in enumerate(zip(axes, groups.items(), strict=True)):
        try:
            with same_styles(runs):
                plot(group, ax=ax, legend=False, **kwargs)
        except NoDataError as error:
            errors.append(error)
            ax.text(0.5, 0.5, "no data", transform=ax.transAxes, ha="center", va="center", color="0.4")
        ax.set_title(condition, fontsize="medium")
        ax.set_ylabel(ax.get_ylabel() if index % 3 == 0 else "")
        ax.set_xlabel(ax.get_xlabel() if index + 3 >= len(axes) else "")
        ax.tick_params(labelbottom=not share_x or index + 3 >= len(axes))
        found, texts = ax.get_legend_handles_labels()
        handles |= {text: handle for text, handle in zip(texts, found, strict=True) if text not in handles}
    if len(errors) == len(axes):
        raise errors[0]
    for ax in axes:
        label_log_axes(ax)
    if handles:
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=min(len(handles), 4),
            frameon=False,
        )
    return figure
