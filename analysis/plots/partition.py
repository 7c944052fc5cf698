"""The partition of the data: samples of each label at each agent."""

import csv
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from basinet.analysis.drawing.axes import new_axes
from basinet.analysis.drawing.data_checks import require, require_rows
from basinet.analysis.drawing.style import MAIN, contrast
from basinet.sim.run.folder import Run
from basinet.sim.run.records import PARTITION_COLUMNS

__all__ = ["dealt_by", "load_partition", "plot_partition"]

_MOST_NUMBERS = 200

_NUMBERS = {*PARTITION_COLUMNS} - {"label"}


def load_partition(run: Run) -> list[dict[str, Any]]:
    """Read the partition of the data over the agents.

    Args:
        run: A run.

    Returns:
        Rows with `replica`, `agent`, `label` (text), `samples` and the column (text) by which groups of samples were
        dealt out, if they were; empty if the run has no partition.
    """
    path = run.path / "partition.csv"
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [
            {name: int(value) if name in _NUMBERS else value for name, value in row.items()}
            for row in csv.DictReader(file)
        ]


def dealt_by(rows: Sequence[dict[str, Any]]) -> str:
    """Return the column by which samples are shown: the one that they were dealt out by, or the label.

    Args:
        rows: Rows from `load_partition`, at least one.

    Returns:
        Its name.
    """
    return next((name for name in rows[0] if name not in PARTITION_COLUMNS), "label")


def _by_number(label: str) -> tuple[float, str]:
    try:
        return float(label), label
    except ValueError:
        return float("inf"), label


def plot_partition(
    rows: Sequence[dict[str, Any]], *, replica: int = 0, ax: Axes | None = None, colorbar: bool = True
) -> Axes:
    """Draw the samples of each label, or of each group that was dealt out, at each agent of one replica.

    Args:
        rows: Rows from `load_partition`.
        replica: Index of the replica.
        ax: Where to draw; new axes if None.
        colorbar: Whether to draw a colour bar.

    Returns:
        The axes: an image of agents by labels, or bars if there is only one label.

    Raises:
        NoDataError: If there are no rows of this replica.
    """
    require_rows(rows, "replica", "agent", "label", "samples", otherwise="there is no partition to draw")
    chosen = [row for row in rows if row["replica"] == replica]
    known = ", ".join(map(str, sorted({row["replica"] for row in rows}))) or "none"
    require(chosen, f"replica: nobody holds samples in replica {replica}; there are replicas: {known}")
    ax = new_axes(ax)
    by = dealt_by(chosen)
    labels = sorted({row[by] for row in chosen}, key=_by_number)
    counts = np.zeros((max(row["agent"] for row in chosen) + 1, len(labels)), dtype=int)
    for row in chosen:
        counts[row["agent"], labels.index(row[by])] += row["samples"]
    if len(labels) == 1:
        ax.barh(np.arange(len(counts)), counts[:, 0], color=MAIN)
        ax.set(xlabel="samples", ylabel="agent", ylim=(len(counts) - 0.5, -0.5))
    else:
        _draw_image(counts, labels, by, ax, colorbar)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=16))
    return ax


def _draw_image(counts: np.ndarray, labels: Sequence[str], by: str, ax: Axes, colorbar: bool) -> None:
    image = ax.imshow(counts, cmap="Blues", aspect="auto", vmin=0, interpolation="nearest")
    if counts.size <= _MOST_NUMBERS:
        for (agent, label), samples in np.ndenumerate(counts):
            color = contrast(image.cmap(image.norm(samples)))
            ax.text(label, agent, str(samples), color=color, ha="center", va="center", fontsize=7)
    if len(labels) <= 30:
        ax.set_xticks(range(len(labels)), labels)
    ax.set(xlabel=by, ylabel="agent")
    if colorbar:
        ax.figure.colorbar(image, ax=ax, label="samples")
