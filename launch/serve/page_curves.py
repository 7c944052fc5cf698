"""Curves of groups of runs: the mean and spread over all replicas, at as many steps as a page can show."""

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basinet.launch.serve.growing_metrics import Series
from basinet.launch.serve.study_index import ODD, StudyIndex

__all__ = ["curves"]

_POINTS = 240
"""Steps of a curve that are drawn: so many evenly spaced, and so many evenly in the logarithm."""


def curves(
    index: StudyIndex, groups: Sequence[Sequence[int]], metric: str, x: str = "step", seconds: float = 1.0
) -> dict[str, Any]:
    """Average a metric over the replicas of groups of runs.

    Args:
        index: The runs.
        groups: Numbers of the runs of each group; those that are gone are left out.
        metric: The metric.
        x: The horizontal axis: `step`, `samples`, or another measurement.
        seconds: Time after which to stop reading; the next call goes on.

    Returns:
        `curves`, for each group the places `x`, and the `mean` (None if it overflows), the standard deviation `sd`, the
        extremes `low` and `high` and the number `n` of replicas there, besides `every`: one in so many evaluations was
        kept; `pending`, the number of runs that are still to be read; and `problems`, a sentence for each run that
        cannot be read.
    """
    end = time.monotonic() + seconds
    series: list[list[Series]] = [[] for _ in groups]
    every = [1] * len(groups)
    problems: list[str] = []
    # The first run of each group, then the second: what is missing at the end of the time is missing everywhere.
    order = sorted(
        (place, group, number) for group, numbers in enumerate(groups) for place, number in enumerate(numbers)
    )
    pending = read = 0
    for _, group, number in order:
        try:
            entry = index.entry(number)
        except LookupError:
            continue
        try:
            if not index.has_read(entry):
                if read and time.monotonic() > end:
                    pending += 1
                    continue
                read += 1
            found, thinned = index.series(entry, metric, x)
        except ODD as error:
            problems.append(f"{entry.path}: {error}" if str(entry.path) not in str(error) else str(error))
            continue
        every[group] = max(every[group], thinned)
        series[group].append(found)
    averages = [
        {**_averaged([curve for run in runs for curve in run.values()]), "every": one}
        for runs, one in zip(series, every, strict=True)
    ]
    return {"curves": averages, "pending": pending, "problems": problems}


def _averaged(series: Sequence[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]) -> dict[str, Any]:
    """Average curves step by step; those with other steps are interpolated between theirs, but never continued."""
    if not series:
        return {"x": [], "mean": [], "sd": [], "low": [], "high": [], "n": []}
    steps = _chosen(np.unique(np.concatenate([own for own, _, _ in series])))
    places, values = (np.full((len(series), len(steps)), np.nan) for _ in range(2))
    for row, (own, place, value) in enumerate(series):
        within = (steps >= own[0]) & (steps <= own[-1])
        places[row, within] = np.interp(steps[within], own, place)
        values[row, within] = np.interp(steps[within], own, value)
    count = np.isfinite(values).sum(0)
    with np.errstate(over="ignore", invalid="ignore"):  # of runs that are about to diverge
        mean, place = np.nansum(values, 0) / count, np.nansum(places, 0) / count
        sd = np.sqrt(np.nansum((values - mean) ** 2, 0) / np.maximum(count - 1, 1))
    rounded = {"x": place, "mean": mean, "sd": sd, "low": np.nanmin(values, 0), "high": np.nanmax(values, 0)}
    return {name: _rounded(array) for name, array in rounded.items()} | {"n": count.tolist()}


def _chosen(steps: NDArray[Any]) -> NDArray[Any]:
    size = len(steps)
    if size <= 2 * _POINTS:
        return steps
    even = np.linspace(0, size - 1, _POINTS)
    geometric = np.geomspace(1, size - 1, _POINTS)
    chosen: NDArray[Any] = steps[np.unique(np.concatenate([even, geometric]).round().astype(int))]
    return chosen


def _rounded(values: NDArray[Any]) -> list[float | None]:
    return [float(f"{value:.7g}") if math.isfinite(value) else None for value in values.tolist()]
