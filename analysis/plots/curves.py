"""A metric over the course of training."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from basinet.analysis.drawing.axes import AxisScale, choose_scale, finish_labelled, limit_scores, new_axes
from basinet.analysis.drawing.data_checks import require_measured, require_runs
from basinet.analysis.drawing.legends import companion
from basinet.analysis.drawing.style import baseline_lines, baseline_style, styles
from basinet.analysis.statistics.replica_values import curve_rows
from basinet.analysis.statistics.run_labels import labels
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row

__all__ = ["baselines", "plot_consensus", "plot_curves"]

_LIMITS = {"consensus": "consensus_stability_limit"}
"""The λ_max limit of a strategy, if it is not 2 / μ."""


def plot_curves(
    runs: Sequence[Run],
    metric: str = "train_loss",
    *,
    x: str = "step",
    ax: Axes | None = None,
    legend: bool = True,
    yscale: AxisScale | None = None,
) -> Axes:
    """Draw a metric of the centroid: mean over the replicas that did not diverge, band of one standard error.

    Thin grey lines are trivial baselines of the metric; for λ_max, dotted lines are the measured
    stability limits: 2/μ, and (1 + λ_min(W))/μ for consensus.

    Args:
        runs: The runs; if other keys than the strategy vary, use `panels` for one panel per value.
        metric: Name of the metric.
        x: The horizontal axis: `step`, or another measurement, such as `epoch` or `communicated_bytes`.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.
        yscale: `linear`, or `log`, which draws only positive values and lists a run without any in the legend only;
            chosen by the values if None.

    Returns:
        The axes.

    Raises:
        NoDataError: If no run has both measurements.
    """
    require_runs(runs)
    rows = curve_rows(runs, metric, x=x)
    require_measured(rows, runs, metric, x)
    ax = new_axes(ax)
    yscale = yscale or choose_scale(metric, [row["mean"] for row in rows] + [*baselines(runs, metric).values()])
    ax.set_yscale(yscale)
    missing: list[str] = []
    limits = _limits(runs, x) if metric == "hessian_top_eigenvalue" else {}
    for index, (label, style) in enumerate(styles(row["label"] for row in rows).items()):
        chosen = [row for row in rows if row["label"] == label and (yscale == "linear" or row["mean"] > 0)]
        places, means = [row[x] for row in chosen], [row["mean"] for row in chosen]
        if not chosen:
            zero = all(row["mean"] == 0 for row in rows if row["label"] == label)
            missing.append(f"{label}: {'exactly 0' if zero else 'nowhere above 0'}, not drawn")
            continue
        every = max(1, len(chosen) // 8)  # staggered, so that marks on coinciding lines alternate
        ax.plot(
            places,
            means,
            label=label,
            color=style.color,
            linestyle=style.line,
            marker=style.marker,
            markersize=5,
            markevery=(index % every, every),
        )
        banded = [row for row in chosen if row["se"] is not None]
        low = [row["mean"] - row["se"] for row in banded]
        if yscale == "log":  # on a log axis, a band down to zero would extend to −∞
            low = [max(value, row["mean"] / 10) for value, row in zip(low, banded, strict=True)]
        high = [row["mean"] + row["se"] for row in banded]
        band: dict[str, Any] = {"color": style.color, "alpha": 0.18, "linewidth": 0, "label": companion(label)}
        ax.fill_between([row[x] for row in banded], low, high, **band)
        limit = limits.get(label, [])
        ax.plot(
            [row[x] for row in limit],
            [row["mean"] for row in limit],
            color=style.color,
            linestyle=":",
            label=companion(label),
        )
    for place, (name, value) in enumerate(baseline_lines(baselines(runs, metric)).items()):
        if yscale == "linear" or value > 0:
            ax.axhline(value, label=name, **baseline_style(place))
    for text in missing:
        ax.plot([], [], linestyle="none", label=text)
    limit_scores(ax, x=x, y=metric)
    return finish_labelled(ax, x, metric, runs, legend=legend)


def baselines(runs: Sequence[Run], metric: str) -> dict[str, float]:
    """Collect the values of the trivial baselines that all runs share.

    Args:
        runs: The runs.
        metric: Name of the metric; the loss has none, since its curves may fall by decades.

    Returns:
        Values by the names of the baselines.
    """
    if not all(metric in (run.metric_quantities or {}) for run in runs):
        return {}
    first, *others = ({name: row[metric] for name, row in run.baselines.items() if metric in row} for run in runs)
    return first if all(other == first for other in others) else {}


def _limits(runs: Sequence[Run], x: str) -> dict[str, list[Row]]:
    """Collect the λ_max limit of each run by label."""
    found = {}
    for run, label in zip(runs, labels(runs), strict=True):
        strategy = run.config.get("strategy")
        name = str(strategy.get("name") if isinstance(strategy, dict) else strategy)
        found[label] = curve_rows([run], _LIMITS.get(name, "stability_limit"), x=x)
    return found


def plot_consensus(runs: Sequence[Run], *, ax: Axes | None = None, legend: bool = True, **kwargs: Any) -> Axes:
    """Draw the consensus distance on a logarithmic axis.

    Zeros, such as step 0 of agents with the same initial parameters, are left out; a run that is zero throughout, such
    as a centralized one, is listed in the legend only.

    Args:
        runs: The runs; if other keys than the strategy vary, use `panels` for one panel per value.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.
        **kwargs: Passed to `plot_curves`.

    Returns:
        The axes.

    Raises:
        NoDataError: If no run measured it.
    """
    return plot_curves(runs, "consensus_distance", ax=ax, legend=legend, yscale="log", **kwargs)
