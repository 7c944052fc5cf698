"""What it takes to reach a target, in steps, samples, bytes and seconds; replicas that do not reach it are censored."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from basinet.analysis.compare.fairness import Group
from basinet.analysis.compare.frame import Frame, spent
from basinet.analysis.statistics.survival import kaplan_meier
from basinet.sim.experiment.component import ExperimentError, nearest

__all__ = ["EFFORTS", "Reached", "parse_target", "reached"]

EFFORTS = {"step": "steps", "samples": "samples", "bytes": "bytes", "seconds": "seconds"}
"""What is counted, and its heading."""


@dataclass(frozen=True)
class Reached:
    """The effort of a group to reach a target.

    Attributes:
        median: The Kaplan-Meier median, infinite if fewer than half reach the target.
        lower: Lower end of its 95 % interval.
        upper: Upper end.
        count: Number of replicas that reached it.
        number: Number of replicas.
    """

    median: float
    lower: float
    upper: float
    count: int
    number: int


def parse_target(text: str, frame: Frame) -> tuple[str, float]:
    """Read a target.

    Args:
        text: `metric=value`.
        frame: The replicas.

    Returns:
        The metric and the value.

    Raises:
        ExperimentError: It is not written so, or no run has this metric, or it has no better direction.
    """
    metric, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        raise ExperimentError(f"--target: got {text}; allowed is metric=value, such as test_accuracy=0.9") from None
    if metric not in frame.metrics:
        raise ExperimentError(f"--target: no run has measured {metric}; {nearest(metric, frame.metrics)}")
    if frame.quantity(metric).direction is None or not math.isfinite(number):
        raise ExperimentError(
            f"--target: got {text}; allowed are a finite value, and metrics that are to rise or to fall"
        )
    return metric, number


def reached(frame: Frame, groups: Sequence[Group], metric: str, value: float) -> list[dict[str, Reached]]:
    """Find what each group needs to reach a target for the first time, at the evaluations.

    A replica that has not reached the target counts as censored at the end of its run, where it might have reached it
    later; one that diverged never will, and is censored at infinity.

    Args:
        frame: The replicas.
        groups: Groups of them.
        metric: A metric.
        value: The target, reached from the side of worse values.

    Returns:
        For each group, by the kind of effort; kinds that were not recorded are missing.
    """
    larger = frame.quantity(metric).direction == "larger"
    diverged = [state == "diverged" for state in frame.column("state")]
    times: dict[str, list[float]] = {effort: [] for effort in EFFORTS}
    happened: list[bool] = []
    for place, lost, rows in zip(frame.places.tolist(), diverged, frame.measurements(), strict=True):
        known = [row for row in rows if math.isfinite(row.get(metric, math.nan))]
        hits = [row for row in known if not lost and (row[metric] >= value if larger else row[metric] <= value)]
        happened.append(bool(hits))
        for effort, column in times.items():
            taken = spent(frame.runs[place], (hits[:1] or known[-1:] or [{}])[0], effort)
            column.append(math.inf if lost and not math.isnan(taken) else taken)
    found = []
    for group in groups:
        columns = {effort: [column[row] for row in group.rows] for effort, column in times.items()}
        events = [happened[row] for row in group.rows]
        found.append({e: _median(column, events) for e, column in columns.items() if not any(map(math.isnan, column))})
    return found


def _median(times: Sequence[float], happened: Sequence[bool]) -> Reached:
    curve = kaplan_meier(times, happened)
    lower, upper = curve.median_interval
    return Reached(curve.median, lower, upper, sum(happened), len(happened))
