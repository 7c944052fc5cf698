"""Spread of a measure over the agents of a network."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from basinet.analysis.drawing.axes import choose_scale, finish, limit_scores, new_axes
from basinet.analysis.drawing.data_checks import require_measured, require_runs
from basinet.analysis.drawing.style import axis_label, ink, styles
from basinet.analysis.statistics.replica_values import agent_rows
from basinet.sim.run.folder import Run

__all__ = ["plot_agents"]


def plot_agents(
    runs: Sequence[Run], metric: str = "hessian_trace", *, ax: Axes | None = None, legend: bool = True
) -> Axes:
    """Draw a metric of each agent and of the centroid, one column per run and replica.

    Args:
        runs: Runs whose agents were measured.
        metric: The metric.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend outside the axes.

    Returns:
        The axes: points are agents, bars the centroid.

    Raises:
        NoDataError: If the metric was not measured at any agent.
    """
    require_runs(runs)
    rows = agent_rows(runs, metric)
    require_measured(rows, runs, metric, agents=True)
    ax = new_axes(ax)
    ax.set_yscale(choose_scale(metric, [row[metric] for row in rows]))
    start = 0.0
    for label, style in styles(row["label"] for row in rows).items():
        mine = [row for row in rows if row["label"] == label]
        for column, replica in enumerate(sorted({row["replica"] for row in mine})):
            x = start + column
            values = [r[metric] for r in mine if r["replica"] == replica and r["agent"] != "centroid"]
            name = label if not column else None
            looks: dict[str, Any] = {
                "marker": style.marker,
                "color": style.color,
                "linestyle": "none",
                "alpha": 0.4,
                "markersize": 5,
            }
            ax.plot([x] * len(values), values, label=name, **looks)
            middle = [r[metric] for r in mine if r["replica"] == replica and r["agent"] == "centroid"]
            ax.hlines(middle, x - 0.35, x + 0.35, color=ink(), linewidth=2)
        start = x + 2
    ax.set_xticks([])
    ax.set_xlabel("replicas of each run; bars: centroid")
    ax.set_ylabel(axis_label(metric, runs, wrap=True))
    limit_scores(ax, y=metric)
    ax.grid(alpha=0.25, axis="y")
    return finish(ax, legend=legend)
