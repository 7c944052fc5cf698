"""Plots with one mark per replica: tail index of the gradient noise, and curvature against the stability limit."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from basinet.analysis.drawing.axes import finish, new_axes
from basinet.analysis.drawing.data_checks import require_measured, require_runs
from basinet.analysis.drawing.style import GREY, axis_label, ink, styles
from basinet.analysis.statistics.replica_values import replica_rows
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row

__all__ = ["plot_stability", "plot_tail_index", "stability_rows"]


def plot_tail_index(runs: Sequence[Run], *, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Draw the tail index of each replica that did not diverge, with bars of 1.96 standard errors.

    Args:
        runs: The runs; one row each.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend outside the axes.

    Returns:
        The axes.

    Raises:
        NoDataError: If no run measured it.
    """
    require_runs(runs)
    rows = replica_rows(runs, "tail_index", "tail_index_error")
    require_measured(rows, runs, "tail_index", "tail_index_error")
    ax = new_axes(ax)
    series = styles(row["label"] for row in rows)
    for place, (label, style) in enumerate(series.items()):
        chosen = [row for row in rows if row["label"] == label]
        spread = [place + 0.5 * ((n + 0.5) / len(chosen) - 0.5) for n in range(len(chosen))]
        values = [row["tail_index"] for row in chosen]
        errors = [1.96 * row["tail_index_error"] for row in chosen]
        looks: dict[str, Any] = {
            "fmt": style.marker,
            "color": style.color,
            "markersize": 5,
            "capsize": 2,
            "label": label,
        }
        ax.errorbar(values, spread, xerr=errors, **looks)
    ax.axvline(2, color=GREY, linestyle=":")
    ax.set_yticks([])
    ax.set_ylim(len(series) - 0.5, -0.5)
    ax.set_xlabel(axis_label("tail_index", runs))
    ax.grid(alpha=0.25, axis="x")
    return finish(ax, legend=legend)


def stability_rows(runs: Sequence[Run]) -> list[Row]:
    """Collect the largest Hessian eigenvalues and the stability limits.

    Args:
        runs: The runs.

    Returns:
        One row per run and replica that has both: `label`, `replica`, `hessian_top_eigenvalue`, `stability_limit`, and
        `consensus_stability_limit` if known.
    """
    names = ("hessian_top_eigenvalue", "stability_limit")
    rows = replica_rows(runs, *names, optional="consensus_stability_limit")
    return [{key: value for key, value in row.items() if key not in ("strategy", "condition")} for row in rows]


def plot_stability(runs: Sequence[Run], *, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Draw the largest Hessian eigenvalues with the largest curvatures at which the learning rate μ is stable.

    Args:
        runs: The runs; one position on the horizontal axis each.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes.

    Raises:
        NoDataError: If no replica has both.
    """
    require_runs(runs)
    rows = stability_rows(runs)
    require_measured(rows, runs, "hessian_top_eigenvalue", "stability_limit")
    ax = new_axes(ax)
    for place, (label, style) in enumerate(styles(row["label"] for row in rows).items()):
        mine = [row for row in rows if row["label"] == label]
        tops = [row["hessian_top_eigenvalue"] for row in mine]
        ax.plot([place] * len(tops), tops, linestyle="none", marker=style.marker, color=style.color, label=label)
        ends = (place - 0.4, place + 0.4)
        ax.hlines(mine[0]["stability_limit"], *ends, color=ink(), label="" if place else "2 / μ")
        if "consensus_stability_limit" in mine[0]:
            text = "" if place else "(1 + λ_min(W)) / μ"
            ax.hlines(mine[0]["consensus_stability_limit"], *ends, color=ink(), linestyle="--", label=text)
    ax.set_yscale("log")
    ax.set_xticks([])
    ax.set_xlim(-0.6, max(0.6, len({row["label"] for row in rows}) - 0.4))
    ax.set_ylabel(axis_label("hessian_top_eigenvalue", runs, wrap=True))
    return finish(ax, legend=legend)
