"""Predicted against measured excess risk."""

from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from matplotlib.axes import Axes

from basinet.analysis.drawing.axes import finish, new_axes
from basinet.analysis.drawing.data_checks import kind_of, require
from basinet.analysis.drawing.style import GREY, ink, styles
from basinet.analysis.statistics.replica_values import moments
from basinet.sim.experiment.component import ExperimentError

if TYPE_CHECKING:
    from basinet.analysis.theory.prediction import Prediction

__all__ = ["plot_prediction", "prediction_rows"]

_PARTS: dict[str, Literal["full", "none"]] = {"centroid": "full", "disagreement": "none"}
_FILLS = {"full": "filled", "none": "hollow"}


def prediction_rows(predictions: "Mapping[str, Prediction]") -> list[dict[str, Any]]:
    """Tabulate the two parts of the excess risk, replica by replica.

    Args:
        predictions: Results of `predict_run` by label.

    Returns:
        Rows with `label`, `replica`, `part` (centroid or disagreement), `predicted` and `measured`. Predictions at the
        centroid do not include the centroid's own risk.
    """
    rows: list[dict[str, Any]] = []
    for label, found in predictions.items():
        parts = list(_PARTS) if found.at == "minimum" else ["disagreement"]
        for part in parts:
            for replica, theory, value in zip(found.replicas, found.predicted, getattr(found, part), strict=True):
                head = {"label": label, "replica": replica, "part": part}
                rows.append(head | {"predicted": getattr(theory, part), "measured": value})
    return rows


def plot_prediction(predictions: "Mapping[str, Prediction]", *, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Draw measured against predicted parts of the excess risk.

    Args:
        predictions: Results of `predict_run` by label.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes: filled marks are the risk of the centroid, hollow ones the cost of disagreement; small ones are single
        replicas, large ones their means, with bars of one standard error. The axes are logarithmic: values that are not
        positive, such as a centralised run's disagreement, are left out.

    Raises:
        ExperimentError: If `predictions` is not such a mapping.
        NoDataError: If no value is positive.
    """
    if not isinstance(predictions, Mapping) or not all(hasattr(found, "predicted") for found in predictions.values()):
        raise ExperimentError(
            f"predictions: expected a mapping from labels to what predict_run finds, not {kind_of(predictions)}"
        )
    rows = [row for row in prediction_rows(predictions) if row["predicted"] > 0 and row["measured"] > 0]
    require(rows, "no part of the excess risk is above zero both as predicted and as measured")
    ax = new_axes(ax)
    ax.set_xscale("log")
    ax.set_yscale("log")
    for label, style in styles(predictions).items():
        for part, fill in _PARTS.items():
            mine = [row for row in rows if (row["label"], row["part"]) == (label, part)]
            if not mine:
                continue
            xs, ys = ([row[key] for row in mine] for key in ("predicted", "measured"))
            looks: dict[str, Any] = {"marker": style.marker, "color": style.color, "fillstyle": fill}
            ax.plot(xs, ys, linestyle="none", alpha=0.35, markersize=4, **looks)
            named = label not in ax.get_legend_handles_labels()[1]
            ax.errorbar(
                [fmean(xs)], [fmean(ys)], yerr=moments(ys)[1], linestyle="none", capsize=3,
                label=label if named else None, markeredgecolor=ink() if fill == "full" else style.color, **looks,
            )  # fmt: skip
    for part, fill in _PARTS.items():
        ax.plot([], [], linestyle="none", marker="o", color=GREY, fillstyle=fill, label=f"{_FILLS[fill]}: {part}")
    values = [row[key] for row in rows for key in ("predicted", "measured")]
    ax.plot([min(values), max(values)], [min(values), max(values)], color=ink(), linewidth=1)
    ax.set_xlabel("predicted excess risk")
    ax.set_ylabel("measured excess risk")
    ax.grid(alpha=0.25)
    return finish(ax, legend=legend)
