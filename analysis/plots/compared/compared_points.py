"""Two quantities of groups of replicas against each other."""

from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes

from basinet.analysis.compare.comparison import Comparison
from basinet.analysis.drawing.axes import AxisScale, choose_scale, finish_labelled, limit_scores, new_axes
from basinet.analysis.drawing.data_checks import require
from basinet.analysis.drawing.legends import companion
from basinet.analysis.drawing.style import ink
from basinet.analysis.plots.compared.compared_series import (
    Bars,
    mean_with_bars,
    ranking_metric,
    require_comparison,
    series_of,
)

__all__ = ["plot_compared_points"]


def plot_compared_points(
    found: Comparison,
    x: str = "hessian_trace",
    y: str | None = None,
    *,
    interval: Bars = "error",
    condition: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
    xscale: AxisScale | None = None,
    yscale: AxisScale | None = None,
) -> Axes:
    """Draw two quantities at the end of training: a small mark for each replica, a large one with bars for each mean.

    Args:
        found: What `basinet.compare` returns; a series for each group.
        x: The quantity on the horizontal axis: a metric, what was spent, a number of the graph or a key with numbers.
        y: That on the vertical axis; by default the first metric of the comparison that has a better direction.
        interval: What the bars show: a standard error to both sides, or the 95 % bootstrap interval.
        condition: Draw only the groups of this condition; all if None.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.
        xscale: `linear` or `log`, where only positive values are drawn; chosen by the values if None.
        yscale: The same for the vertical axis.

    Returns:
        The axes.

    Raises:
        NoDataError: If no replica has both.
    """
    require_comparison(found)
    y = y or ranking_metric(found)
    xs, ys = found.frame.numbers(x), found.frame.numbers(y)
    known = np.isfinite(xs) & np.isfinite(ys) & ((xs > 0) | (xscale != "log")) & ((ys > 0) | (yscale != "log"))
    drawn = [row for group in found.groups for row in group.rows.tolist() if known[row]]
    require(drawn, f"no replica has both {x} and {y}")
    series = [(one, rows) for one in series_of(found, condition) if len(rows := one.group.rows[known[one.group.rows]])]
    require(series, f"no replica has both {x} and {y} under {condition}")
    ax = new_axes(ax)
    across, up = found.frame.quantity(x), found.frame.quantity(y)
    ax.set_xscale(xscale or choose_scale(across, xs[drawn].tolist()))
    ax.set_yscale(yscale or choose_scale(up, ys[drawn].tolist()))
    size = rcParams["lines.markersize"]
    for one, rows in series:
        looks: dict[str, Any] = {"linestyle": "none", "marker": one.style.marker, "color": one.style.color}
        ax.plot(xs[rows], ys[rows], alpha=0.4, markersize=0.75 * size, label=companion(one.label), **looks)
        (mx, left, right), (my, low, high) = (mean_with_bars(values[rows], interval) for values in (xs, ys))
        ax.errorbar(
            [mx],
            [my],
            xerr=[[left], [right]],
            yerr=[[low], [high]],
            label=one.label,
            markersize=1.15 * size,
            markeredgecolor=ink(),
            markeredgewidth=0.8,
            capsize=size / 2,
            elinewidth=0.2 * size,
            **looks,
        )
    limit_scores(ax, x=across, y=up)
    return finish_labelled(ax, across, up, legend=legend)
