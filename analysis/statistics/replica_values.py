"""Values of replicas as rows (at the end of runs, at agents, over the steps), and their means and errors."""

import math
from collections.abc import Collection, Iterable, Sequence
from statistics import fmean, stdev

from basinet.analysis.statistics.run_labels import labels, names
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row

__all__ = [
    "agent_rows",
    "all_finals",
    "curve_rows",
    "exchanged_per_step",
    "finals",
    "measured",
    "moments",
    "num_replicas",
    "replica_rows",
    "t_interval",
]


def finals(run: Run, metric: str) -> dict[int, float]:
    """Collect the last finite value of a metric in each replica that did not diverge.

    Args:
        run: A run.
        metric: Name of the metric.

    Returns:
        Values by replica.
    """
    values = run.final(metric).items()
    return {
        replica: float(value) for replica, value in values if isinstance(value, int | float) and math.isfinite(value)
    }


def all_finals(run: Run, metric: str) -> list[float]:
    """Collect the last value of a metric in every replica.

    Args:
        run: A run.
        metric: Name of the metric.

    Returns:
        One value per replica; NaN for those that diverged.
    """
    found = finals(run, metric)
    return [found.get(replica, math.nan) for replica in range(run.config["replicas"])]


def exchanged_per_step(run: Run) -> float:
    """Compute the bytes that an agent sends to its neighbours, or sends to a server and gets from it.

    Args:
        run: A run in which all agents do the same at all steps, or whose steps are to be averaged.

    Returns:
        Bytes per agent and step; NaN if all replicas diverged.
    """
    found = next(iter(finals(run, "communicated_bytes").values()), math.nan)
    return found / float(run.config["steps"] * run.config["topology"]["agents"])


def moments(values: Collection[float]) -> tuple[float | None, float | None, int]:
    """Compute mean and standard error.

    Args:
        values: Independent values.

    Returns:
        The mean (None without values), its standard error s / √n with n − 1 in s (None below two values), and n.
    """
    count = len(values)
    error = stdev(values) / math.sqrt(count) if count > 1 else None
    return (fmean(values) if count else None), error, count


def _heads(runs: Sequence[Run]) -> list[Row]:
    pairs = zip(labels(runs), names(runs), strict=True)
    return [{"label": label, "strategy": strategy, "condition": condition} for label, (strategy, condition) in pairs]


def replica_rows(runs: Sequence[Run], *metrics: str, optional: str | None = None) -> list[Row]:
    """Collect the last values of metrics by replica.

    Args:
        runs: The runs.
        *metrics: Names of the metrics.
        optional: A further metric, which replicas may lack.

    Returns:
        One row per replica that did not diverge and has all metrics: `label`, `strategy`, `condition`, `replica`, and
        the metrics by name.
    """
    rows = []
    for run, head in zip(runs, _heads(runs), strict=True):
        values = {metric: finals(run, metric) for metric in metrics}
        further = finals(run, optional) if optional else {}
        for replica in sorted(set.intersection(*(set(found) for found in values.values()))):
            row = head | {"replica": replica} | {metric: found[replica] for metric, found in values.items()}
            rows.append(row | ({str(optional): further[replica]} if replica in further else {}))
    return rows


def curve_rows(runs: Sequence[Run], metric: str, *, x: str = "step") -> list[Row]:
    """Average a metric of the centroid over the replicas, step by step.

    Args:
        runs: The runs.
        metric: Name of the metric.
        x: The horizontal axis: `step`, or another measurement, such as `epoch` or `communicated_bytes`.

    Returns:
        One row per run and step: `label`, `strategy`, `condition`, `step`, the mean of `x`, and `mean`, `se` and `n`
        over the replicas that did not diverge.
    """
    rows = []
    for run, head in zip(runs, _heads(runs), strict=True):
        steps: dict[int, list[tuple[float, float]]] = {}
        for row in run.metrics:
            value, place = row.get(metric), row.get(x)
            if "agent" in row or row["replica"] in run.diverged or value is None or place is None:
                continue
            if math.isfinite(value):
                steps.setdefault(row["step"], []).append((place, value))
        for step, pairs in sorted(steps.items()):
            mean, error, count = moments([value for _, value in pairs])
            place = pairs[0][0] if x == "step" else fmean(place for place, _ in pairs)
            rows.append(head | {"step": step, x: place, "mean": mean, "se": error, "n": count})
    return rows


def agent_rows(runs: Sequence[Run], metric: str) -> list[Row]:
    """Collect the last value of a metric at each agent, and at the centroid.

    Args:
        runs: The runs; those whose agents were not measured (`analysis_points: [centroid, agents]`) are left out.
        metric: The metric.

    Returns:
        One row per agent: `label`, `replica`, `agent`, and the metric by name; and one for the centroid if measured,
        whose `agent` is "centroid".
    """
    rows: list[Row] = []
    for run, label in zip(runs, labels(runs), strict=True):
        last: dict[tuple[int, int], float] = {}
        for row in sorted(run.metrics, key=lambda row: int(row["step"])):
            if "agent" in row and metric in row and row["replica"] not in run.diverged:
                last[row["replica"], row["agent"]] = row[metric]
        if last:
            found: list[Row] = [
                {"replica": r, "agent": agent, metric: value} for (r, agent), value in sorted(last.items())
            ]
            found += [{"replica": r, "agent": "centroid", metric: v} for r, v in sorted(finals(run, metric).items())]
            rows += [{"label": label, **row} for row in found]
    return rows


def t_interval(mean: float, error: float, count: int) -> tuple[float, float]:
    """Compute the 95 % interval of a mean by Student's t distribution.

    Args:
        mean: The mean.
        error: Its standard error.
        count: Number of values, at least 2.

    Returns:
        The ends of the interval.

    Example:
        >>> t_interval(*moments([1.0, 2.0, 3.0]))
        (-0.4841..., 4.4841...)
    """
    from scipy.special import stdtrit  # takes as long to import as all of this package

    half = float(stdtrit(count - 1, 0.975)) * error
    return mean - half, mean + half


def measured(runs: Iterable[Run]) -> list[str]:
    """List the metrics measured at the centroids.

    Args:
        runs: The runs.

    Returns:
        The names, in order of first appearance.
    """
    rows = (row for run in runs for row in run.metrics if "agent" not in row)
    return [name for name in dict.fromkeys(key for row in rows for key in row) if name not in ("step", "replica")]


def num_replicas(run: Run) -> int:
    """Count the replicas of a run.

    Args:
        run: The run.

    Returns:
        Their number, including those that diverged.
    """
    return run.config.get("replicas") or len({line["replica"] for line in run.metrics})
