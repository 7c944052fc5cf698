"""Two metrics against each other: a point a replica, a cross for mean ± standard error."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes

from basinet.analysis.drawing.data import point_rows, require, require_measured, require_runs
from basinet.analysis.drawing.legends import companion
from basinet.analysis.drawing.style import (
    Scale,
    axis_label,
    choose_scale,
    finish,
    ink,
    new_axes,
    styles,
)
from basinet.analysis.statistics.summary import moments
from basinet.sim.run.folder import Run

__all__ = ["plot_scatter"]


def plot_scatter(
    runs: Sequence[Run],
    x: str,
    y: str,
    *,
    ax: Axes | None = None,
    legend: bool = True,
    xscale: Scale | None = None,
    yscale: Scale | None = None,
) -> Axes:
    """Draw the last values of two metrics, one point for each replica that did not diverge.

    Args:
        runs: The runs; one series each.
        x: The metric on the horizontal axis.
        y: The metric on the vertical axis.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.
        xscale: `linear` or `log`; chosen by the values if None.
        yscale: The same for the vertical axis.

    Returns:
        The axes.

    Raises:
        NoDataError: No replica has both, above zero where the axis is logarithmic.
    """
    require_runs(runs)
    rows = point_rows(runs, x, y)
    require_measured(rows, runs, x, y)
    for name, scale in ((x, xscale), (y, yscale)):
        rows = [row for row in rows if scale != "log" or row[name] > 0]
        require(rows, f"no value of {name} is above zero, as a logarithmic axis needs")
    ax = new_axes(ax)
    ax.set_xscale(xscale or choose_scale(x, [row[x] for row in rows]))
    ax.set_yscale(yscale or choose_scale(y, [row[y] for row in rows]))
    for label, style in styles(row["label"] for row in rows).items():
        xs = [row[x] for row in rows if row["label"] == label]
        ys = [row[y] for row in rows if row["label"] == label]
        looks: dict[str, Any] = {"linestyle": "none", "marker": style.marker, "color": style.color}
        ax.plot(xs, ys, alpha=0.4, markersize=5, label=companion(label), **looks)
        ax.errorbar(
            [fmean(xs)],
            [fmean(ys)],
            xerr=moments(xs)[1],
            yerr=moments(ys)[1],
            label=label,
            markersize=7,
            markeredgecolor=ink(),
            capsize=3,
            elinewidth=1.5,
            **looks,
        )
    ax.set_xlabel(axis_label(x, runs))
    ax.set_ylabel(axis_label(y, runs, wrap=True))
    ax.grid(alpha=0.25)
    return finish(ax, legend=legend)
