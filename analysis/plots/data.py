"""What the figures are drawn from: rows of plain values, which also go into the file beside each figure."""

from collections.abc import Sequence
from math import isfinite
from statistics import fmean
from typing import Any

from basinet.analysis.plots.names import labels, names
from basinet.analysis.summary import finals, moments
from basinet.sim.folder import Run

__all__ = ["curve_rows", "point_rows"]

Row = dict[str, Any]


def _heads(runs: Sequence[Run]) -> list[Row]:
    pairs = zip(labels(runs), names(runs), strict=True)
    return [{"label": label, "strategy": strategy, "condition": condition} for label, (strategy, condition) in pairs]


def point_rows(runs: Sequence[Run], x: str, y: str) -> list[Row]:
    """Collect the last values of two metrics.

    Args:
        runs: The runs.
        x: A metric.
        y: Another metric.

    Returns:
        A row for each replica that did not diverge and has both: `label`, `strategy`, `condition`, `replica`,
        and the two metrics by their names.
    """
    rows = []
    for run, head in zip(runs, _heads(runs), strict=True):
        xs, ys = finals(run, x), finals(run, y)
        rows += [head | {"replica": replica, x: xs[replica], y: ys[replica]} for replica in sorted(xs.keys() & ys)]
    return rows


def curve_rows(runs: Sequence[Run], metric: str, *, x: str = "step") -> list[Row]:
    """Average a metric of the centroid over the replicas, step by step.

    Args:
        runs: The runs.
        metric: Name of the metric.
        x: What to plot it against: `step`, `epoch`, `communicated_bytes`, `simulated_time`.

    Returns:
        A row for each run and step: `label`, `strategy`, `condition`, `step`, the mean of `x`, `mean`, `se`
        and `n` over the replicas that did not diverge.
    """
    rows = []
    for run, head in zip(runs, _heads(runs), strict=True):
        steps: dict[int, list[tuple[float, float]]] = {}
        for row in run.metrics:
            value, place = row.get(metric), row.get(x)
            if "agent" in row or row["replica"] in run.diverged or value is None or place is None:
                continue
            if isfinite(value):
                steps.setdefault(row["step"], []).append((place, value))
        for step, pairs in sorted(steps.items()):
            mean, error, count = moments([value for _, value in pairs])
            place = pairs[0][0] if x == "step" else fmean(place for place, _ in pairs)
            rows.append(head | {"step": step, x: place, "mean": mean, "se": error, "n": count})
    return rows
