"""Cosine decay of the learning rate."""

import math

from basinet.algorithms.schedules.schedule import SCHEDULES, Fraction, Stretch, progress, warm_up

__all__ = ["cosine"]


@SCHEDULES.register()
def cosine(t: int, num_steps: int, *, final: Fraction = 0.0, warmup: Stretch = 0) -> float:
    """Decay from 1 to `final` along half a cosine (Loshchilov, Hutter: SGDR, arXiv:1608.03983).

    Args:
        t: Step, from 0.
        num_steps: Steps of the whole run.
        final: The factor reached at the end.
        warmup: Steps, or fraction of the run, over which the rate first rises linearly.

    Returns:
        The factor on the learning rate.

    Example:
        >>> [round(cosine(t, 4), 3) for t in range(4)]
        [1.0, 0.854, 0.5, 0.146]
    """
    wave = 0.5 * (1 + math.cos(math.pi * progress(t, num_steps, warmup)))
    return warm_up(t, num_steps, warmup) * (final + (1 - final) * wave)
