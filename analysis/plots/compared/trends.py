"""A metric of groups of replicas against a number of their graph, or against a setting."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes

from basinet.analysis.compare.comparison import Comparison
from basinet.analysis.compare.fairness import Group
from basinet.analysis.compare.graph_columns import GRAPH
from basinet.analysis.drawing.axes import AxisScale, choose_scale, finish_labelled, limit_scores, new_axes
from basinet.analysis.drawing.data_checks import require
from basinet.analysis.drawing.style import GREY, MAIN, ink, styles
from basinet.analysis.plots.compared.compared_series import (
    Bars,
    chosen,
    mean_with_bars,
    ranking_metric,
    regrouped,
    require_comparison,
    values_of,
)
from basinet.analysis.statistics.run_labels import varied
from basinet.sim.run.folder import Run

__all__ = ["plot_trend", "trend_series"]

_MARKS = "o^sDvPX*<>ph"
"""Marks of topologies."""


def trend_series(found: Comparison, metric: str, x: str) -> tuple[Comparison, str]:
    """Regroup a comparison by what is across, too, and choose lines so that they are not too many to tell apart.

    Args:
        found: The comparison.
        metric: The metric that is drawn.
        x: `spectral_gap` or `degree` of the graph, or a key with numbers.

    Returns:
        The comparison by its own keys, followed by that key, or by those of the graph; and a sentence about what is not
        shown, empty if everything is.
    """
    found, own = _regrouped(found, x)
    return chosen(found, metric, lambda group: _name(found, group, own))


def _regrouped(found: Comparison, x: str) -> tuple[Comparison, int]:
    """Regroup a comparison unless it is; return the number of the keys of its lines, too."""
    keys = ["topology", *_of_graphs(found.frame.runs)] if x in GRAPH else [x]
    across = found.frame.axis_of(x)  # whose keys go along with what is across
    lines = [key for key in found.by if key not in keys and (across is None or found.frame.axis_of(key) != across)]
    by = (*lines, *keys)
    return found if found.by == by else regrouped(found, by), len(lines)


def _of_graphs(runs: Sequence[Run]) -> list[str]:
    """List the keys of topologies in which runs differ."""
    return [key for key in varied(runs) if key.startswith("topology.") and key != "topology.name"]


def _name(found: Comparison, group: Group, own: int) -> str:
    """Name the line of a group."""
    return ", ".join(filter(None, (values_of(found.by[:own], group.values[:own]), group.own)))


def plot_trend(
    found: Comparison,
    metric: str | None = None,
    *,
    x: str = "spectral_gap",
    interval: Bars = "error",
    condition: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
    xscale: AxisScale | None = None,
    yscale: AxisScale | None = None,
) -> Axes:
    """Draw a metric at the end of training against a number of the graph, or against a setting.

    Args:
        found: What `basinet.compare` returns; a line for each group.
        metric: The metric; by default the first of the comparison that has a better direction.
        x: `spectral_gap` or `degree` of the graph, where marks stand for topologies, and
            the line is the mean of those with the same number; or a key with numbers, such as
            `optimizer.lr` or `topology.agents`.
        interval: What the bars show: a standard error to both sides, or the 95 % bootstrap interval.
        condition: Draw only the groups of this condition; all if None.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.
        xscale: `linear` or `log`; chosen by the values if None.
        yscale: The same for the vertical axis.

    Returns:
        The axes.

    Raises:
        NoDataError: If no replica has both.
    """
    require_comparison(found)
    metric = metric or ranking_metric(found)
    found, own = _regrouped(found, x)
    xs, ys = found.frame.numbers(x), found.frame.numbers(metric)
    several = condition is None and len({group.condition for group in found.groups}) > 1
    lines: dict[str, list[tuple[float, float, float, float, str]]] = {}
    everything = []
    for group in found.groups:
        rows = group.rows[np.isfinite(xs[group.rows]) & np.isfinite(ys[group.rows])]
        parts = (_name(found, group, own), group.condition if several else "")
        line = lines.setdefault(", ".join(filter(None, parts)), [])  # in all panels, for the same styles
        if len(rows):
            mean, low, high = mean_with_bars(ys[rows], interval)
            everything.append((float(xs[rows].mean()), mean))
            if condition in (None, group.condition):
                line.append((everything[-1][0], mean, low, high, values_of(found.by[own:], group.values[own:])))
    require(everything, f"no replica has both {x} and {metric}")
    require([line for line in lines.values() if line], f"no replica has both {x} and {metric} under {condition}")
    ax = new_axes(ax)
    across, up = found.frame.quantity(x), found.frame.quantity(metric)
    ax.set_xscale(xscale or choose_scale(across, [place for place, _ in everything]))
    ax.set_yscale(yscale or choose_scale(up, [mean for _, mean in everything]))
    graphs = list(dict.fromkeys(values_of(found.by[own:], group.values[own:]) for group in found.groups))
    marks = dict(zip(graphs, _MARKS, strict=False)) if x in GRAPH and 1 < len(graphs) <= len(_MARKS) else {}
    size = 0.9 * rcParams["lines.markersize"]
    for label, style in styles(lines).items():
        line = sorted(lines[label])
        if not line:
            continue
        color = style.color if label else MAIN
        places, means, below, above = (np.array(column, dtype=float) for column in list(zip(*line, strict=True))[:4])
        marker = "" if marks else style.marker if label else "o"
        looks: dict[str, Any] = {"color": color, "linestyle": style.line if label else "-", "marker": marker}
        middle = [means[np.isclose(places, place)].mean() for place in places] if marks else means
        ax.plot(places, middle, markersize=size, label=label or None, **looks)
        ax.errorbar(
            places, means, yerr=[below, above], fmt="none", ecolor=color, capsize=size / 2, elinewidth=0.2 * size
        )
        for place, mean, _, _, graph in line if marks else ():
            ax.plot([place], [mean], marker=marks[graph], color=color, markersize=size, markeredgecolor=ink())
    for graph, mark in marks.items():
        ax.plot([], [], linestyle="none", marker=mark, color=GREY, markersize=size, label=graph)
    limit_scores(ax, y=up)
    return finish_labelled(ax, across, up, legend=legend)
