"""Prediction of what people say of videos."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from basinet.sim.tasks.vision.quality.scoring import Scoring

__all__ = ["VideoRating"]


@dataclass(frozen=True, kw_only=True)
class VideoRating(Scoring):
    """Prediction of the mean opinion scores of videos, from 1 to 5, under the absolute error.

    The scores [B, 1] are the last part of a batch.

    Attributes:
        pairs: For "source" (the same content) and "nonsource" (different ones), pairs of test videos that are hard to
            tell apart: int64 [P, 3], the places of two, and 1 if the first is the better one, or else 2.
    """

    pairs: Mapping[str, Tensor] = field(default_factory=dict)
