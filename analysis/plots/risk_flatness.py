"""Optimization error against flatness."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from basinet.analysis.plots.scatter import plot_scatter
from basinet.sim.run.folder import Run

__all__ = ["plot_risk_flatness"]


def plot_risk_flatness(
    runs: Sequence[Run], *, flatness: str = "hessian_trace", ax: Axes | None = None, **kwargs: Any
) -> Axes:
    """Draw excess risk against flatness at the end of training, one point a replica.

    Args:
        runs: The runs; where other keys than the strategy vary, `panels` draws a panel for each value.
        flatness: `hessian_trace` or `hessian_top_eigenvalue`.
        ax: Where to draw; new axes if None.
        **kwargs: Handed to `plot_scatter`.

    Returns:
        The axes.

    Raises:
        NoDataError: No replica has both.
    """
    return plot_scatter(runs, flatness, "excess_risk", ax=ax, **kwargs)
