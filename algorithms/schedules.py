"""Learning-rate schedules: the factor on the learning rate at each step, a pure function of the step."""

import math
from collections.abc import Callable
from typing import Annotated

from pydantic import Field

__all__ = ["SCHEDULES", "constant", "cosine", "step"]

Steps = Annotated[int, Field(ge=0, le=10**12)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _warmup(t: int, warmup: int) -> float:
    """Rise linearly over the first `warmup` steps: (t + 1) / (warmup + 1)."""
    return min(1.0, (t + 1) / (warmup + 1))


def constant(t: int, num_steps: int, *, warmup: Steps = 0) -> float:
    """Keep the learning rate.

    Args:
        t: Step, from 0.
        num_steps: Steps of the whole run.
        warmup: Steps over which the rate first rises linearly.

    Returns:
        The factor on the learning rate.

    Example:
        >>> [constant(t, 10, warmup=3) for t in range(5)]
        [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return _warmup(t, warmup)


def step(
    t: int,
    num_steps: int,
    *,
    milestones: tuple[Fraction, ...] = (0.5, 0.75),
    gamma: Fraction = 0.1,
    warmup: Steps = 0,
) -> float:
    """Multiply the learning rate by gamma at each milestone.

    Args:
        t: Step, from 0.
        num_steps: Steps of the whole run.
        milestones: Fractions of the run.
        gamma: The factor at each milestone.
        warmup: Steps over which the rate first rises linearly.

    Returns:
        The factor on the learning rate.

    Example:
        >>> [round(step(t, 4), 4) for t in range(4)]
        [1.0, 1.0, 0.1, 0.01]
    """
    passed = sum(t >= milestone * num_steps for milestone in milestones)
    return float(_warmup(t, warmup) * gamma**passed)


def cosine(t: int, num_steps: int, *, final: Fraction = 0.0, warmup: Steps = 0) -> float:
    """Fall from 1 to `final` along half a cosine (Loshchilov, Hutter: SGDR, arXiv:1608.03983).

    Args:
        t: Step, from 0.
        num_steps: Steps of the whole run.
        final: The factor that is reached at the end.
        warmup: Steps over which the rate first rises linearly.

    Returns:
        The factor on the learning rate.

    Example:
        >>> [round(cosine(t, 4), 3) for t in range(4)]
        [1.0, 0.854, 0.5, 0.146]
    """
    progress = max(0, t - warmup) / max(1, num_steps - warmup)
    return _warmup(t, warmup) * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))


SCHEDULES: dict[str, Callable[..., float]] = {"constant": constant, "cosine": cosine, "step": step}
