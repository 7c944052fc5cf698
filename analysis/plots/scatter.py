"""Scatter plots of two metrics: a point per replica, a cross for mean ± standard error, and iso-lines of a third."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from basinet.analysis.drawing.axes import AxisScale, choose_scale, finish_labelled, limit_scores, new_axes
from basinet.analysis.drawing.data_checks import require, require_measured, require_runs
from basinet.analysis.drawing.legends import companion
from basinet.analysis.drawing.style import GREY, axis_label, ink, styles
from basinet.analysis.statistics.quantities import main_metric
from basinet.analysis.statistics.replica_values import moments, replica_rows
from basinet.sim.run.folder import Run

__all__ = [
    "RISK",
    "IsoLines",
    "iso_lines",
    "iso_rows",
    "plot_flatness_accuracy",
    "plot_iso_accuracy",
    "plot_risk_flatness",
    "plot_scatter",
]

RISK = "excess_risk"


def plot_scatter(
    runs: Sequence[Run],
    x: str,
    y: str,
    *,
    ax: Axes | None = None,
    legend: bool = True,
    xscale: AxisScale | None = None,
    yscale: AxisScale | None = None,
    by_strategy: bool = False,
) -> Axes:
    """Draw the last values of two metrics, one point for each replica that did not diverge.

    Args:
        runs: The runs; one series each.
        x: The metric on the horizontal axis.
        y: The metric on the vertical axis.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.
        xscale: `linear` or `log`; chosen by the values if None.
        yscale: The same for the vertical axis.
        by_strategy: Whether the series are strategies instead, without means, as these would be over other settings.

    Returns:
        The axes.

    Raises:
        NoDataError: If no replica has both, positive on logarithmic axes.
    """
    require_runs(runs)
    rows = replica_rows(runs, x, y)
    require_measured(rows, runs, x, y)
    for name, scale in ((x, xscale), (y, yscale)):
        rows = [row for row in rows if scale != "log" or row[name] > 0]
        require(rows, f"no value of {name} is above zero, as a logarithmic axis needs")
    ax = new_axes(ax)
    ax.set_xscale(xscale or choose_scale(x, [row[x] for row in rows]))
    ax.set_yscale(yscale or choose_scale(y, [row[y] for row in rows]))
    kind = "strategy" if by_strategy else "label"
    for label, style in styles(row[kind] for row in rows).items():
        xs = [row[x] for row in rows if row[kind] == label]
        ys = [row[y] for row in rows if row[kind] == label]
        looks: dict[str, Any] = {"linestyle": "none", "marker": style.marker, "color": style.color}
        if by_strategy:
            ax.plot(xs, ys, alpha=0.6, markersize=4, label=label, **looks)
            continue
        ax.plot(xs, ys, alpha=0.4, markersize=5, label=companion(label), **looks)
        ax.errorbar(
            [fmean(xs)],
            [fmean(ys)],
            xerr=moments(xs)[1],
            yerr=moments(ys)[1],
            label=label,
            markersize=7,
            markeredgecolor=ink(),
            capsize=3,
            elinewidth=1.5,
            **looks,
        )
    limit_scores(ax, x=x, y=y)
    return finish_labelled(ax, x, y, runs, legend=legend)


def plot_flatness_accuracy(
    runs: Sequence[Run],
    *,
    flatness: str = "hessian_trace",
    accuracy: str | None = None,
    ax: Axes | None = None,
    **kwargs: Any,
) -> Axes:
    """Draw accuracy against flatness at the end of training, one point per replica.

    Args:
        runs: The runs; if other keys than the strategy vary, use `panels` for one panel per value.
        flatness: `hessian_trace` or `hessian_top_eigenvalue`.
        accuracy: The metric of accuracy; by default the main metric of the runs.
        ax: Where to draw; new axes if None.
        **kwargs: Passed to `plot_scatter`.

    Returns:
        The axes.

    Raises:
        NoDataError: If no replica has both.

    Example:
        ::

            figure = panels(load_runs("runs/batch"), plot_flatness_accuracy, accuracy="test_loss")
            figure.savefig("flatness.pdf")
    """
    require_runs(runs)
    return plot_scatter(runs, flatness, accuracy or main_metric(runs), ax=ax, **kwargs)


def plot_risk_flatness(
    runs: Sequence[Run], *, flatness: str = "hessian_trace", ax: Axes | None = None, **kwargs: Any
) -> Axes:
    """Draw excess risk against flatness at the end of training, one point per replica.

    Args:
        runs: The runs; if other keys than the strategy vary, use `panels` for one panel per value.
        flatness: `hessian_trace` or `hessian_top_eigenvalue`.
        ax: Where to draw; new axes if None.
        **kwargs: Passed to `plot_scatter`.

    Returns:
        The axes.

    Raises:
        NoDataError: If no replica has both.
    """
    return plot_scatter(runs, flatness, RISK, ax=ax, **kwargs)


@dataclass(frozen=True)
class IsoLines:
    """The least-squares fit y = a + b ln f + c ln r over replicas.

    Attributes:
        coefficients: a, b, c.
        explained: Fraction R² of the variance of y that the fit explains.
        count: Number of replicas.
    """

    coefficients: tuple[float, float, float]
    explained: float
    count: int

    def at(self, flatness: Any, risk: Any) -> Any:
        """Evaluate the fit.

        Args:
            flatness: f.
            risk: r.

        Returns:
            y.
        """
        a, b, c = self.coefficients
        return a + b * np.log(flatness) + c * np.log(risk)


def iso_rows(runs: Sequence[Run], flatness: str, accuracy: str) -> list[dict[str, Any]]:
    """Collect the replicas that have flatness, accuracy and risk, with flatness and risk positive.

    Args:
        runs: The runs.
        flatness: The flatness metric.
        accuracy: The accuracy metric.

    Returns:
        One row per replica: `label`, `replica`, and the three metrics by name.
    """
    rows = replica_rows(runs, flatness, RISK, accuracy)
    return [row for row in rows if row[flatness] > 0 and row[RISK] > 0]


def iso_lines(rows: Sequence[Mapping[str, Any]], flatness: str, accuracy: str, risk: str = RISK) -> IsoLines | None:
    """Regress accuracy on flatness and excess risk.

    Args:
        rows: Rows from `iso_rows`.
        flatness: The flatness metric.
        accuracy: The accuracy metric.
        risk: The metric of the optimization error.

    Returns:
        The fit; None if there are fewer than five replicas, or they lie on a line.
    """
    x = np.array([[1.0, np.log(row[flatness]), np.log(row[risk])] for row in rows]).reshape(-1, 3)
    y: NDArray[np.float64] = np.array([row[accuracy] for row in rows], dtype=float)
    if len(rows) < 5 or np.linalg.matrix_rank(x) < 3 or np.ptp(y) == 0:
        return None
    beta = np.linalg.lstsq(x, y, rcond=None)[0]
    explained = 1 - float(((y - x @ beta) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    a, b, c = beta.tolist()
    return IsoLines((a, b, c), explained, len(rows))


def plot_iso_accuracy(
    runs: Sequence[Run],
    *,
    flatness: str = "hessian_trace",
    accuracy: str | None = None,
    ax: Axes | None = None,
    **kwargs: Any,
) -> Axes:
    """Draw excess risk against flatness at the end of training, with lines of equal fitted accuracy.

    Args:
        runs: The runs; one series each.
        flatness: `hessian_trace` or `hessian_top_eigenvalue`.
        accuracy: The metric of accuracy; by default the main metric of the runs.
        ax: Where to draw; new axes if None.
        **kwargs: Passed to `plot_scatter`.

    Returns:
        The axes; the title has the R² of the regression. No lines are drawn if there are too few data to fit.

    Raises:
        NoDataError: If no replica has all three metrics, with flatness and risk positive.
    """
    require_runs(runs)
    accuracy = accuracy or main_metric(runs)
    rows = iso_rows(runs, flatness, accuracy)
    require_measured(rows, runs, flatness, RISK, accuracy)
    ax = plot_scatter(runs, flatness, RISK, ax=ax, **{"xscale": "log", "yscale": "log"} | kwargs)
    fit = iso_lines(rows, flatness, accuracy)
    if fit is None:
        return ax
    xs, ys = (np.geomspace(*limits, 60) for limits in (ax.get_xlim(), ax.get_ylim()))
    lines = ax.contour(xs, ys, fit.at(*np.meshgrid(xs, ys)), levels=8, colors=GREY, linewidths=0.8)
    ax.clabel(lines, fontsize=6, fmt="%.3g")
    name = axis_label(accuracy).split(" (")[0]
    ax.set_title(f"lines: {name}, R² = {fit.explained:.2f}", fontsize="small")
    return ax
