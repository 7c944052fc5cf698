"""The choice of runs in a figure: all, or only the best if there are too many to tell apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from basinet.analysis.drawing.panels import grid, panels
from basinet.analysis.statistics.ranking import leaders
from basinet.analysis.statistics.run_labels import labels, listed, names
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row

__all__ = ["MOST_PANELS", "MOST_SERIES", "WIDE", "Choice", "choose", "choose_together"]

MOST_PANELS = 9
MOST_SERIES = 12
WIDE = 8.0
"""Width in inches of a panel with a long legend beside it."""


@dataclass(frozen=True)
class Choice:
    """The contents of a figure.

    Attributes:
        runs: The runs.
        rows: Their data.
        draw: Makes the figure, as `panels` does.
        note: A space and a sentence about runs that are left out; empty if there are none.
    """

    runs: Sequence[Run]
    rows: list[Row]
    draw: Callable[..., Figure]
    note: str = ""

    @property
    def notes(self) -> str:
        """The sentences of a caption about runs that are not shown."""
        return self.note + _absent(self.runs, self.rows)


def choose(runs: Sequence[Run], load: Callable[[Sequence[Run]], list[Row]]) -> Choice:
    """Choose runs so that neither the panels nor the series in a panel are too many to tell apart.

    Args:
        runs: All runs.
        load: Collects the data of runs, rows with their `label`.

    Returns:
        All runs; or those of the best strategies; or, for many conditions, the best run of each strategy.
    """
    rows, named, best = load(runs), names(runs), leaders(runs)
    if len({condition for _, condition in named}) > MOST_PANELS:
        return _best(runs, load, rows)
    if len(best) <= MOST_SERIES:
        return Choice(runs, rows, panels)
    known = {row["label"] for row in rows}
    measured = {strategy for (strategy, _), label in zip(named, labels(runs), strict=True) if label in known}
    best = [place for place in best if named[place][0] in measured]
    kept = {named[place][0] for place in best[:MOST_SERIES]}
    shown = [run for run, (strategy, _) in zip(runs, named, strict=True) if strategy in kept]
    return Choice(shown, load(shown), panels, f" Of {len(best)} strategies the best {len(kept)} are shown.")


def choose_together(runs: Sequence[Run], load: Callable[[Sequence[Run]], list[Row]]) -> Choice:
    """Choose runs for a figure with a single panel.

    Args:
        runs: All runs.
        load: Collects the data of runs, rows with their `label`.

    Returns:
        All runs, or the best run of each strategy.
    """
    rows = load(runs)
    return _best(runs, load, rows) if len(runs) > 2 * MOST_SERIES else Choice(runs, rows, _together)


def _best(runs: Sequence[Run], load: Callable[[Sequence[Run]], list[Row]], rows: list[Row]) -> Choice:
    """Choose the best run of each strategy among those with data."""
    known = {row["label"] for row in rows}
    measured = [run for run, label in zip(runs, labels(runs), strict=True) if label in known]
    best = leaders(measured)
    few = best[:MOST_SERIES]
    series = "each strategy" if len(few) == len(best) else f"each of the best {len(few)} of {len(best)} strategies"
    shown = [measured[place] for place in few]
    named = zip(runs, names(runs), strict=True)
    conditions = {condition for run, (_, condition) in named if any(run is one for one in shown)}
    common = f", all with {conditions.pop()}" if len(conditions) == 1 else ""
    count = f"{len(measured)} {'run' if len(measured) == 1 else 'runs'}" + (
        " with these measurements" if len(measured) < len(runs) else ""
    )
    return Choice(shown, load(shown), _together, f" Shown are, of {count}, the best of {series}{common}.")


def _together(runs: Sequence[Run], plot: Callable[..., Axes], *, share_x: bool = True, **kwargs: Any) -> Figure:
    """Draw all runs into one panel under their full names; same arguments as `panels`."""
    figure, (ax,) = grid(1, share_x=share_x, share_y=True, width=WIDE, height=4.2)
    plot(runs, ax=ax, legend=True, **kwargs)
    return figure


def _absent(runs: Sequence[Run], rows: Sequence[Row]) -> str:
    drawn = {row["label"] for row in rows}
    absent = [label for label in labels(runs) if label not in drawn]
    return f" Without these measurements, and so not shown: {listed(absent, '; ')}." if absent else ""
