"""Step decay of the learning rate at milestones."""

from basinet.algorithms.schedules.schedule import SCHEDULES, Fraction, Stretch, warm_up

__all__ = ["step"]


@SCHEDULES.register()
def step(
    t: int,
    num_steps: int,
    *,
    milestones: tuple[Fraction, ...] = (0.5, 0.75),
    gamma: Fraction = 0.1,
    warmup: Stretch = 0,
) -> float:
    """Multiply the learning rate by gamma at each milestone.

    Args:
        t: Step, from 0.
        num_steps: Steps of the whole run.
        milestones: Fractions of the run.
        gamma: The factor at each milestone.
        warmup: Steps, or fraction of the run, over which the rate first rises linearly.

    Returns:
        The factor on the learning rate.

    Example:
        >>> [round(step(t, 4), 4) for t in range(4)]
        [1.0, 1.0, 0.1, 0.01]
    """
    passed = sum(t >= milestone * num_steps for milestone in milestones)
    return float(warm_up(t, num_steps, warmup) * gamma**passed)
