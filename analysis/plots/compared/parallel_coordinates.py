"""Groups of replicas as lines across parallel axes: settings, then what was measured."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import NullLocator

from basinet.analysis.compare.comparison import Comparison
from basinet.analysis.compare.fairness import differing
from basinet.analysis.drawing.axes import choose_scale, new_axes
from basinet.analysis.drawing.data_checks import require
from basinet.analysis.drawing.layout import SMALLEST
from basinet.analysis.drawing.sizes import cell_of, text_width, wrap_text
from basinet.analysis.drawing.style import GREY, axis_label, ink
from basinet.analysis.plots.compared.compared_series import ranking_metric, regrouped, require_comparison
from basinet.analysis.plots.compared.heat_map import COLORS, NARROW, add_scale, color_scale, group_mean
from basinet.analysis.statistics.run_labels import describe
from basinet.sim.experiment.component import ExperimentError

__all__ = ["plot_parallel"]

_USUAL = ("hessian_trace", "hessian_top_eigenvalue", "excess_risk")
"""Metrics that are shown beside the main one."""
_MOST_NAMES = 8
_MOST_AXES = 8


def plot_parallel(
    found: Comparison,
    metrics: Sequence[str] = (),
    *,
    condition: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    """Draw a line for each group across parallel axes: the keys in which runs differ, then means of metrics.

    Args:
        found: What `basinet.compare` returns.
        metrics: The metrics; the colour of a line is its value of the first. By default, the first of the comparison
            that has a better direction, flatness and excess risk.
        condition: Draw only the groups of this condition; all if None.
        ax: Where to draw; new axes if None.
        legend: Whether to draw the scale of colours.

    Returns:
        The axes. Groups without a value of each metric are left out.

    Raises:
        NoDataError: If no group has a value of each metric.
        ExperimentError: If there are too many axes.
    """
    require_comparison(found)
    main = metrics[0] if metrics else ranking_metric(found)
    measured = list(metrics) or [main, *(name for name in _USUAL if name in found.frame.metrics and name != main)]
    keys = [*found.by, *differing(found.frame, found.by)]
    found = regrouped(found, keys)
    if len(keys) + len(measured) > _MOST_AXES:
        raise ExperimentError(
            f"parallel coordinates: {len(keys)} keys and {len(measured)} metrics are more than {_MOST_AXES} axes; fix"
            " keys by --where, or choose fewer --metrics"
        )
    table = [[*group.values, *(group_mean(found, group, name) for name in measured)] for group in found.groups]
    lines = [
        row
        for row, group in zip(table, found.groups, strict=True)
        if all(map(np.isfinite, row[len(keys) :])) and condition in (None, group.condition)
    ]
    require(lines, f"no group has values of all of these at once: {', '.join(measured)}")
    constant = [place for place in range(len(keys)) if len({describe(row[place]) for row in lines}) == 1]
    kept = [place for place in range(len(keys) + len(measured)) if place not in constant]
    norm = color_scale(found, main)
    ax = new_axes(ax)
    heights, labels = [], []
    for place in kept:
        name = (keys + measured)[place]
        column = [row[place] for row in lines]
        at, ends = _scaled(column, found, name)
        heights.append(at)
        labels.append(ends)
    order = np.argsort([row[len(keys)] for row in lines])
    if found.frame.quantity(main).direction == "smaller":
        order = order[::-1]
    width = max(0.5, min(1.5, 40 / len(lines)))
    for which in order:  # the best on top
        color = COLORS(norm(lines[which][len(keys)]))
        ax.plot(range(len(kept)), [at[which] for at in heights], color=color, linewidth=width, alpha=0.85)
    wide = cell_of(ax)[0]
    slot = 72 * (0.95 if wide < NARROW else 0.8) * wide / len(kept) - 3
    size = _size([text for ends in labels for _, text in ends], slot, "small")
    for place, ends in enumerate(labels):
        ax.vlines(place, 0, 1, color=GREY, linewidth=0.8, zorder=0.5)
        for where, text in ends:
            outside = where in (0.0, 1.0)
            ax.annotate(
                wrap_text(text, slot, size),
                (place, where),
                (0, (3 if where else -3) if outside else 0),
                textcoords="offset points",
                ha="center",
                va=("bottom" if where else "top") if outside else "center",
                fontsize=size,
                color=ink(),
                bbox={"boxstyle": "square,pad=0.1", "facecolor": ax.get_facecolor(), "alpha": 0.75, "linewidth": 0},
            )
    names = [(keys + measured)[place] for place in kept]
    titles = [axis_label(found.frame.quantity(name)) if name in measured else _short(name) for name in names]
    size = _size(titles, slot, rcParams["xtick.labelsize"])
    ax.set_xticks(range(len(kept)), [wrap_text(title, slot, size) for title in titles], fontsize=size)
    ax.yaxis.set_major_locator(NullLocator())
    ax.set_xlim(-0.5, len(kept) - 0.5)
    ax.set_ylim(-0.14, 1.14)
    ax.spines[["left", "right", "top", "bottom"]].set_visible(False)
    ax.tick_params(bottom=False)
    if legend:
        figure = ax.get_figure(root=True)
        assert figure is not None
        add_scale(found, main, figure, [ax])
    return ax


def _size(texts: Sequence[str], length: float, most: str | float) -> float:
    """Choose a font size for which no word is longer than `length` points, but one that can be read."""
    size = FontProperties(size=most).get_size_in_points()
    longest = max((text_width(word, size) for text in texts for word in text.split()), default=0.0)
    return max(SMALLEST, min(size, size * length / longest if longest else size))


def _short(key: str) -> str:
    return key.removesuffix(".name").split(".")[-1].replace("_", " ")


def _number(value: float) -> str:
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e5 else f"{value:.3g}"


def _scaled(column: Sequence[object], found: Comparison, name: str) -> tuple[list[float], list[tuple[float, str]]]:
    """Place values between 0 and 1; return the places, and texts beside the axis."""
    numbers = [float(v) for v in column if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(column):
        values = np.array(numbers)
        if choose_scale(found.frame.quantity(name), numbers) == "log":
            values = np.log(values)
        low, high = values.min(), values.max()
        at = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
        ends = {float(at[values.argmin()]): _number(min(numbers)), float(at[values.argmax()]): _number(max(numbers))}
        return at.tolist(), list(ends.items())
    names = list(dict.fromkeys(map(describe, column)))
    spread = {text: place / max(1, len(names) - 1) if len(names) > 1 else 0.5 for place, text in enumerate(names)}
    said = [(place, text) for text, place in spread.items()] if len(names) <= _MOST_NAMES else []
    return [spread[describe(value)] for value in column], said
