"""Figures of the network: the agents' graph and the partition of the data."""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes

from basinet.analysis.drawing.choice import MOST_PANELS
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.panels import grid
from basinet.analysis.plots.network.topology import load_weights, plot_topology, usual_layout
from basinet.analysis.plots.partition import dealt_by, load_partition, plot_partition
from basinet.analysis.statistics.run_labels import describe, strategy_label
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row

__all__ = ["partition_drawing", "topology_drawing"]


def topology_drawing(runs: Sequence[Run]) -> Drawing | None:
    """Draw each distinct topology.

    Args:
        runs: The runs.

    Returns:
        The figure; None if no run has a mixing matrix.
    """

    def load(run: Run) -> list[Row]:
        matrix = load_weights(run)
        if matrix is None:
            return []
        entries = matrix.tocoo()
        columns = zip(entries.row.tolist(), entries.col.tolist(), entries.data.tolist(), strict=True)
        return [{"receiver": row, "sender": column, "weight": weight} for row, column, weight in columns]

    def draw(run: Run, rows: list[Row], ax: Axes) -> None:
        plot_topology(load_weights(run), ax=ax, layout=usual_layout(component(run)))

    def component(run: Run) -> str:
        topology = run.config.get("topology")
        return str(topology.get("name") if isinstance(topology, dict) else topology)

    caption = (
        "The agents and their mixing weights; the colour of a node is the agent's own weight. "
        "For more than 60 agents: the nonzero entries of the mixing matrix."
    )
    return _distinct(runs, load, draw, lambda run: run.config.get("topology"), ("topology", "Topology", caption))


def partition_drawing(runs: Sequence[Run]) -> Drawing | None:
    """Draw each distinct partition of the data.

    Args:
        runs: The runs.

    Returns:
        The figure; None if no run has one.
    """

    def load(run: Run) -> list[Row]:
        return [row for row in load_partition(run) if row["replica"] == 0]

    def draw(run: Run, rows: list[Row], ax: Axes) -> None:
        plot_partition(rows, ax=ax)

    def source(run: Run) -> Any:
        task = run.config.get("task")
        return task.get("partition", task) if isinstance(task, dict) else task

    tables = [rows for rows in map(load, runs) if rows]
    groups = dict.fromkeys(dealt_by(rows) for rows in tables if len({row[dealt_by(rows)] for row in rows}) > 1)
    # A task without labels has a single one.
    each = f"of each {' or '.join(groups)} " if groups else ""
    caption = f"Samples {each}at each agent, in replica 0."
    return _distinct(runs, load, draw, source, ("partition", "Who holds what", caption))


def _distinct(
    runs: Sequence[Run],
    load: Callable[[Run], list[Row]],
    draw: Callable[[Run, list[Row], Axes], None],
    source: Callable[[Run], Any],
    texts: tuple[str, str, str],
) -> Drawing | None:
    """Draw one panel for each distinct table among the runs."""
    tables: dict[str, tuple[Run, list[Row]]] = {}
    for run in runs:
        rows = load(run)
        if rows:
            tables.setdefault(repr(rows), (run, rows))
    if not tables:
        return None
    shown = list(tables.values())[:MOST_PANELS]
    titles = [describe(source(run)) for run, _ in shown]
    if len(set(titles)) < len(titles):
        titles = [f"{strategy_label(run.config)}: {title}" for title, (run, _) in zip(titles, shown, strict=True)]
    figure, axes = grid(len(shown), share_x=False, share_y=False, height=4.2)
    for ax, title, (run, rows) in zip(axes, titles, shown, strict=True):
        draw(run, rows, ax)
        ax.set_title(title, fontsize="medium", wrap=True)
    name, heading, caption = texts
    if len(tables) > len(shown):
        caption += f" The first {len(shown)} of {len(tables)} are shown."
    data = [{"panel": title} | row for title, (_, rows) in zip(titles, shown, strict=True) for row in rows]
    return Drawing(name, heading, caption, figure, data)
