"""Reduction of the learning rate when a metric no longer improves."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from basinet.algorithms.schedules.schedule import SCHEDULES, Fraction, Stretch, warm_up

__all__ = ["plateau"]


@SCHEDULES.register()
def plateau(
    t: int,
    num_steps: int,
    evaluations: Mapping[str, Sequence[float]],
    *,
    metric: str = "train_loss",
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    patience: Annotated[int, Field(ge=0)] = 2,
    threshold: Annotated[float, Field(ge=0)] = 1e-4,
    final: Fraction = 0.0,
    warmup: Stretch = 0,
) -> float:
    """Multiply the learning rate by `factor` whenever a metric has not improved for more than `patience` evaluations.

    The metric is the mean over the replicas, which therefore all step at the same rate. As torch's ReduceLROnPlateau
    with relative threshold: NaN counts as no improvement.

    Args:
        t: Step, from 0.
        num_steps: Steps of the whole run.
        evaluations: Values of each metric at the evaluations so far; those of which larger ones are better are negated.
        metric: Name of the metric.
        factor: The factor of a reduction.
        patience: Number of evaluations without improvement that are tolerated.
        threshold: Relative change from the best value that counts as an improvement.
        final: The smallest factor.
        warmup: Steps, or fraction of the run, over which the rate first rises linearly.

    Returns:
        The factor on the learning rate.

    Raises:
        ValueError: There is no such metric.

    Example:
        >>> losses = [1.0, 0.5, 0.5, 0.5]
        >>> [plateau(0, 10, {"train_loss": losses[:n]}, patience=1) for n in range(5)]
        [1.0, 1.0, 1.0, 1.0, 0.1]
    """
    if evaluations and metric not in evaluations:
        raise ValueError(f"metric '{metric}' is not measured; allowed: {', '.join(evaluations)}")
    reduced, best, stalled = 1.0, float("inf"), 0
    for value in evaluations.get(metric, ()):
        if value < best and (best == float("inf") or best - value > threshold * abs(best)):
            best, stalled = value, 0
        else:
            stalled += 1
        if stalled > patience:
            reduced, stalled = max(final, reduced * factor), 0
    return warm_up(t, num_steps, warmup) * reduced
