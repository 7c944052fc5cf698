"""The loss around the solutions: spectral densities, slices, planes with the agents in them, barriers, stability."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from basinet.analysis.drawing.data import require_measured, require_rows, require_runs
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.style import (
    ACCENT,
    MAIN,
    SHADES,
    axis_label,
    contrast,
    finish,
    grid,
    ink,
    legend_below_panels,
    new_axes,
    panels,
    styles,
    symmetric_log,
)
from basinet.analysis.statistics.run_labels import labels
from basinet.analysis.statistics.summary import finals
from basinet.sim.run.folder import Run
from basinet.sim.run.records import read_table

__all__ = [
    "draw_contours",
    "landscape_drawings",
    "plot_barriers",
    "plot_density",
    "plot_slices",
    "plot_solutions",
    "plot_stability",
    "plot_surface",
    "stability_rows",
]

Row = dict[str, Any]

_MOST_PANELS = 9
_LINES = ("-", "--", "-.", ":")


def plot_density(rows: Sequence[Row], *, ax: Axes | None = None) -> Axes:
    """Draw a spectral density as its atoms: no bandwidth is chosen, so none can mislead.

    Args:
        rows: `eigenvalue` and `weight`, the part of all eigenvalues that an atom stands for.
        ax: Where to draw; new axes if None.

    Returns:
        The axes.

    Raises:
        NoDataError: There are none.
    """
    missing = "there is no spectral density to draw; measure hessian_density"
    require_rows(rows, "eigenvalue", "weight", otherwise=missing)
    ax = new_axes(ax)
    nodes, weights = (np.array([float(row[name]) for row in rows]) for name in ("eigenvalue", "weight"))
    kept = weights > 0
    ax.set_yscale("log")
    ax.vlines(nodes[kept], weights[kept].min() / 3, weights[kept], color=MAIN, linewidth=1.5)
    ax.plot(nodes[kept], weights[kept], linestyle="none", marker="o", markersize=3, color=MAIN)
    symmetric_log(ax, nodes)
    ax.set_xlabel("Hessian eigenvalue")
    ax.set_ylabel("part of all eigenvalues")
    ax.grid(alpha=0.25)
    return ax


def plot_slices(rows: Sequence[Row], *, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Draw the loss along lines through the centroid.

    Args:
        rows: `direction`, `position` (distance from the centroid) and `loss`.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes.

    Raises:
        NoDataError: There are none.
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
    even = np.geomspace(low, high, 14)[1:-1] if 0 < 10 * low < high else 12  # each level so many times the last one
    lines = ax.contour(xs, ys, losses, levels=even, cmap=SHADES, norm="log" if low > 0 else None, linewidths=1)
    ax.clabel(lines, fontsize=6, fmt="%.3g")


def plot_surface(rows: Sequence[Row], agents: Sequence[Row], *, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Draw the loss in a plane through the centroid, with the agents projected into it.

    Args:
        rows: `x`, `y` and `loss` on a grid.
        agents: `x` and `y` of each agent, and for a plane of principal directions `explained_x`, `explained_y`.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes.

    Raises:
        NoDataError: There are none.
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
        NoDataError: There are none.
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


def stability_rows(runs: Sequence[Run]) -> list[Row]:
    """Collect the largest Hessian eigenvalues and the limits of stability.

    Args:
        runs: The runs.

    Returns:
        A row a run and replica that has both: `label`, `replica`, `hessian_top_eigenvalue`, `stability_limit`, and
        `consensus_stability_limit` where it is known.
    """
    rows = []
    for run, label in zip(runs, labels(runs), strict=True):
        tops, limits, others = (
            finals(run, name) for name in ("hessian_top_eigenvalue", "stability_limit", "consensus_stability_limit")
        )
        for replica in sorted(tops.keys() & limits):
            row = {"label": label, "replica": replica, "hessian_top_eigenvalue": tops[replica]}
            row |= {"stability_limit": limits[replica]}
            rows.append(row | ({"consensus_stability_limit": others[replica]} if replica in others else {}))
    return rows


def plot_stability(runs: Sequence[Run], *, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Draw the largest Hessian eigenvalues below the largest curvatures at which the learning rate μ is stable.

    Args:
        runs: The runs; one place on the horizontal axis each.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes.

    Raises:
        NoDataError: No replica has both.
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


def plot_solutions(rows: Sequence[Row], *, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Draw the barriers between the solutions of runs as a matrix.

    Args:
        rows: `first`, `second`, `replica` and `barrier`.
        ax: Where to draw; new axes if None.
        legend: Whether to say which solution has which number.

    Returns:
        The axes.

    Raises:
        NoDataError: There are none.
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


def landscape_drawings(runs: Sequence[Run]) -> list[Drawing]:
    """Draw what there are tables of.

    Args:
        runs: The runs.

    Returns:
        The figures.
    """
    drawings = []
    if rows := stability_rows(runs):
        caption = (
            "Largest Hessian eigenvalue at the centroid after the last step, a marker a replica, and the largest "
            "curvature at which the last learning rate μ is stable on a quadratic: 2 / μ for centralized SGD and "
            "diffusion, (1 + λ_min(W)) / μ for consensus."
        )
        drawings.append(Drawing("stability", "Curvature and stability", caption, panels(runs, plot_stability), rows))
    kinds: list[tuple[str, str, str, Callable[..., Axes]]] = [
        (
            "density",
            "Spectral density of the Hessian",
            "Eigenvalues of the Hessian at the centroid, by stochastic Lanczos quadrature: an atom stands for part of "
            "all eigenvalues, and the least ones for a single eigenvalue.",
            lambda run, rows, ax: plot_density(rows, ax=ax),
        ),
        (
            "slices",
            "Slices through the loss",
            "Training loss along the eigenvectors of the largest Hessian eigenvalues and along random directions whose "
            "filters have the norms of the model's, through the centroid.",
            lambda run, rows, ax: plot_slices(rows, ax=ax, legend=False),
        ),
        (
            "surface",
            "The loss among the agents",
            "Training loss in the plane through the centroid in which the agents spread most, and the agents projected "
            "into it; the percentages are parts of the consensus distance. The loss at an agent is not that of its "
            "projection.",
            lambda run, rows, ax: plot_surface(rows, _table(run, "surface_agents"), ax=ax, legend=False),
        ),
        (
            "random_plane",
            "A random plane",
            "Training loss in the plane through the centroid along two random directions whose filters have the norms "
            "of the model's and whose biases are zero, and the agents projected into it, who lie off the plane almost "
            "as far as from their centroid.",
            lambda run, rows, ax: plot_surface(rows, _table(run, "random_plane_agents"), ax=ax, legend=False),
        ),
        (
            "barriers",
            "From the centroid to the agents",
            "Training loss on the straight paths from the centroid to each agent.",
            lambda run, rows, ax: plot_barriers(rows, ax=ax),
        ),
    ]
    for name, title, caption, draw in kinds:
        tables = [(run, label, _table(run, name)) for run, label in zip(runs, labels(runs), strict=True)]
        drawing = _side_by_side(name, title, caption, [table for table in tables if table[2]], draw)
        drawings += [drawing] if drawing is not None else []
    parents = {run.path.parent for run in runs}
    between: list[Row] = [dict(row) for parent in parents for row in read_table(parent / "solution_barriers.csv")]
    if between:
        figure, (ax,) = grid(1, share_x=False, share_y=False, height=4.2)
        plot_solutions(between, ax=ax)
        caption = (
            "Largest rise of the training loss on the straight path between the centroids of two runs above the line "
            "between their losses; mean over the replicas."
        )
        drawings.append(Drawing("solution_barriers", "Between the solutions", caption, figure, between))
    return drawings


def _table(run: Run, name: str) -> list[Row]:
    """Read a table of the first replica that has one, at the centroid where there are several points."""
    rows: list[Row] = [dict(row) for row in read_table(run.path / f"{name}.csv")]
    if name == "density":
        rows = [row for row in rows if not row.get("agent")]
    return [row for row in rows if row["replica"] == rows[0]["replica"]]


def _side_by_side(
    name: str,
    title: str,
    caption: str,
    tables: Sequence[tuple[Run, str, list[Row]]],
    draw: Callable[[Run, list[Row], Axes], Axes],
) -> Drawing | None:
    """Draw a panel for each run that has the table."""
    shown = tables[:_MOST_PANELS]
    if not shown:
        return None
    figure, axes = grid(len(shown), share_x=False, share_y=False)
    for ax, (run, label, rows) in zip(axes, shown, strict=True):
        draw(run, rows, ax)
        ax.set_title(label, fontsize="medium")
    found, texts = axes[0].get_legend_handles_labels()
    if found:
        legend_below_panels(figure, found, texts)
    caption += f" One panel a run, of its replica {shown[0][2][0]['replica']}."
    if len(tables) > len(shown):
        caption += f" The first {len(shown)} of {len(tables)} are shown."
    data = [{"run": label} | row for _, label, rows in shown for row in rows]
    return Drawing(name, title, caption, figure, data)
