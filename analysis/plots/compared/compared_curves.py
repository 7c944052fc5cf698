"""A metric of groups of replicas over what was spent on training."""

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from numpy.typing import NDArray

from basinet.analysis.compare.comparison import Comparison
from basinet.analysis.drawing.axes import AxisScale, choose_scale, finish_labelled, limit_scores, new_axes
from basinet.analysis.drawing.data_checks import require
from basinet.analysis.drawing.legends import companion
from basinet.analysis.plots.compared.compared_series import (
    Bars,
    mean_with_bars,
    ranking_metric,
    require_comparison,
    series_of,
)

__all__ = ["plot_compared_curves"]

Array = NDArray[np.float64]


def plot_compared_curves(
    found: Comparison,
    metric: str | None = None,
    *,
    x: str = "step",
    interval: Bars = "error",
    condition: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
    yscale: AxisScale | None = None,
) -> Axes:
    """Draw a metric during training: the mean over the replicas of each group that did not diverge, and its band.

    A mean is over all of them: where some were not measured, as after the early end of their run, there is none.

    Args:
        found: What `basinet.compare` returns; a line for each group.
        metric: The metric; by default the first of the comparison that has a better direction.
        x: The horizontal axis: `step`, `samples`, `bytes` or `seconds`, or a metric such as `epoch`. If replicas differ
            in it, their mean at each step.
        interval: What the bands show: a standard error to both sides, or the 95 % bootstrap interval.
        condition: Draw only the groups of this condition; all if None.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.
        yscale: `linear`, or `log`, which draws only positive values; chosen by the values if None.

    Returns:
        The axes.

    Raises:
        NoDataError: If no replica has both.
    """
    require_comparison(found)
    metric = metric or ranking_metric(found)
    frame = found.frame
    steps, places = frame.curves(metric), frame.curves(metric, x=x)
    states = frame.column("state")

    def curve(rows: NDArray[np.int64]) -> Array:
        """Average replicas: place, mean and bars at each step, [steps, 4]."""
        at: dict[float, list[tuple[float, float]]] = {}
        for row in rows.tolist():
            for step, place, value in zip(steps[row][0], *places[row], strict=True):
                if states[row] != "diverged" and np.isfinite(place):
                    at.setdefault(float(step), []).append((float(place), float(value)))
        most = max(map(len, at.values()), default=0)
        found = [np.array(pairs) for _, pairs in sorted(at.items()) if len(pairs) == most]
        means = [(pairs[:, 0].mean(), *mean_with_bars(pairs[:, 1], interval)) for pairs in found]
        return np.array(means, dtype=float).reshape(-1, 4)

    curves = {id(group): curve(group.rows) for group in found.groups}
    everything = np.concatenate([np.empty((0, 4)), *curves.values()])
    require(everything, f"no run has recorded {metric} over {x}, or all their replicas diverged")
    series = [one for one in series_of(found, condition) if len(curves[id(one.group)])]
    require(series, f"no run has recorded {metric} over {x} under {condition}")
    ax = new_axes(ax)
    across, up = frame.quantity(x), frame.quantity(metric)
    scale = yscale or choose_scale(up, everything[:, 1].tolist())
    ax.set_yscale(scale)
    for number, one in enumerate(series):
        at, mean, low, high = curves[id(one.group)].T
        kept = mean > 0 if scale == "log" else np.full(len(mean), True)
        every = max(1, int(kept.sum()) // 6)  # staggered, so that marks on coinciding lines alternate
        bottom = mean - low if scale == "linear" else np.maximum(mean - low, mean / 10)
        ax.plot(
            at[kept],
            mean[kept],
            label=one.label,
            color=one.style.color,
            linestyle=one.style.line,
            marker=one.style.marker,
            markersize=0.75 * rcParams["lines.markersize"],
            markevery=(number % every, every),
        )
        ax.fill_between(
            at[kept],
            bottom[kept],
            (mean + high)[kept],
            color=one.style.color,
            alpha=0.18,
            linewidth=0,
            label=companion(one.label),
        )
    limit_scores(ax, y=up)
    return finish_labelled(ax, across, up, legend=legend)
