"""Figures with several panels."""

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from basinet.analysis.drawing.axes import label_log_axes, widen_constants
from basinet.analysis.drawing.data_checks import NoDataError, require, require_runs
from basinet.analysis.drawing.layout import Fitted, Sheet, make_room
from basinet.analysis.drawing.legends import SAME, legend_below_panels, merge_marks, unmerged
from basinet.analysis.drawing.style import GREY, same_styles
from basinet.analysis.statistics.run_labels import names
from basinet.sim.run.folder import Run

__all__ = ["finish_panels", "grid", "panels"]


def grid(
    count: int,
    *,
    share_x: bool,
    share_y: bool,
    width: float = 4.0,
    height: float = 3.2,
    total: float | None = None,
    most: int = 3,
) -> tuple[Figure, list[Axes]]:
    """Create a figure of panels, not managed by pyplot.

    Args:
        count: Number of panels.
        share_x: Whether the panels share their horizontal axes.
        share_y: Whether the panels share their vertical axes.
        width: Width of a panel in inches; a single one is wider.
        height: Height of a panel in inches, less where the figure is narrow.
        total: Width of the whole figure in inches, overriding `width`.
        most: The largest number of panels in a row.

    Returns:
        The figure and its panels.
    """
    most = most if total is None else min(most, max(1, int(total / 1.6)))
    rows = ceil(count / most)
    columns = ceil(count / rows)
    full = total or max(6.0, width * columns)
    height *= min(1.0, max(0.65, full / columns / width))
    figure = Sheet(figsize=(full, height * rows + 0.3), layout=Fitted())
    axes = figure.subplots(rows, columns, squeeze=False, sharex=share_x, sharey=share_y).ravel().tolist()
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def panels(
    runs: Sequence[Run], plot: Callable[..., Axes], *, share_x: bool = True, width: float | None = None, **kwargs: Any
) -> Figure:
    """Draw one panel for each value of the keys that vary besides the strategy.

    Args:
        runs: The runs.
        plot: A function `plot(runs, *, ax, legend, **kwargs)` of this package.
        share_x: Whether the panels share their horizontal axes.
        width: Width of the figure in inches, such as 3.25 for a column; by default 4 for each panel in a row.
        **kwargs: Passed to `plot`.

    Returns:
        A figure not managed by pyplot, which needs no closing. A panel without data says so.

    Raises:
        NoDataError: If no panel has data.
    """
    require_runs(runs)
    require(runs, "there are no runs to draw")
    groups: dict[str, list[Run]] = {}
    for run, (_, condition) in zip(runs, names(runs), strict=True):
        groups.setdefault(condition, []).append(run)
    figure, axes = grid(len(groups), share_x=share_x, share_y=True, total=width)
    errors: list[NoDataError] = []
    for ax, (condition, group) in zip(axes, groups.items(), strict=True):
        try:
            with same_styles(runs):
                plot(group, ax=ax, legend=False, **kwargs)
        except NoDataError as error:
            errors.append(error)
            ax.text(0.5, 0.5, "no data", transform=ax.transAxes, ha="center", va="center", color=GREY)
        ax.set_title(condition, fontsize="medium")
    if len(errors) == len(axes):
        raise errors[0]
    finish_panels(figure, axes, share_x=share_x)
    return figure


def finish_panels(figure: Figure, axes: Sequence[Axes], *, share_x: bool) -> None:
    """Finish panels: label axes at the edges only, merge coinciding marks, and add one legend below.

    Args:
        figure: The figure, from `grid`.
        axes: Its panels, drawn without legends.
        share_x: Whether they share their horizontal axes.
    """
    handles: dict[str, Any] = {}
    single: dict[str, Any] = {}
    columns = axes[0].get_subplotspec().get_gridspec().ncols  # type: ignore[union-attr]
    for index, ax in enumerate(axes):
        widen_constants(ax)
        label_log_axes(ax)
        single = unmerged(ax) | single
        merge_marks(ax)
        lowest = index + columns >= len(axes)
        ax.tick_params(labelbottom=not share_x or lowest)
        ax.set_xlabel(ax.get_xlabel() if lowest else "")
        ax.set_ylabel(ax.get_ylabel() if index % columns == 0 else "")
        found, texts = ax.get_legend_handles_labels()
        handles |= {text: handle for text, handle in zip(texts, found, strict=True) if text not in handles}
    for text in [text for text in handles if SAME in text]:
        parts = text.split(SAME)
        if any(part in other.split(SAME) for part in parts for other in handles if other != text):
            del handles[text]  # they coincide in some panels only
            handles |= {part: single[part] for part in parts if part not in handles}
    make_room(figure, axes, columns)
    legend_below_panels(figure, list(handles.values()), list(handles))
