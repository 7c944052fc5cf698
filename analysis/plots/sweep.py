"""Effect of a numeric setting: the final value of a metric against it, one line per strategy."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from basinet.analysis.drawing.axes import AxisScale, choose_scale, finish, limit_scores, new_axes
from basinet.analysis.drawing.data_checks import require
from basinet.analysis.drawing.style import axis_label, styles
from basinet.analysis.statistics.replica_values import finals, moments
from basinet.analysis.statistics.run_labels import names, setting, varied
from basinet.sim.run.folder import Run
from basinet.sim.run.quantity import Quantity

__all__ = ["plot_sweep", "sweep_rows", "swept"]

_FEWEST_VALUES = 4


def swept(runs: Sequence[Run]) -> str | None:
    """Find the numeric setting with the most values among the conditions of the runs.

    Args:
        runs: The runs.

    Returns:
        Its dotted key; None if no setting has at least four values.
    """
    conditions = [condition for _, condition in names(runs)]
    counts = {}
    for key in varied(runs):
        values = [setting(run.config, key) for run in runs]
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        if numeric and any(_rest(condition, key) != condition for condition in conditions):
            counts[key] = len(set(values))
    most = max(counts, key=lambda key: counts[key], default=None)
    return most if most is not None and counts[most] >= _FEWEST_VALUES else None


def _rest(condition: str, key: str) -> str:
    return ", ".join(part for part in condition.split(", ") if not part.startswith(f"{key}="))


def sweep_rows(runs: Sequence[Run], metric: str, key: str) -> list[dict[str, Any]]:
    """Collect the last values of a metric by the value of a setting.

    Args:
        runs: The runs.
        metric: Name of the metric.
        key: The setting, a dotted key.

    Returns:
        One row per run with values: `strategy`, `condition` (what else varies), the key, and `mean`, `se` and `n` over
        the replicas that did not diverge; sorted by the value of the key.
    """
    rows = []
    for run, (strategy, condition) in zip(runs, names(runs), strict=True):
        mean, error, count = moments(finals(run, metric).values())
        if mean is not None:
            place = {"strategy": strategy, "condition": _rest(condition, key), key: setting(run.config, key)}
            rows.append(place | {"mean": mean, "se": error, "n": count})
    return sorted(rows, key=lambda row: float(row[key]))


def plot_sweep(
    rows: Sequence[dict[str, Any]],
    metric: str,
    key: str,
    *,
    ax: Axes | None = None,
    legend: bool = True,
    yscale: AxisScale | None = None,
) -> Axes:
    """Draw a metric against a setting: mean over the replicas, bars of one standard error, one line per strategy.

    Args:
        rows: Rows from `sweep_rows`, of one condition.
        metric: Name of the metric.
        key: The setting.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.
        yscale: `linear` or `log`; chosen by the values if None.

    Returns:
        The axes.

    Raises:
        NoDataError: If there are no rows.
    """
    require(rows, f"no run has a value of {metric}")
    ax = new_axes(ax)
    ax.set_xscale(choose_scale(Quantity(key), [row[key] for row in rows]))
    ax.set_yscale(yscale or choose_scale(metric, [row["mean"] for row in rows]))
    for strategy, style in styles(row["strategy"] for row in rows).items():
        mine = [row for row in rows if row["strategy"] == strategy]
        ax.errorbar(
            [row[key] for row in mine],
            [row["mean"] for row in mine],
            yerr=[row["se"] or 0.0 for row in mine],
            label=strategy,
            color=style.color,
            linestyle=style.line,
            marker=style.marker,
            markersize=5,
            capsize=2,
        )
    ax.set_xlabel(key)
    ax.set_ylabel(axis_label(metric, wrap=True))
    limit_scores(ax, y=metric)
    ax.grid(alpha=0.25)
    return finish(ax, legend=legend)
