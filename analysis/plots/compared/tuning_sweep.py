"""What tuning has tried: a metric on validation data against the values of a key, or of two."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

from basinet.analysis.drawing.axes import choose_scale, finish, new_axes
from basinet.analysis.drawing.data_checks import require
from basinet.analysis.drawing.sizes import cell_of, shorten
from basinet.analysis.drawing.style import contrast, styles
from basinet.analysis.plots.compared.heat_map import COLORS
from basinet.analysis.statistics.run_labels import describe
from basinet.sim.run.quantity import Quantity

__all__ = ["candidate_rows", "plot_tuned_map", "plot_tuning", "tuned_metric"]

_OUTER, _INNER = 11, 5


def tuned_metric(record: Mapping[str, Any]) -> Quantity:
    """Describe the metric that candidates were judged by.

    Args:
        record: The record of a search, as `basinet.sim.run.records.load_tuning` reads it.

    Returns:
        The quantity.
    """
    known = record["metric"]
    return Quantity(known["label"], direction=known["direction"], linear=known["direction"] == "larger")


def candidate_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the candidates of all groups.

    Args:
        record: The record of a search.

    Returns:
        A row for each group and candidate: `group`, the value of each key, `mean`, `se` and `n` over the replicas that
        did not diverge, `lost` (diverged), `step` of `steps`, whether it `ended` and was `chosen`, and its paired
        `difference` from what was chosen, with `difference_se`, and whether it is `indistinguishable`.
    """
    rows = []
    for group, found in record["groups"].items():
        for candidate in found["candidates"]:
            rows.append({"group": group, **candidate["values"]} | {k: v for k, v in candidate.items() if k != "values"})
    return rows


