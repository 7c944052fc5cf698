"""Scores that annotators might give what is distorted at known levels."""

import torch
from torch import Tensor

from basinet.algorithms.draws import normal

__all__ = ["RATERS", "mean_opinion", "quality_of"]

RATERS = 18
"""Annotators whose scores are averaged."""

_DISAGREEMENT = 0.7
"""Deviation of an annotator from the true quality."""


def quality_of(level: Tensor) -> Tensor:
    r"""Return the true quality $1 + 4 / (1 + \exp((ℓ − 0.5) / 0.18))$ at a level of distortion, which it falls with.

    Args:
        level: Levels ℓ from 0 to 1.

    Returns:
        Between 1 and 5.
    """
    return 1 + 4 * torch.sigmoid((0.5 - level) / 0.18)


def mean_opinion(quality: Tensor, seed: int) -> Tensor:
    """Average what annotators say: each deviates from the true quality, and chooses among 1, 1.5, …, 5.

    Args:
        quality: True qualities [n].
        seed: Key of the deviations.

    Returns:
        The mean of 18 of them, a multiple of 1/36.
    """
    noise = normal(torch.tensor([seed]), (len(quality), RATERS))[0]
    said = ((quality[:, None] + _DISAGREEMENT * noise) * 2).round().clamp(2, 10)
    return said.sum(1) / (2 * RATERS)
