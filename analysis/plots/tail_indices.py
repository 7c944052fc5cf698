"""How heavy the tails of the gradient noise are."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from basinet.analysis.drawing.data import point_rows, require_measured, require_runs
from basinet.analysis.drawing.style import GREY, axis_label, finish, new_axes, styles
from basinet.sim.run.folder import Run

__all__ = ["plot_tail_index"]


def plot_tail_index(runs: Sequence[Run], *, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Draw the tail index of each replica that did not diverge, with bars of 1.96 standard errors.

    Args:
        runs: The runs; a row each.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend outside the axes.

    Returns:
        The axes.

    Raises:
        NoDataError: No run has measured it.
    """
    require_runs(runs)
    rows = point_rows(runs, "tail_index", "tail_index_error")
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
