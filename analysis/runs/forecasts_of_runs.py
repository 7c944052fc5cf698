"""Forecasts of finished runs: those of the centroid and of the agents, beside what was observed and trivial ones."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from basinet.analysis.runs.solution import Solution, is_solved, replicas_of
from basinet.analysis.statistics.run_labels import labels
from basinet.sim.data.nests import map_nest
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import Run, RunFolder
from basinet.sim.run.records import Row
from basinet.sim.tasks import Forecast

__all__ = ["OBSERVED", "forecast_rows", "forecasts_series"]

OBSERVED = "observed"
"""Label of what is to be forecast."""


def forecasts_series(run: Run) -> bool:
    """Return whether a run has finished and is one of the task `forecast`, with a centroid.

    Args:
        run: The run.

    Returns:
        Whether it is.
    """
    return is_solved(run, "forecast")


def forecast_rows(runs: Sequence[Run], *, window: int = -1, channel: str | None = None) -> list[Row]:
    """Compute forecasts of a window of the test data, in units of the series.

    Args:
        runs: Runs; left out are those for which `forecasts_series` does not hold, and those in which all replicas
            diverged. Of the others, the first replica that did not diverge is shown.
        window: Index of the window among those of the test data; negative ones count from the end.
        channel: Name of the channel; by default the first.

    Returns:
        Rows with a `label`, that of a run, of a trivial forecast or "observed"; `kind`: observed, forecast or baseline;
        `channel`, and `channels`, their number; `window`, its index, and `windows`, their number; `step` after the
        window, at most 0 within it; `time` in words, and `value`. For forecasts of several agents, also the range of
        these: `low` and `high`.

    Raises:
        ExperimentError: There is no such window or channel, or a run cannot be read.
    """
    common: dict[tuple[Any, ...], Row] = {}
    forecasts: list[Row] = []
    for run, label in zip(runs, labels(runs), strict=True):
        replicas = replicas_of(run)
        if not forecasts_series(run) or not replicas:
            continue
        checkpoint = RunFolder(run.path).checkpoint
        written = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        found = _forecasts(run.path, written, replicas[0], window, channel)
        common |= {tuple(row.values()): row for row in found if row["kind"] != "forecast"}
        forecasts += [{**row, "label": label} for row in found if row["kind"] == "forecast"]
    return [*common.values(), *forecasts]


@lru_cache(maxsize=64)
def _forecasts(path: Path, written: int, replica: int, window: int, channel: str | None) -> tuple[Row, ...]:
    """Compute the rows of a run, whose checkpoint was written at some time."""
    solution = Solution(path, replica)
    task = solution.task
    if not isinstance(task, Forecast) or task.test is None:
        raise ExperimentError(f"{path}: its task does not forecast time series")
    index, count, column, row = _place(task, window, channel)
    place = index * task.stride
    batch = map_nest(lambda t: t[row : row + 1], task.test)
    with torch.no_grad():
        centroid = task.outputs(solution.centroid(), batch)
        agents = [task.outputs(model, batch) for model in solution.agents()]
    naive = {name: function(batch[0]) for name, function in task.naive.items()}
    (length, _), name = task.input_shape, task.names[column]
    inner = 0 if task.separate else column
    where = {"channel": name, "channels": len(task.names), "window": index, "windows": count}

    def numbers(values: Tensor) -> list[float]:
        found: list[float] = (values[0, :, inner].cpu() * task.scale[column] + task.shift[column]).tolist()
        return found

    def listed(values: Sequence[float], kind: str, label: str, first: int = 1) -> list[Row]:
        times = task.times[place + length + first - 1 :]
        return [
            {"label": label, "kind": kind, **where, "step": first + ahead, "time": times[ahead], "value": value}
            for ahead, value in enumerate(values)
        ]

    rows = listed(numbers(torch.cat(batch, 1)), "observed", OBSERVED, 1 - length)
    for label, values in naive.items():
        rows += listed(numbers(values), "baseline", label)
    forecast = listed(numbers(centroid), "forecast", "")
    if len(agents) > 1:
        for row_, several in zip(forecast, zip(*map(numbers, agents), strict=True), strict=True):
            row_ |= {"low": min(several), "high": max(several)}
    return (*rows, *forecast)


def _place(task: Forecast, window: int, channel: str | None) -> tuple[int, int, int, int]:
    """Find the index of a window and their number, the place of a channel, and the window's row of the data."""
    if channel is not None and channel not in task.names:
        raise ExperimentError(f"channel: got {channel!r}; allowed are {', '.join(task.names)}")
    column = 0 if channel is None else task.names.index(channel)
    together = len(task.names) if task.separate else 1
    count = len(task.test[0]) // together  # type: ignore[index]
    if not -count <= window < count:
        raise ExperimentError(f"window: got {window}; allowed are {-count} to {count - 1}")
    start = window % count
    return start, count, column, start * together + (column if task.separate else 0)
