"""How far the agents are from each other."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from basinet.analysis.plots.curves import plot_curves
from basinet.sim.run.folder import Run

__all__ = ["plot_consensus"]


def plot_consensus(runs: Sequence[Run], *, ax: Axes | None = None, legend: bool = True, **kwargs: Any) -> Axes:
    """Draw the consensus distance on a logarithmic axis.

    Zeros have no place there. They are left out (agents that start from the same parameters, at step 0); a
    run that is zero throughout, as a centralized one, is only named in the legend.

    Args:
        runs: The runs; where other keys than the strategy vary, `panels` draws a panel for each value.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.
        **kwargs: Handed to `plot_curves`.

    Returns:
        The axes.

    Raises:
        NoDataError: No run has measured it.
    """
    return plot_curves(runs, "consensus_distance", ax=ax, legend=legend, yscale="log", **kwargs)
