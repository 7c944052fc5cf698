"""What tables say of runs and of their workers."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from rich.filesize import decimal

from basinet.launch.status.run_states import RunState

__all__ = ["OF_RUNS", "OF_WORKERS", "run_cells", "worker_cells"]

OF_RUNS = ("run", "state", "step", "left", "last value", "a step", "waiting", "sent", "memory", "slowest worker")
"""Headings of what is said of a run."""


def run_cells(run: RunState) -> Sequence[str]:
    """Describe a run in a line.

    Args:
        run: The run.

    Returns:
        A text for each heading in `OF_RUNS`; "" for what is not known.
    """
    heading = (run.quantity.heading or run.quantity.label) if run.quantity is not None else run.metric
    timed = [worker for worker in run.workers if worker["step_seconds"] is not None]
    memory = [worker["memory_bytes"] for worker in run.workers if worker["memory_bytes"] is not None]
    many = len(timed) > 1
    # Workers that exchange rows take equally long for a step: the slowest is the one that waits least.
    slowest = max(timed, key=lambda worker: worker["step_seconds"] - worker["waiting_seconds"]) if many else None
    return (
        run.name,
        run.state,
        f"{run.step:,}" + (f" of {run.steps:,}" if run.steps is not None else ""),
        str(timedelta(seconds=round(run.seconds_left))) if run.seconds_left is not None else "",
        f"{heading} {run.value:.4g}" if run.value is not None else "",
        _milliseconds(max(worker["step_seconds"] for worker in timed)) if timed else "",
        _percent(sum(map(_waiting, timed)) / len(timed)) if many else "",
        f"{decimal(round(run.sent_per_second))}/s" if run.sent_per_second is not None else "",
        decimal(max(memory)) if memory else "",
        f"{slowest['rank']} on {slowest['host']}" if slowest is not None else "",
    )


OF_WORKERS = ("worker", "machine", "device", "a step", "waiting", "sent", "memory")
"""Headings of what is said of a worker."""


def worker_cells(worker: Mapping[str, Any]) -> Sequence[str]:
    """Describe a worker in a line.

    Args:
        worker: What it uses, see `UsageMeter.read`.

    Returns:
        A text for each heading in `OF_WORKERS`; "" for what is not known.
    """
    timed, memory = worker["step_seconds"] is not None, worker["memory_bytes"]
    return (
        str(worker["rank"]),
        worker["host"],
        worker["device"],
        _milliseconds(worker["step_seconds"]) if timed else "",
        _percent(_waiting(worker)) if timed else "",
        decimal(worker["sent_bytes"]),
        decimal(memory) if memory is not None else "",
    )


def _waiting(worker: Mapping[str, Any]) -> float:
    """Return the share of a worker's steps that it waits for others."""
    return float(worker["waiting_seconds"] / worker["step_seconds"])


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
