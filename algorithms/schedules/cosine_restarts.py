"""Cosine decay of the learning rate with warm restarts."""

import math
from typing import Annotated

from pydantic import Field

from basinet.algorithms.schedules.schedule import SCHEDULES, Fraction, Steps, Stretch, steps_in, warm_up

__all__ = ["cosine_restarts"]


@SCHEDULES.register()
def cosine_restarts(
    t: int,
    num_steps: int,
    *,
    period: Annotated[Steps, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] = 0.1,
    growth: Annotated[int, Field(ge=1)] = 2,
    final: Fraction = 0.0,
    warmup: Stretch = 0,
) -> float:
    """Decay from 1 towards `final` along half a cosine, again and again: SGDR.

    Args:
        t: Step, from 0.
        num_steps: Steps of the whole run.
        period: Steps, or fraction of the run, until the first restart: T_0.
        growth: By how much each period is longer than the one before: T_mult.
        final: The factor at the end of a period.
        warmup: Steps, or fraction of the run, over which the rate first rises linearly.

    Returns:
        The factor on the learning rate.

    Example:
        >>> [round(cosine_restarts(t, 6, period=2), 3) for t in range(6)]
        [1.0, 0.5, 1.0, 0.854, 0.5, 0.146]

    References:
        I. Loshchilov, F. Hutter: SGDR: Stochastic gradient descent with warm restarts, ICLR 2017, arXiv:1608.03983.
    """
    left, length = max(0, t - steps_in(warmup, num_steps)), max(1, steps_in(period, num_steps))
    if growth == 1:
        left %= length
    while left >= length:
        left -= length
        length *= growth
    wave = 0.5 * (1 + math.cos(math.pi * left / length))
    return warm_up(t, num_steps, warmup) * (final + (1 - final) * wave)
