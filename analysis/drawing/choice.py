"""Which runs a figure shows: all, or where these are too many to be told apart, the best."""

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
"""Inches, of a panel with a long legend beside it."""


@dataclass(frozen=True)
class Choice:
    """What a figure shows.

    Attributes:
        runs: The runs.
        rows: Their data.
        draw: Makes the figure, as `panels` does.
        note: A sentence about runs that are left out, after a space; empty if there are none.
    """

    runs: Sequence[Run]
    rows: list[Row]
    draw: Callable[..., Figure]
    note: str = ""

    @property
    def notes(self) -> str:
        """What a caption says of runs that are not shown."""
        return self.note + _absent(self.runs, self.rows)


def choose(runs: Sequence[Run], load: Callable[[Sequence[Run]], list[Row]]) -> Choice:
    """Choose runs of which there are no more panels, and no more series in a panel, than can be told apart.

    Args:
        runs: All runs.
        load: Collects the data of runs, rows with their `label`.

    Returns:
        All of them; or those of the best strategies; or of many conditions the best run of each strategy.
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
    """Choose runs for a figure that has all in one panel.

    Args:
        runs: All runs.
        load: Collects the data of runs, rows with their `label`.

    Returns:
        All of them, or the best run of each strategy.
    """
    rows = load(runs)
    return _best(runs, load, rows) if len(runs) > 2 * MOST_SERIES else Choice(runs, rows, _together)


def _best(runs: Sequence[Run], load: Callable[[Sequence[Run]], list[Row]], rows: list[Row]) -> Choice:
    """Choose the best run of each strategy among those of which there are data."""
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
    """Draw all runs into one panel, each by its full name; takes what `panels` takes."""
    figure, (ax,) = grid(1, share_x=share_x, share_y=True, width=WIDE, height=4.2)
    plot(runs, ax=ax, legend=True, **kwargs)
    return figure


def _absent(runs: Sequence[Run], rows: Sequence[Row]) -> str:
    drawn = {row["label"] for row in rows}
    absent = [label for label in labels(runs) if label not in drawn]
    return f" Without these measurements, and so not shown: {listed(absent, '; ')}." if absent else ""
