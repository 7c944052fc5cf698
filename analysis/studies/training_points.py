"""Figures of what trainings end at against what they cost."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from basinet.analysis.drawing.axes import label_log_axes
from basinet.analysis.drawing.legends import outside_legend
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import styles
from basinet.sim.run.records import Row

__all__ = ["draw_points"]


def draw_points(rows: Sequence[Row], x: str, y: str, *, labels: tuple[str, str], log: bool = False) -> Figure:
    """Draw a point with its standard error for each training.

    Args:
        rows: A row each, with its name under `training`, and the standard error under `standard error`, or None there.
        x: The column of the cost.
        y: The column of the mean over the replicas.
        labels: Labels of the two axes.
        log: Whether the cost has a logarithmic axis; otherwise, it begins at 0.

    Returns:
        The figure.
    """
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    for row, look in zip(rows, styles(row["training"] for row in rows).values(), strict=True):
        ax.errorbar(
            row[x], row[y], yerr=row["standard error"] or 0,
            label=row["training"], color=look.color, marker=look.marker, linestyle="", capsize=3,
        )  # fmt: skip
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    if log:
        ax.set_xscale("log")
    else:
        ax.set_xlim(0, 1.1 * max(row[x] for row in rows))
    outside_legend(ax)
    label_log_axes(ax)
    return figure