def plot_tuning(
    rows: Sequence[Mapping[str, Any]],
    key: str,
    metric: Quantity,
    *,
    series: Sequence[str] = (),
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    """Draw a metric against the values of a key, a line for each group: means with bars of one standard error.

    Args:
        rows: Rows of `candidate_rows`. Of several with the same value, as where other keys are tuned, too, the best.
        key: The key.
        metric: The metric.
        series: Groups of all panels, of which each has its own colour and mark; by default those of the rows.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend.

    Returns:
        The axes. What was chosen has a ring; candidates that were stopped early have hollow marks at what they had
        reached, and those of which a replica diverged a cross at the bottom.

    Raises:
        NoDataError: If there are no rows.
    """
    require(rows, "no candidate was tried")
    ax = new_axes(ax)
    numeric = all(isinstance(row[key], int | float) and not isinstance(row[key], bool) for row in rows)
    texts = list(dict.fromkeys(describe(row[key]) for row in rows))

    def place(row: Mapping[str, Any]) -> float:
        return float(row[key]) if numeric else float(texts.index(describe(row[key])))

    if numeric:
        ax.set_xscale(_scale([row[key] for row in rows]))
    else:
        ax.set_xticks(range(len(texts)), texts)
    ax.set_yscale(choose_scale(metric, [row["mean"] for row in rows if _is_drawn(row)]))
    looks = styles(series or (row["group"] for row in rows))
    for group in dict.fromkeys(row["group"] for row in rows):
        style = looks[group]
        mine = sorted(_best(rows, group, key, metric), key=place)
        ended = [row for row in mine if _is_drawn(row) and row["ended"]]
        usual: dict[str, Any] = {"color": style.color, "marker": style.marker, "markersize": _INNER}
        errors = [row["se"] or 0.0 for row in ended]
        means = [row["mean"] for row in ended]
        across, line = list(map(place, ended)), style.line if numeric else ""
        ax.errorbar(across, means, errors, label=group, linestyle=line, capsize=2, **usual)
        for row in (row for row in mine if _is_drawn(row) and not row["ended"]):
            ax.plot(place(row), row["mean"], markerfacecolor="none", **usual)
        for row in (row for row in mine if not _is_drawn(row)):
            ax.plot(place(row), 0.03, "x", color=style.color, transform=ax.get_xaxis_transform(), clip_on=False)
        for row in (row for row in mine if row["chosen"] and _is_drawn(row)):
            ax.plot(place(row), row["mean"], "o", color=style.color, markersize=_OUTER, markerfacecolor="none")
    ax.set_xlabel(key)
    ax.set_ylabel(metric.axis)
    ax.grid(alpha=0.25)
    return finish(ax, legend=legend)


def plot_tuned_map(
    rows: Sequence[Mapping[str, Any]], x: str, y: str, metric: Quantity, *, ax: Axes | None = None
) -> Axes:
    """Draw the mean of a metric for each pair of values of two keys.

    Args:
        rows: Rows of `candidate_rows`, of one group.
        x: The key across.
        y: The key up.
        metric: The metric.
        ax: Where to draw; new axes if None.

    Returns:
        The axes. What was chosen is framed; candidates that were stopped early have their number in parentheses, and
        pairs of which a replica diverged a cross.

    Raises:
        NoDataError: If there are no rows.
    """
    require(rows, "no candidate was tried")
    ax = new_axes(ax)
    across, up = ([*dict.fromkeys(describe(row[key]) for row in _ordered(rows, key))] for key in (x, y))
    means = [row["mean"] for row in rows if _is_drawn(row)]
    norm = Normalize(min(means, default=0.0), max(means, default=1.0))
    heights = np.full((len(up), len(across)), np.nan)
    size = FontProperties(size=rcParams["ytick.labelsize"]).get_size_in_points()
    for row in rows:
        i, j = up.index(describe(row[y])), across.index(describe(row[x]))
        heights[i, j] = row["mean"] if _is_drawn(row) else np.nan
        text = "×" if not _is_drawn(row) else f"{row['mean']:.3g}" if row["ended"] else f"({row['mean']:.3g})"
        color = contrast(COLORS(norm(row["mean"]))) if _is_drawn(row) else rcParams["text.color"]
        if heights.size <= 60:  # more would not fit
            ax.text(j, i, text, ha="center", va="center", fontsize="small", color=color)
        if row["chosen"]:
            corner, edge = (j - 0.48, i - 0.48), rcParams["text.color"]
            ax.add_patch(Rectangle(corner, 0.96, 0.96, fill=False, edgecolor=edge, linewidth=2.5, clip_on=False))
    ax.imshow(heights, cmap=COLORS, norm=norm, aspect="auto", origin="lower")
    ax.set_xticks(range(len(across)), across)
    ax.set_yticks(range(len(up)), [shorten(text, 0.3 * 72 * cell_of(ax)[0], size) for text in up])
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    return ax


def _is_drawn(row: Mapping[str, Any]) -> bool:
    return not row["lost"] and row["mean"] is not None


def _scale(values: Sequence[float]) -> str:
    """Choose a logarithmic axis for positive values at steps that are geometric rather than linear."""
    series = sorted(set(values))
    if series[0] <= 0 or len(series) < 3:
        return "log" if series[0] > 0 and series[-1] > 10 * series[0] else "linear"
    spread = [float(np.std(np.diff(scaled)) / np.mean(np.diff(scaled))) for scaled in (series, np.log(series))]
    return "log" if spread[1] < spread[0] else "linear"


def _best(rows: Sequence[Mapping[str, Any]], group: str, key: str, metric: Quantity) -> list[Mapping[str, Any]]:
    """Return the best row of each value of a key in a group: what was chosen, or else what was trained to the end."""
    sign = 1 if metric.direction == "smaller" else -1

    def order(row: Mapping[str, Any]) -> tuple[bool, bool, int, float]:
        return not row["chosen"], not row["ended"], row["lost"], sign * (row["mean"] or 0.0)

    found: dict[str, Mapping[str, Any]] = {}
    for row in sorted((row for row in rows if row["group"] == group), key=order):
        found.setdefault(describe(row[key]), row)
    return list(found.values())


def _ordered(rows: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """Sort rows by a key, if its values are numbers."""
    numeric = all(isinstance(row[key], int | float) and not isinstance(row[key], bool) for row in rows)
    return sorted(rows, key=lambda row: row[key]) if numeric else list(rows)
