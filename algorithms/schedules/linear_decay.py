"""Linear decay of the learning rate."""

from basinet.algorithms.schedules.schedule import SCHEDULES, Fraction, Stretch, progress, warm_up

__all__ = ["linear"]


@SCHEDULES.register()
def linear(t: int, num_steps: int, *, final: Fraction = 0.0, warmup: Stretch = 0) -> float:
    """Decay from 1 to `final` along a straight line.

    Args:
        t: Step, from 0.
        num_steps: Steps of the whole run.
        final: The factor reached at the end.
        warmup: Steps, or fraction of the run, over which the rate first rises linearly.

    Returns:
        The factor on the learning rate.

    Example:
        >>> [round(linear(t, 4, final=0.2), 3) for t in range(5)]
        [1.0, 0.8, 0.6, 0.4, 0.2]
    """
    return warm_up(t, num_steps, warmup) * (1 + (final - 1) * progress(t, num_steps, warmup))
