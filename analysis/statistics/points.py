"""Comparison of the centroid with the agents: generalisation, flatness and optimisation."""

from collections.abc import Sequence
from statistics import fmean, stdev

from basinet.analysis.statistics.quantities import headings
from basinet.analysis.statistics.ranking import by_condition
from basinet.analysis.statistics.replica_values import moments
from basinet.analysis.statistics.rounding import plus_minus
from basinet.analysis.statistics.run_labels import labels, names
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row

__all__ = ["final_points", "point_cells"]

_GAP = {"generalization_gap": "test − train loss ↓"}


def final_points(runs: Sequence[Run]) -> list[Row]:
    """List the measured values of each centroid and each agent after the last step.

    Args:
        runs: The runs.

    Returns:
        One row per point: `run`, `label`, `replica`, `point` (centroid, or the agent's index), and the measures by
        name; `generalization_gap` is the test loss minus the training loss. Diverged replicas and runs without
        measured agents are left out.
    """
    found = []
    for run, label in zip(runs, labels(runs), strict=True):
        for row in _last(run):
            place = {"run": run.name, "label": label, "replica": row["replica"], "point": row.get("agent", "centroid")}
            found.append(place | {key: value for key, value in row.items() if key not in ("replica", "agent")})
    return sorted(found, key=lambda row: [run.name for run in runs].index(row["run"]))


def _last(run: Run) -> list[Row]:
    if not any("agent" in row for row in run.metrics):
        return []
    step = max(row["step"] for row in run.metrics)
    return [row for row in run.metrics if row["step"] == step and row["replica"] not in run.diverged]


def point_cells(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Format centroids and agents as a table of text.

    Args:
        runs: The runs.

    Returns:
        The headings and the rows: condition, strategy, place, and the metrics. For the agents, each replica contributes
        the mean over its agents; `spread` is the standard deviation among the agents of a replica, averaged over the
        replicas, and `error` the mean error of a single agent's value, if there are estimates.
    """
    texts: list[list[str]] = []
    titles = _GAP | headings(runs)
    shown = [name for name in titles if any("agent" in row and name in row for run in runs for row in run.metrics)]
    for run, (strategy, condition) in zip(runs, names(runs), strict=True):
        rows = _last(run)
        if not rows:
            continue
        cells: dict[str, list[str]] = {"centroid": [], "agents": [], "spread": [], "error": []}
        for metric in shown:
            centers = [row[metric] for row in rows if "agent" not in row and metric in row]
            groups = _groups(rows, metric)
            cells["centroid"].append(plus_minus(*moments(centers)[:2]))
            cells["agents"].append(plus_minus(*moments([fmean(group) for group in groups])[:2]))
            cells["spread"].append(plus_minus(*moments([stdev(group) for group in groups if len(group) > 1])[:2]))
            errors = [fmean(group) for group in _groups(rows, f"{metric}_error")]
            cells["error"].append(plus_minus(*moments(errors)[:2]))
        if all(text == plus_minus(None, None) for text in cells["error"]):  # there are no estimates
            del cells["error"]
        texts += [[condition, strategy, where, *values] for where, values in cells.items()]
    return ["condition", "strategy", "at", *(titles[name] for name in shown)], by_condition(texts, lambda t: t[0])


def _groups(rows: Sequence[Row], metric: str) -> list[list[float]]:
    """Collect a metric of the agents by replica."""
    groups: dict[int, list[float]] = {}
    for row in rows:
        if "agent" in row and metric in row:
            groups.setdefault(row["replica"], []).append(row[metric])
    return list(groups.values())
