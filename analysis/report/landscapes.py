"""Figures of the tables that the analysis wrote: the loss around the solutions."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes

from basinet.analysis.drawing.choice import MOST_PANELS
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legends import legend_below_panels
from basinet.analysis.drawing.panels import grid, panels
from basinet.analysis.plots.density import plot_density
from basinet.analysis.plots.loss_landscape import plot_barriers, plot_slices, plot_solutions, plot_surface
from basinet.analysis.plots.replica_marks import plot_stability, stability_rows
from basinet.analysis.statistics.run_labels import labels
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row, read_table

__all__ = ["landscape_drawings"]


def landscape_drawings(runs: Sequence[Run]) -> list[Drawing]:
    """Draw the figures for which there are tables.

    Args:
        runs: The runs.

    Returns:
        The figures.
    """
    drawings = []
    if rows := stability_rows(runs):
        caption = (
            "Largest Hessian eigenvalue at the centroid after the last step, one marker per replica, and the largest "
            "curvature at which the last learning rate μ is stable on a quadratic: 2 / μ for centralized SGD and "
            "diffusion, (1 + λ_min(W)) / μ for consensus."
        )
        drawings.append(Drawing("stability", "Curvature and stability", caption, panels(runs, plot_stability), rows))
    kinds: list[tuple[str, str, str, Callable[..., Axes]]] = [
        (
            "density",
            "Spectral density of the Hessian",
            "Eigenvalues of the Hessian at the centroid, by stochastic Lanczos quadrature: each atom represents a "
            "fraction of the eigenvalues, the smallest atoms a single one.",
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
            "Training loss in the agents' principal plane through the centroid, and the agents projected into it; the "
            "percentages are fractions of the consensus distance. The loss at an agent is not that of its projection.",
            lambda run, rows, ax: plot_surface(rows, _table(run, "surface_agents"), ax=ax, legend=False),
        ),
        (
            "random_plane",
            "A random plane",
            "Training loss in the plane through the centroid along two random directions whose filters have the norms "
            "of the model's and whose biases are zero, and the agents projected into it; they are almost as far from "
            "the plane as from their centroid.",
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
    """Read a table of the first replica that has one, at the centroid if there are several points."""
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
    """Draw one panel for each run that has the table."""
    shown = tables[:MOST_PANELS]
    if not shown:
        return None
    figure, axes = grid(len(shown), share_x=False, share_y=False)
    for ax, (run, label, rows) in zip(axes, shown, strict=True):
        draw(run, rows, ax)
        ax.set_title(label, fontsize="medium")
    found, texts = axes[0].get_legend_handles_labels()
    if found:
        legend_below_panels(figure, found, texts)
    caption += f" One panel per run, for replica {shown[0][2][0]['replica']}."
    if len(tables) > len(shown):
        caption += f" The first {len(shown)} of {len(tables)} are shown."
    data = [{"run": label} | row for _, label, rows in shown for row in rows]
    return Drawing(name, title, caption, figure, data)
