"""Shared by schedules: types of their settings, and the warm-up."""

from typing import Annotated

from pydantic import Field

from basinet.topologies.registry import Registry

__all__ = ["SCHEDULES", "Fraction", "Steps", "warm_up"]

Steps = Annotated[int, Field(ge=0, le=10**12)]
Fraction = Annotated[float, Field(ge=0, le=1)]

SCHEDULES: Registry[float] = Registry()
"""The schedules that an experiment can name."""


def warm_up(t: int, warmup: int) -> float:
    """Return a factor that rises linearly over the first `warmup` steps, (t + 1) / (warmup + 1), then 1."""
    return min(1.0, (t + 1) / (warmup + 1))
