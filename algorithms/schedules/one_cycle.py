"""One cycle of the learning rate: up, then down to almost nothing."""

import math
from typing import Annotated, Literal

from pydantic import Field

from basinet.algorithms.schedules.schedule import SCHEDULES, Fraction

__all__ = ["one_cycle"]


@SCHEDULES.register()
def one_cycle(
    t: int,
    num_steps: int,
    *,
    rise: Annotated[float, Field(gt=0, lt=1)] = 0.3,
    start: Fraction = 0.04,
    final: Fraction = 4e-6,
    anneal: Literal["cosine", "linear"] = "cosine",
) -> float:
    """Rise from `start` to 1, then decay to `final` at the last step: super-convergence.

    The optimizer's learning rate is the largest one. As torch's OneCycleLR in two phases, whose `div_factor` is 1 /
    `start`, and whose `final_div_factor` is `start` / `final`; momentum is left as it is.

    Args:
        t: Step, from 0.
        num_steps: Steps of the whole run.
        rise: Fraction of the run over which the rate rises.
        start: The factor at the first step.
        final: The factor at the last step.
        anneal: Along half a "cosine" or "linear" in both phases.

    Returns:
        The factor on the learning rate.

    Example:
        >>> [round(one_cycle(t, 10, anneal="linear", start=0.2, final=0.0), 2) for t in range(10)]
        [0.2, 0.6, 1.0, 0.86, 0.71, 0.57, 0.43, 0.29, 0.14, 0.0]

    References:
        L. N. Smith, N. Topin: Super-convergence: very fast training of neural networks using large learning rates,
        2018, arXiv:1708.07120.
    """
    peak = rise * num_steps - 1
    if t <= peak:
        low, high, share = start, 1.0, t / peak if peak else 1.0
    else:
        low, high, share = 1.0, final, min(1.0, (t - peak) / (num_steps - 1 - peak))
    curve = share if anneal == "linear" else 0.5 * (1 - math.cos(math.pi * share))
    return low + (high - low) * curve
