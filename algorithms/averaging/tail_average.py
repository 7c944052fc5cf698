"""Equal average of the parameters over the end of a run."""

from typing import Annotated

from pydantic import Field

from basinet.algorithms.averaging.averaging import AVERAGINGS

__all__ = ["swa"]


@AVERAGINGS.register()
def swa(
    t: int,
    num_steps: int,
    *,
    start: Annotated[float, Field(ge=0, lt=1)] = 0.75,
    every: Annotated[int, Field(ge=1)] = 1,
) -> float | None:
    """Average points of the end of the run with equal weights: stochastic weight averaging.

    As torch's AveragedModel. It finds flatter points than the last one, if the learning rate there is still large.

    Args:
        t: Step that has been taken, from 0.
        num_steps: Steps of the whole run.
        start: Fraction of the run before the average begins.
        every: Steps between two points of the average.

    Returns:
        The weight of the newest point in the average; None before it begins.

    Example:
        >>> [swa(t, 8, start=0.5) for t in range(3, 8)]
        [None, 1.0, 0.5, 0.3333333333333333, 0.25]

    References:
        P. Izmailov, D. Podoprikhin, T. Garipov, D. Vetrov, A. G. Wilson: Averaging weights leads to wider optima and
        better generalization, UAI 2018, arXiv:1803.05407.
    """
    since = t - int(start * num_steps)
    if since < 0:
        return None
    return 0.0 if since % every else 1 / (since // every + 1)
