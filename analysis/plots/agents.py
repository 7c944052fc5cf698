"""How a measure is spread over the agents of a network."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from basinet.analysis.drawing.data import require_measured, require_runs
from basinet.analysis.drawing.style import axis_label, choose_scale, finish, ink, new_axes, styles
from basinet.analysis.statistics.run_labels import labels
from basinet.analysis.statistics.summary import finals
from basinet.sim.run.folder import Run

__all__ = ["agent_rows", "plot_agents"]


def agent_rows(runs: Sequence[Run], metric: str) -> list[dict[str, Any]]:
    """Collect the last value of a metric at each agent, and at the centroid.

    Args:
        runs: The runs; those whose agents were not measured (`analysis_points: [centroid, agents]`) are left out.
        metric: The metric.

    Returns:
        A row an agent: `label`, `replica`, `agent`, the metric by its name; and one for the centroid where it was
        measured, whose `agent` is "centroid".
    """
    rows: list[dict[str, Any]] = []
    for run, label in zip(runs, labels(runs), strict=True):
        last: dict[tuple[int, int], float] = {}
        for row in sorted(run.metrics, key=lambda row: int(row["step"])):
            if "agent" in row and metric in row and row["replica"] not in run.diverged:
                last[row["replica"], row["agent"]] = row[metric]
        if last:
            found: list[dict[str, Any]] = [
                {"replica": r, "agent": agent, metric: value} for (r, agent), value in sorted(last.items())
            ]
            found += [{"replica": r, "agent": "centroid", metric: v} for r, v in sorted(finals(run, metric).items())]
            rows += [{"label": label, **row} for row in found]
    return rows


def plot_agents(
    runs: Sequence[Run], metric: str = "hessian_trace", *, ax: Axes | None = None, legend: bool = True
) -> Axes:
    """Draw a metric of each agent, a column a run and replica, and that of the centroid over it.

    Args:
        runs: Runs whose agents were measured.
        metric: The metric.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend outside the axes.

    Returns:
        The axes: points are agents, bars the centroid.

    Raises:
        NoDataError: The metric was measured at no agent.
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
    ax.grid(alpha=0.25, axis="y")
    return finish(ax, legend=legend)
