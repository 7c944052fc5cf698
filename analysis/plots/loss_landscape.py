"""The loss around solutions: slices, planes with the agents in them, barriers."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from basinet.analysis.drawing.axes import finish, new_axes
from basinet.analysis.drawing.data_checks import require_rows
from basinet.analysis.drawing.style import ACCENT, MAIN, SHADES, contrast, ink, styles
from basinet.sim.run.records import Row

__all__ = ["draw_contours", "plot_barriers", "plot_slices", "plot_solutions", "plot_surface"]

_LINES = ("-", "--", "-.", ":")


def plot_slices(rows: Sequence[Row], *, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Draw the loss along lines through the centroid.

    Args:
        rows: `direction`, `position` (distance from the centroid) and `loss`.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes.

    Raises:
        NoDataError: If there are no rows.
    """
    missing = "there are no slices to draw; measure loss_slices"
    require_rows(rows, "direction", "position", "loss", otherwise=missing)
    ax = new_axes(ax)
    for name, style in styles(row["direction"] for row in rows).items():
        mine = [row for row in rows if row["direction"] == name]
        xs, ys = ([float(row[key]) for row in mine] for key in ("position", "loss"))
        ax.plot(xs, ys, label=name, color=style.color, linestyle=style.line)
    ax.set_xlabel("distance from the centroid")
    ax.set_ylabel("training loss")
    ax.grid(alpha=0.25)
    return finish(ax, legend=legend)


def draw_contours(rows: Sequence[Row], ax: Axes) -> None:
    """Draw contours of the loss.

    Args:
        rows: `x`, `y` and `loss` on a grid.
        ax: Where to draw.
    """
    xs, ys = (sorted({float(row[name]) for row in rows}) for name in ("x", "y"))
    losses = np.full((len(ys), len(xs)), np.nan)
    for row in rows:
        losses[ys.index(float(row["y"])), xs.index(float(row["x"]))] = float(row["loss"])
    low, high = float(np.nanmin(losses)), float(np.nanmax(losses))
    even = np.geomspace(low, high, 14)[1:-1] if 0 < 10 * low < high else 12  # levels in geometric progression
    lines = ax.contour(xs, ys, losses, levels=even, cmap=SHADES, norm="log" if low > 0 else None, linewidths=1)
    ax.clabel(lines, fontsize=6, fmt="%.3g")


def plot_surface(rows: Sequence[Row], agents: Sequence[Row], *, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Draw the loss in a plane through the centroid, with the agents projected into it.

    Args:
        rows: `x`, `y` and `loss` on a grid.
        agents: `x` and `y` of each agent; for a plane of principal directions also `explained_x`, `explained_y`.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes.

    Raises:
        NoDataError: If there are no rows.
    """
    missing = "there is no plane to draw; measure loss_surface or random_plane"
    require_rows(rows, "x", "y", "loss", otherwise=missing)
    require_rows(agents, "x", "y", otherwise="there are no agents to draw in the plane; they are measured with it")
    ax = new_axes(ax)
    draw_contours(rows, ax)
    places = [[float(row[name]) for row in agents] for name in ("x", "y")]
    ax.plot(*places, linestyle="none", marker="o", markersize=5, color=ACCENT, label="agents")
    ax.plot([0], [0], linestyle="none", marker="*", markersize=11, color=ink(), label="centroid")
    if "explained_x" in agents[0]:
        first, second = (100 * float(agents[0][f"explained_{axis}"]) for axis in "xy")
        ax.set_xlabel(f"first principal direction ({first:.0f} %)")
        ax.set_ylabel(f"second ({second:.0f} %)")
    else:
        ax.set_xlabel("first random direction")
        ax.set_ylabel("second")
    return finish(ax, legend=legend)


def plot_barriers(rows: Sequence[Row], *, ax: Axes | None = None) -> Axes:
    """Draw the loss on the straight paths from the centroid to each agent.

    Args:
        rows: `agent`, `position` from 0 at the centroid to 1 at the agent, and `loss`.
        ax: Where to draw; new axes if None.

    Returns:
        The axes.

    Raises:
        NoDataError: If there are no rows.
    """
    missing = "there are no barriers to draw; measure agent_barriers"
    require_rows(rows, "agent", "position", "loss", otherwise=missing)
    ax = new_axes(ax)
    for number, agent in enumerate(dict.fromkeys(row["agent"] for row in rows)):
        mine = [row for row in rows if row["agent"] == agent]
        xs, ys = ([float(row[key]) for row in mine] for key in ("position", "loss"))
        ax.plot(xs, ys, color=MAIN, linestyle=_LINES[number % len(_LINES)], alpha=0.6, linewidth=1)
    ax.set_xlabel("from the centroid (0) to an agent (1)")
    ax.set_ylabel("training loss")
    ax.grid(alpha=0.25)
    return ax


def plot_solutions(rows: Sequence[Row], *, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Draw the barriers between the solutions of runs as a matrix.

    Args:
        rows: `first`, `second`, `replica` and `barrier`.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend of the solutions' numbers.

    Returns:
        The axes.

    Raises:
        NoDataError: If there are no rows.
    """
    missing = "there are no solutions to compare; basinet analyze --between does"
    require_rows(rows, "first", "second", "replica", "barrier", otherwise=missing)
    ax = new_axes(ax)
    names = list(dict.fromkeys(row[end] for row in rows for end in ("first", "second")))
    heights = np.full((len(names), len(names)), np.nan)
    for i, first in enumerate(names):
        ax.plot([], [], linestyle="none", marker=f"${i + 1}$", color=ink(), label=first)
        for j, second in enumerate(names):
            found = {
                row["replica"]: float(row["barrier"])
                for row in rows
                if {row["first"], row["second"]} == {first, second}
            }
            if found and first != second:
                heights[i, j] = np.mean(list(found.values()))
    image = ax.imshow(heights, cmap=SHADES, vmin=0, vmax=1.5 * float(np.nanmax(heights)) or 1.0)
    for (i, j), height in np.ndenumerate(heights):
        if np.isfinite(height):
            color = contrast(SHADES(image.norm(height)))
            ax.text(j, i, f"{height:.2g}", ha="center", va="center", color=color, fontsize="small")
    numbers = range(len(names))
    ax.set_xticks(numbers, [str(number + 1) for number in numbers])
    ax.set_yticks(numbers, [str(number + 1) for number in numbers])
    return finish(ax, legend=legend)
