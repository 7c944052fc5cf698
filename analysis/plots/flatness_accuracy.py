"""How accuracy depends on flatness."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from basinet.analysis.plots.scatter import plot_scatter
from basinet.sim.run.folder import Run

__all__ = ["plot_flatness_accuracy"]


def plot_flatness_accuracy(
    runs: Sequence[Run],
    *,
    flatness: str = "hessian_trace",
    accuracy: str = "test_accuracy",
    ax: Axes | None = None,
    **kwargs: Any,
) -> Axes:
    """Draw accuracy against flatness at the end of training, one point a replica.

    Args:
        runs: The runs; where other keys than the strategy vary, `panels` draws a panel for each value.
        flatness: `hessian_trace` or `hessian_top_eigenvalue`.
        accuracy: `test_accuracy`, or `test_loss` for tasks without classes.
        ax: Where to draw; new axes if None.
        **kwargs: Handed to `plot_scatter`.

    Returns:
        The axes.

    Raises:
        NoDataError: No replica has both.

    Example:
        ::

            figure = panels(load_runs("runs/batch"), plot_flatness_accuracy, accuracy="test_loss")
            figure.savefig("flatness.pdf")
    """
    return plot_scatter(runs, flatness, accuracy, ax=ax, **kwargs)
