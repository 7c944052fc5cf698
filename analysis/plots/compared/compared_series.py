"""What figures of comparisons share: series of replicas, their means with intervals, and panels of conditions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from basinet.analysis.compare.comparison import Comparison
from basinet.analysis.compare.fairness import Group, grouped
from basinet.analysis.drawing.choice import MOST_PANELS, MOST_SERIES
from basinet.analysis.drawing.data_checks import NoDataError, kind_of, require
from basinet.analysis.drawing.panels import finish_panels, grid
from basinet.analysis.drawing.style import GREY, Style, styles
from basinet.analysis.statistics.bootstrap import bootstrap_interval, resamples
from basinet.analysis.statistics.replica_values import moments
from basinet.analysis.statistics.run_labels import describe
from basinet.sim.experiment.component import ExperimentError

__all__ = [
    "Bars",
    "Series",
    "best_names",
    "chosen",
    "mean_with_bars",
    "panels_of_conditions",
    "ranking_metric",
    "regrouped",
    "require_comparison",
    "series_of",
    "values_of",
    "without_others",
]

Array = NDArray[np.float64]

Bars = Literal["error", "bootstrap"]
"""Intervals around means: a standard error to both sides, or the 95 % percentile bootstrap."""


@dataclass(frozen=True, eq=False)
class Series:
    """A series of a figure.

    Attributes:
        label: Its name in the legend.
        style: How it looks.
        group: Its replicas.
    """

    label: str
    style: Style
    group: Group


def require_comparison(found: Any) -> None:
    """Raise unless a value is a comparison.

    Args:
        found: The value.

    Raises:
        ExperimentError: It is something else.
    """
    if not isinstance(found, Comparison):
        raise ExperimentError(f"found: expected a comparison, as basinet.compare returns it, not {kind_of(found)}")


def values_of(keys: Sequence[str], values: Sequence[Any]) -> str:
    """Name the values of compared keys.

    Args:
        keys: The keys.
        values: Their values.

    Returns:
        Text on one line; only values that are names stand without their key.
    """
    pairs = zip(keys, values, strict=True)
    return ", ".join(v if isinstance(v, str) else f"{key.split('.')[-1]}={describe(v)}" for key, v in pairs)


def series_of(found: Comparison, condition: str | None = None) -> list[Series]:
    """List the series of a figure, or of one of its panels.

    Args:
        found: The comparison.
        condition: The condition of the panel; None for all in one.

    Returns:
        Series by group, which look the same in all panels.
    """
    several = condition is None and len({group.condition for group in found.groups}) > 1
    labels = []
    for group in found.groups:
        parts = (values_of(found.by, group.values), group.own, group.condition if several else "")
        labels.append(", ".join(filter(None, parts)))
    looks = styles(labels)
    pairs = zip(labels, found.groups, strict=True)
    return [Series(label, looks[label], group) for label, group in pairs if condition in (None, group.condition)]


def mean_with_bars(values: Array, interval: Bars) -> tuple[float, float, float]:
    """Compute a mean and the lengths of its bars.

    Args:
        values: Values of replicas, at least one.
        interval: What the bars show.

    Returns:
        The mean, and the lengths of the bars below and above; zero for a single value.
    """
    mean, error, count = moments(values.tolist())
    assert mean is not None
    if interval == "error" or count < 2:
        return mean, error or 0.0, error or 0.0
    low, high = bootstrap_interval(values[resamples(count, seed=0)].mean(1), count)
    return mean, max(0.0, mean - low), max(0.0, high - mean)


def ranking_metric(found: Comparison) -> str:
    """Choose the metric by which groups are judged.

    Args:
        found: The comparison.

    Returns:
        Its first metric with a better direction.

    Raises:
        NoDataError: It has none.
    """
    known = [metric for metric, quantity in found.quantities.items() if quantity.direction]
    require(known, "no run has measured a metric that is to rise or to fall; name one by --metrics or --y")
    return known[0]


def regrouped(found: Comparison, by: Sequence[str]) -> Comparison:
    """Compare the same replicas by other keys.

    Args:
        found: The comparison.
        by: The keys.

    Returns:
        A comparison without means.
    """
    groups, notes = grouped(found.frame, by)
    return replace(without_others(found, groups), by=tuple(by), notes=tuple(notes))


def best_names(found: Comparison, metric: str, name: Callable[[Group], str]) -> tuple[dict[str, Group], str]:
    """Order groups of groups by their best mean.

    Args:
        found: The comparison.
        metric: The metric by which they are judged; if neither direction of it is better, the first that has one.
        name: Names the group that a group belongs to.

    Returns:
        The best group by name, the best first; and the label of the metric.
    """
    known = (name for name in (metric, *found.frame.metrics) if found.frame.quantity(name).direction)
    judged = next(known, metric)
    quantity, column = found.frame.quantity(judged), found.frame.numbers(judged)

    def badness(group: Group) -> float:
        known = column[group.rows][np.isfinite(column[group.rows])]
        return (-1 if quantity.direction == "larger" else 1) * float(known.mean()) if len(known) else np.inf

    best: dict[str, Group] = {}
    for group in sorted(found.groups, key=badness):
        best.setdefault(name(group), group)
    return best, quantity.label


def chosen(
    found: Comparison, metric: str, name: Callable[[Group], str] = lambda group: group.label
) -> tuple[Comparison, str]:
    """Choose groups so that neither the panels nor the series are too many to tell apart.

    Args:
        found: The comparison.
        metric: The metric that is drawn, by which the groups are judged.
        name: Names the series of a group.

    Returns:
        All groups, or those of the best series, or of each series those of the best condition; and a sentence about
        what is not shown, empty if everything is.
    """
    conditions = {group.condition for group in found.groups}
    many = len(conditions) > MOST_PANELS
    if not many and len({name(group) for group in found.groups}) <= MOST_SERIES:
        return found, ""
    best, label = best_names(found, metric, name)
    shown = list(best)[:MOST_SERIES]
    kept = [group for group in found.groups if name(group) in shown]
    note = f"the best {len(shown)} of {len(best)} series" if len(shown) < len(best) else "all series"
    if many:
        note += f", each under its best of {len(conditions)} conditions"
        kept = [group for group in kept if group.condition == best[name(group)].condition]
        kept.sort(key=lambda group: shown.index(name(group)))
        kept = _under_one_condition(kept)
    return without_others(found, kept), f"the figure shows {note}, by {label}; choose others by --where"


def _under_one_condition(groups: Sequence[Group]) -> list[Group]:
    """Leave in the conditions of groups what they share, and move the rest to their own settings."""
    whole = any("[" in group.condition for group in groups)  # commas within lists separate nothing
    parts = [[group.condition] if whole else group.condition.split(", ") for group in groups]
    common = [part for part in parts[0] if all(part in others for others in parts)]
    return [
        replace(
            group,
            own=", ".join(filter(None, (group.own, *(part for part in mine if part not in common)))),
            condition=", ".join(common),
        )
        for group, mine in zip(groups, parts, strict=True)
    ]


def without_others(found: Comparison, groups: Sequence[Group]) -> Comparison:
    """Keep some groups, without the means of the comparison.

    Args:
        found: The comparison.
        groups: The groups.

    Returns:
        The comparison of these groups.
    """
    return replace(found, groups=tuple(groups), means=({},) * len(groups), efforts=())


def panels_of_conditions(
    found: Comparison,
    plot: Callable[..., Axes],
    *,
    width: float | None = None,
    share_x: bool = True,
    most: int = 3,
    finish: Callable[[Figure, Sequence[Axes]], None] | None = None,
) -> Figure:
    """Draw a panel for each condition.

    Args:
        found: The comparison.
        plot: A function `plot(found, *, condition, ax, legend)`.
        width: Width of the figure in inches; by default 4 for each panel in a row.
        share_x: Whether the panels share their horizontal axes.
        most: The largest number of panels in a row.
        finish: Adds to several panels what a single one draws by itself, such as a scale of colours.

    Returns:
        A figure not managed by pyplot. A panel without data says so.

    Raises:
        NoDataError: If no panel has data.
    """
    conditions = list(dict.fromkeys(group.condition for group in found.groups))
    require(conditions, "there are no groups to draw")
    figure, axes = grid(len(conditions), share_x=share_x, share_y=True, total=width, most=most)
    errors: list[NoDataError] = []
    for ax, condition in zip(axes, conditions, strict=True):
        try:
            plot(found, condition=condition, ax=ax, legend=len(axes) == 1)
        except NoDataError as error:
            errors.append(error)
            ax.text(0.5, 0.5, "no data", transform=ax.transAxes, ha="center", va="center", color=GREY)
        ax.set_title(condition, fontsize="medium")
    if len(errors) == len(axes):
        raise errors[0]
    if len(axes) > 1:
        if finish is not None:
            finish(figure, axes)
        finish_panels(figure, axes, share_x=share_x)
    return figure
