"""The constant learning rate."""

from basinet.algorithms.schedules.schedule import SCHEDULES, Stretch, warm_up

__all__ = ["constant"]


@SCHEDULES.register()
def constant(t: int, num_steps: int, *, warmup: Stretch = 0) -> float:
    """Keep the learning rate constant.

    Args:
        t: Step, from 0.
        num_steps: Steps of the whole run.
        warmup: Steps, or fraction of the run, over which the rate first rises linearly.

    Returns:
        The factor on the learning rate.

    Example:
        >>> [constant(t, 10, warmup=3) for t in range(5)]
        [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return warm_up(t, num_steps, warmup)
