"""Survival curves of escape times."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from basinet.analysis.drawing.axes import finish, new_axes
from basinet.analysis.drawing.data_checks import kind_of, require
from basinet.analysis.drawing.legends import companion
from basinet.analysis.drawing.style import styles
from basinet.analysis.statistics.survival import Survival
from basinet.sim.experiment.component import ExperimentError

__all__ = ["plot_survival", "survival_rows"]


def plot_survival(
    curves: Mapping[str, Survival],
    *,
    means: Mapping[str, float] | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    """Draw Kaplan-Meier curves with their pointwise 95 % intervals.

    Args:
        curves: Curves by the label of their strategy.
        means: Predicted mean times by label, each drawn as an exponential in a thin line.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes.

    Raises:
        ExperimentError: If `curves` is not such a mapping.
        NoDataError: If there are no curves.
    """
    if not isinstance(curves, Mapping) or not all(isinstance(curve, Survival) for curve in curves.values()):
        raise ExperimentError(
            f"curves: expected a mapping from labels to what kaplan_meier finds, not {kind_of(curves)}"
        )
    require(curves, "there are no curves to draw; runs have one with the key escape")
    ax = new_axes(ax)
    for label, style in styles(curves).items():
        curve = curves[label]
        times = np.concatenate([[0.0], curve.times])
        parts = [np.concatenate([[1.0], part]) for part in (curve.survival, curve.lower, curve.upper)]
        ax.step(times, parts[0], where="post", label=label, color=style.color, linestyle=style.line)
        band: dict[str, Any] = {"color": style.color, "alpha": 0.18, "linewidth": 0, "label": companion(label)}
        ax.fill_between(times, parts[1], parts[2], step="post", **band)
        if means and len(times) > 1:
            t = np.linspace(0, times[-1], 200)
            ax.plot(t, np.exp(-t / means[label]), color=style.color, linewidth=0.8)
    ax.set_xlabel("step")
    ax.set_ylabel("share of replicas that have not escaped")
    ax.set_ylim(0, 1)
    ax.grid(alpha=0.25)
    return finish(ax, legend=legend)


def survival_rows(curves: Mapping[str, Survival]) -> list[dict[str, Any]]:
    """Convert curves to rows of a table.

    Args:
        curves: Curves by label.

    Returns:
        One row per drop of each curve: `label`, `step`, `survival`, `lower`, `upper`, `at_risk`.
    """
    names = ("step", "survival", "lower", "upper", "at_risk")
    return [
        {"label": label, **dict(zip(names, map(float, values), strict=True))}
        for label, curve in curves.items()
        for values in zip(curve.times, curve.survival, curve.lower, curve.upper, curve.at_risk, strict=True)
    ]
