"""A metric over the values of two keys."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from basinet.analysis.compare.comparison import Comparison
from basinet.analysis.compare.fairness import Group, order_of
from basinet.analysis.drawing.axes import choose_scale, new_axes
from basinet.analysis.drawing.data_checks import require
from basinet.analysis.drawing.sizes import cell_of, shorten
from basinet.analysis.drawing.style import GREY, axis_label, contrast
from basinet.analysis.plots.compared.compared_series import (
    best_names,
    ranking_metric,
    regrouped,
    require_comparison,
    without_others,
)
from basinet.analysis.statistics.run_labels import describe
from basinet.sim.experiment.component import ExperimentError

__all__ = [
    "COLORS",
    "NARROW",
    "add_scale",
    "best_maps",
    "color_scale",
    "empty_cells",
    "group_mean",
    "over_keys",
    "plot_heat_map",
    "sides",
]

COLORS = colormaps["viridis"]
"""The colour map of metrics."""
NARROW = 4.5
"""Width in inches below which the scale of colours is below."""


def sides(found: Comparison, x: str | None, y: str | None) -> tuple[str, str]:
    """Choose the keys of a heat map.

    Args:
        found: The comparison.
        x: The key across; None for one that it compares.
        y: The key up; None for one that it compares.

    Returns:
        Both.

    Raises:
        ExperimentError: They are not told, or the same.
    """
    free = [key for key in found.by if key not in (x, y)]
    across = x or (free.pop(0) if free else None)
    up = y or (free.pop(0) if free else None)
    if across is None or up is None or across == up:
        told = ", ".join(dict.fromkeys(key for key in (across, up) if key))
        raise ExperimentError(
            f"--x, --y: a heat map needs two keys, such as optimizer.lr and batch_size; got {told or 'none'}"
        )
    return across, up


def over_keys(found: Comparison, x: str, y: str) -> Comparison:
    """Regroup a comparison by two keys, so that under each condition there is one group for a pair of values.

    Args:
        found: The comparison.
        x: The first key.
        y: The second key.

    Returns:
        The comparison by both. What else differs between strategies is told with the strategy, if it is a key, or
        belongs to the condition.
    """
    found = found if found.by == (x, y) else regrouped(found, (x, y))
    return replace(found, groups=tuple(_without_own(group, (x, y)) for group in found.groups))


def _without_own(group: Group, keys: tuple[str, str]) -> Group:
    if not group.own:
        return group
    if "strategy" not in keys:
        return replace(group, own="", condition=", ".join(filter(None, (group.own, group.condition))))
    pairs = zip(keys, group.values, strict=True)
    values = tuple(f"{value}, {group.own}" if key == "strategy" else value for key, value in pairs)
    return replace(group, own="", values=values)


def group_mean(found: Comparison, group: Group, metric: str) -> float:
    """Average the finite values of a metric.

    Args:
        found: The comparison.
        group: A group of it.
        metric: The metric.

    Returns:
        The mean; NaN without values.
    """
    values = found.frame.numbers(metric)[group.rows]
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else np.nan


def color_scale(found: Comparison, metric: str) -> Normalize:
    """Choose the scale of colours of the means of a metric.

    Args:
        found: The comparison.
        metric: The metric.

    Returns:
        The scale, linear or logarithmic.

    Raises:
        NoDataError: No group has a value.
    """
    means = [mean for group in found.groups if np.isfinite(mean := group_mean(found, group, metric))]
    require(means, f"no replica has a finite value of {metric}")
    kind = LogNorm if choose_scale(found.frame.quantity(metric), means) == "log" else Normalize
    return kind(min(means), max(means))


def empty_cells(found: Comparison, metric: str) -> str:
    """Say what the empty cells of maps are.

    Args:
        found: The comparison by two keys.
        metric: The metric of the maps.

    Returns:
        A sentence; empty if there are no such cells.
    """
    shown = [group for group in found.groups if np.isfinite(group_mean(found, group, metric))]
    conditions = {group.condition for group in found.groups}
    sides = [{describe(group.values[side]) for group in found.groups} for side in (0, 1)]
    empty = len(conditions) * len(sides[0]) * len(sides[1]) - len(shown)
    return f"cells without a colour ({empty}): there is no run, or no replica has {metric}" if empty else ""


def add_scale(found: Comparison, metric: str, figure: Figure, axes: Sequence[Axes]) -> None:
    """Add the scale of colours beside panels, or below narrow ones.

    Args:
        found: The comparison that they show.
        metric: The metric that the colours stand for.
        figure: The figure.
        axes: The panels.
    """
    label = axis_label(found.frame.quantity(metric), wrap=True)
    place = "bottom" if cell_of(axes[0])[0] < NARROW else "right"
    figure.colorbar(ScalarMappable(color_scale(found, metric), COLORS), ax=list(axes), label=label, location=place)


def plot_heat_map(
    found: Comparison,
    metric: str | None = None,
    *,
    x: str | None = None,
    y: str | None = None,
    condition: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    """Draw the mean of a metric over replicas for each pair of values of two keys.

    Args:
        found: What `basinet.compare` returns.
        metric: The metric; by default the first of the comparison that has a better direction.
        x: The key across; by default the first that is compared.
        y: The key up; by default the second that is compared.
        condition: Draw only the groups of this condition of the comparison by the two keys; the first if None.
        ax: Where to draw; new axes if None.
        legend: Whether to draw the scale of colours.

    Returns:
        The axes. Pairs that were not run, or whose replicas all diverged, are empty.

    Raises:
        NoDataError: If there is no value.
    """
    require_comparison(found)
    metric = metric or ranking_metric(found)
    x, y = sides(found, x, y)
    found = over_keys(found, x, y)
    require(found.groups, "there are no groups to draw")
    condition = found.groups[0].condition if condition is None else condition
    norm = color_scale(found, metric)
    across, up = (_ordered([group.values[side] for group in found.groups]) for side in (0, 1))
    heights = np.full((len(up), len(across)), np.nan)
    for group in found.groups:
        if group.condition == condition:
            left, low = map(describe, group.values)
            heights[up.index(low), across.index(left)] = group_mean(found, group, metric)
    ax = new_axes(ax)
    ax.imshow(heights, cmap=COLORS, norm=norm, aspect="auto", origin="lower")
    if heights.size <= 150:  # more would not fit
        for (i, j), height in np.ndenumerate(heights):
            said = f"{height:#.3g}".rstrip(".") if np.isfinite(height) else "–"
            color = contrast(COLORS(norm(height))) if np.isfinite(height) else GREY
            ax.text(j, i, said, ha="center", va="center", color=color, fontsize="small")
    ax.set_xticks(range(len(across)), across)
    size = FontProperties(size=rcParams["ytick.labelsize"]).get_size_in_points()
    ax.set_yticks(range(len(up)), [shorten(value, 0.3 * 72 * cell_of(ax)[0], size) for value in up])
    ax.set_xlabel(axis_label(found.frame.quantity(x)))
    ax.set_ylabel(axis_label(found.frame.quantity(y)))
    if legend:
        figure = ax.get_figure(root=True)
        assert figure is not None
        add_scale(found, metric, figure, [ax])
    return ax


def best_maps(found: Comparison, metric: str, most: int) -> tuple[Comparison, str]:
    """Choose conditions so that their maps are not too many.

    Args:
        found: The comparison by two keys.
        metric: The metric of the maps, by which they are judged.
        most: The largest number of maps.

    Returns:
        All, or those with the best means; and a sentence about what is not shown, empty if everything is.
    """
    best, label = best_names(found, metric, lambda group: group.condition)
    if len(best) <= most:
        return found, ""
    shown = list(best)[:most]
    kept = [group for group in found.groups if group.condition in shown]
    note = f"the figure shows the best {len(shown)} of {len(best)} conditions, by {label}; choose others by --where"
    return without_others(found, kept), note


def _ordered(values: Sequence[Any]) -> list[str]:
    """List different values as texts: numbers by size, others as they first appear."""
    found = list(map(describe, values))
    return list(dict.fromkeys(describe(value) for value in sorted(values, key=lambda value: order_of(value, found))))
