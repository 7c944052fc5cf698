"""Decay of the learning rate with the inverse square root of the step."""

import math
from typing import Annotated

from pydantic import Field

from basinet.algorithms.schedules.schedule import SCHEDULES, Steps, Stretch, steps_in, warm_up

__all__ = ["inverse_sqrt"]

_WITHOUT_WARMUP = 10_000


@SCHEDULES.register()
def inverse_sqrt(
    t: int, num_steps: int, *, timescale: Annotated[Steps, Field(ge=1)] | None = None, warmup: Stretch = 0
) -> float:
    """Decay as sqrt(τ / (t − w + τ)) after a warm-up of w steps, whatever the length of the run.

    With τ = w it is sqrt(w / t), the schedule of the Transformer.

    Args:
        t: Step, from 0.
        num_steps: Steps of the whole run.
        timescale: τ, by default w, or 10 000 without a warm-up.
        warmup: Steps, or fraction of the run, over which the rate first rises linearly.

    Returns:
        The factor on the learning rate.

    Example:
        >>> [inverse_sqrt(t, 100, warmup=4) for t in (0, 4, 16, 64)]
        [0.2, 1.0, 0.5, 0.25]

    References:
        A. Vaswani et al.: Attention is all you need, NeurIPS 2017, arXiv:1706.03762.
    """
    first = steps_in(warmup, num_steps)
    scale = timescale or first or _WITHOUT_WARMUP
    return warm_up(t, num_steps, warmup) * math.sqrt(scale / (max(0, t - first) + scale))
