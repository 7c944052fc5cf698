"""Figures of runs by the name of their kind."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes

from basinet.analysis import plots
from basinet.analysis.plots.compared.compared_figures import KINDS, OF_RUNS
from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.mistakes import shown
from basinet.sim.run.folder import Run

__all__ = ["plot_kind", "plot_kinds"]

_PREFIX = "plot_"


def plot_kinds() -> dict[str, Callable[..., Axes]]:
    """Collect the functions that draw runs.

    Returns:
        The functions of `basinet.analysis.plots` whose first argument is a list of runs, by name without `plot_`.
    """
    found = {name.removeprefix(_PREFIX): getattr(plots, name) for name in plots.__all__ if name.startswith(_PREFIX)}
    return {kind: plot for kind, plot in found.items() if next(iter(inspect.signature(plot).parameters)) == "runs"}


def plot_kind(runs: Sequence[Run], kind: str, ax: Axes | None, options: dict[str, Any]) -> Axes:
    """Draw runs.

    Args:
        runs: The runs.
        kind: A kind of figure, such as "curves".
        ax: Where to draw; new axes if None.
        options: Further arguments of the function.

    Returns:
        The axes.

    Raises:
        ExperimentError: There is no such kind, or it takes no such argument.
    """
    known = plot_kinds()
    kind = OF_RUNS.get(kind, kind)
    if kind not in known and kind in KINDS:
        raise ExperimentError(
            f"kind: {kind} is a figure of a comparison: basinet compare --plot {kind}, or in Python"
            f" basinet.analysis.plots.comparison_figure(basinet.compare(…), {kind!r})"
        )
    if kind not in known:
        raise ExperimentError(f"kind: got {shown(kind)}; {nearest(str(kind), sorted(known))}")
    parameters = inspect.signature(known[kind]).parameters
    named = [name for name in parameters if name not in ("runs", "ax", "kwargs")]
    wrong = next((name for name in options if name not in named), None)
    if wrong is not None and "kwargs" not in parameters:
        raise ExperimentError(
            f"{wrong}: a figure of the kind {kind} has no argument '{wrong}'; {nearest(wrong, named)}"
        )
    return known[kind](runs, ax=ax, **options)
