"""Polynomial decay of the learning rate."""

from typing import Annotated

from pydantic import Field

from basinet.algorithms.schedules.schedule import SCHEDULES, Fraction, Stretch, progress, warm_up

__all__ = ["polynomial"]


@SCHEDULES.register()
def polynomial(
    t: int,
    num_steps: int,
    *,
    power: Annotated[float, Field(gt=0)] = 2.0,
    final: Fraction = 0.0,
    warmup: Stretch = 0,
) -> float:
    """Decay from 1 to `final` as a power of the share of the run that is left.

    Args:
        t: Step, from 0.
        num_steps: Steps of the whole run.
        power: The power; 1 decays linearly.
        final: The factor reached at the end.
        warmup: Steps, or fraction of the run, over which the rate first rises linearly.

    Returns:
        The factor on the learning rate.

    Example:
        >>> [polynomial(t, 4) for t in range(4)]
        [1.0, 0.5625, 0.25, 0.0625]
    """
    left = max(0.0, 1 - progress(t, num_steps, warmup))
    return float(warm_up(t, num_steps, warmup) * (final + (1 - final) * left**power))
