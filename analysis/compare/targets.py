"""What it takes to reach a target, in steps, samples, bytes and seconds; replicas that do not reach it are censored."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from basinet.analysis.compare.efforts import EFFORTS, RECORDED, spent
from basinet.analysis.compare.fairness import Group
from basinet.analysis.compare.frame import Frame
from basinet.analysis.statistics.survival import kaplan_meier
from basinet.sim.experiment.component import ExperimentError, nearest

__all__ = ["Reached", "median_of", "parse_target", "reached"]


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
        number = float("" if metric.endswith(("<", ">")) else value)
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
    for place, replica, lost in zip(frame.places.tolist(), frame.replicas.tolist(), diverged, strict=True):
        columns = frame.history(place, (metric, *RECORDED))
        values = columns[metric]
        known = np.flatnonzero((columns["replica"] == replica) & np.isfinite(values))
        hits = known[(values[known] >= value if larger else values[known] <= value) & (not lost)]
        happened.append(len(hits) > 0)
        at = hits[0] if len(hits) else known[-1] if len(known) else None
        for effort, column in times.items():
            amounts = np.broadcast_to(spent(frame.runs[place], columns, effort), values.shape)
            taken = math.nan if at is None else float(amounts[at])
            column.append(math.inf if lost and not math.isnan(taken) else taken)
    found = []
    for group in groups:
        efforts = {effort: [column[row] for row in group.rows] for effort, column in times.items()}
        events = [happened[row] for row in group.rows]
        found.append(
            {e: median_of(column, events) for e, column in efforts.items() if not any(map(math.isnan, column))}
        )
    return found


def median_of(times: Sequence[float], happened: Sequence[bool]) -> Reached:
    """Estimate the median effort of replicas.

    Args:
        times: What each had spent when it reached the target, or last.
        happened: Whether it reached it.

    Returns:
        The estimate.
    """
    curve = kaplan_meier(times, happened)
    lower, upper = curve.median_interval
    return Reached(curve.median, lower, upper, sum(happened), len(happened))
