"""Shared by schedules: types of their settings, the warm-up, and the progress after it."""

from typing import Annotated

from pydantic import Field

from basinet.topologies.registry import Registry

__all__ = ["SCHEDULES", "Fraction", "Steps", "Stretch", "progress", "steps_in", "warm_up"]

Steps = Annotated[int, Field(ge=0, le=10**12)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Stretch = Steps | Annotated[float, Field(gt=0, lt=1)]
"""A part of the run: a number of steps, or a fraction of the run."""

SCHEDULES: Registry[float] = Registry("SCHEDULES")
"""The schedules that an experiment can name."""


def steps_in(stretch: Stretch, num_steps: int) -> int:
    """Convert a part of the run to steps.

    Args:
        stretch: Steps, or a fraction of the run.
        num_steps: Steps of the whole run.

    Returns:
        The number of steps.
    """
    return round(stretch * num_steps) if isinstance(stretch, float) else stretch


def warm_up(t: int, num_steps: int, warmup: Stretch) -> float:
    """Return a factor that rises linearly over the first w steps, (t + 1) / (w + 1), then 1."""
    return min(1.0, (t + 1) / (steps_in(warmup, num_steps) + 1))


def progress(t: int, num_steps: int, warmup: Stretch) -> float:
    """Return the share of the steps after the warm-up that have been taken: from 0 up to 1 after the last one."""
    first = steps_in(warmup, num_steps)
    return max(0, t - first) / max(1, num_steps - first)
