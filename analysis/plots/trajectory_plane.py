"""Trajectories of runs in their principal plane."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from basinet.analysis.drawing.axes import finish, new_axes
from basinet.analysis.drawing.data_checks import NoDataError, require_runs
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import styles
from basinet.analysis.plots.loss_landscape import draw_contours
from basinet.analysis.runs.trajectory_surface import TABLE, Trajectories, principal_trajectories
from basinet.sim.run.folder import Run
from basinet.sim.run.records import read_table

__all__ = ["plot_trajectories", "trajectory_drawing"]


def plot_trajectories(
    runs: Sequence[Run], *, replica: int | None = None, ax: Axes | None = None, legend: bool = True
) -> Axes:
    """Draw the recorded trajectories of runs' centroids, over contours of the loss if evaluated in their plane.

    Args:
        runs: Runs that recorded a trajectory.
        replica: Index of the replica; by default the first that diverged in the fewest runs.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes; circles are starts, stars ends. The axis labels have the explained fractions of the variance.

    Raises:
        NoDataError: If no run recorded a trajectory, or all that did have diverged.
    """
    require_runs(runs)
    found = principal_trajectories(runs, replica)
    if found is None:
        which = "one that has not diverged" if replica is None else f"replica {replica}, or it has diverged in all"
        raise NoDataError(f"no run has recorded a trajectory of {which}; give them trajectory: centroid")
    ax = new_axes(ax)
    surface = _surface(runs, found)
    if surface:
        draw_contours(surface, ax)
    for (label, style), path in zip(styles(found.labels).items(), found.paths, strict=True):
        ax.plot(*path.T, color=style.color, linestyle=style.line, marker=".", markersize=4, label=label)
        ax.plot(*path[0], marker="o", color=style.color, markerfacecolor="none", markersize=7)
        ax.plot(*path[-1], marker="*", color=style.color, markersize=12)
    first, second = (100 * part for part in found.plane.explained.tolist())
    ax.set_xlabel(f"first principal direction ({first:.1f} %)")
    ax.set_ylabel(f"second ({second:.1f} %)")
    return finish(ax, legend=legend)


def _surface(runs: Sequence[Run], found: Trajectories) -> list[dict[str, str]]:
    """Read the loss in this plane, if it was evaluated."""
    folders = {run.path for run in runs} | {run.path.parent for run in runs}
    rows = [row for folder in sorted(folders) for row in read_table(folder / TABLE)]
    return [row for row in rows if row["trajectories"] == found.digest]


def trajectory_drawing(runs: Sequence[Run]) -> Drawing | None:
    """Draw the trajectories for a report.

    Args:
        runs: The runs.

    Returns:
        The figure; None if no run recorded a trajectory that did not diverge.
    """
    found = principal_trajectories(runs)
    if found is None:
        return None
    figure, (ax,) = grid(1, share_x=False, share_y=False, height=4.2)
    plot_trajectories(runs, replica=found.replica, ax=ax)
    farthest = max(float(distances.max()) for distances in found.distances)
    length = max(float(abs(path).max()) for path in found.paths)
    contours = (
        "Contours: training loss in the plane, which differs from that at the points projected into it. "
        if _surface(runs, found)
        else ""
    )
    caption = (
        f"Centroids of replica {found.replica} at the evaluations, from the circle to the star, in the plane of their "
        f"first two principal components, with percentages of explained variance. {contours}The paths reach "
        f"{length:.2g} from the middle of the plane, and {farthest:.2g} off it. Random walks, too, have most of their "
        "variance in two components."
    )
    return Drawing("trajectories", "Where the runs went", caption, figure, found.rows(runs))
