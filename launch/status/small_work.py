"""Advice for runs whose workers wait for each other longer than one process would take for the work of all."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["alone_instead"]


def alone_instead(workers: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """Say that one process would be faster than the workers of runs, if so.

    One process does the work of all workers one after the other, and waits for none: it takes at most the time that
    they compute, all together.

    Args:
        workers: What each worker used at the end of a run, see `UsageMeter.read`, by the run's name.

    Returns:
        A sentence about the run that would gain most; None if there is none.
    """
    gains: dict[str, tuple[float, float, float]] = {}
    for name, used in workers.items():
        if len(used) < 2 or any(worker["step_seconds"] is None for worker in used):
            continue
        step = max(worker["step_seconds"] for worker in used)
        waiting = sum(worker["waiting_seconds"] for worker in used)
        alone = sum(worker["step_seconds"] for worker in used) - waiting
        if 0 < alone < step:
            gains[name] = step / alone, step, waiting / len(used) / step
    if not gains:
        return None
    name = max(gains, key=lambda run: gains[run])
    ratio, step, waiting = gains[name]
    others = f" (and so for {len(gains) - 1:,} more of these runs)" if len(gains) > 1 else ""
    return (
        f"{name}: its {len(workers[name])} workers wait for each other in {100 * waiting:.0f} % of each step of"
        f" {1e3 * step:.3g} ms; one process would take about {1e3 * step / ratio:.3g} ms: give"
        f" runtime.name=inline{others}"
    )
