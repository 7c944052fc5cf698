"""Exponential moving average of the parameters."""

from typing import Annotated

from pydantic import Field

from basinet.algorithms.averaging.averaging import AVERAGINGS

__all__ = ["ema"]


@AVERAGINGS.register()
def ema(t: int, num_steps: int, *, decay: Annotated[float, Field(ge=0, lt=1)] = 0.999) -> float:
    """Average with weights that decay exponentially into the past: x̄ ← β x̄ + (1 − β) x, from the first step's x on.

    As torch's AveragedModel with `get_ema_multi_avg_fn(decay)`.

    Args:
        t: Step that has been taken, from 0.
        num_steps: Steps of the whole run.
        decay: β.

    Returns:
        The weight of the newest point in the average.

    Example:
        >>> [round(ema(t, 10, decay=0.9), 3) for t in range(3)]
        [1.0, 0.1, 0.1]

    References:
        B. T. Polyak, A. B. Juditsky: Acceleration of stochastic approximation by averaging, SIAM J. Control Optim. 30
        (1992), doi:10.1137/0330046.
    """
    return 1 - decay if t else 1.0
