"""Prediction of what people say of videos."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from basinet.sim.tasks.left_out import GENERATED, READ, check_left_out
from basinet.sim.tasks.vision.quality.scoring import Scoring
from basinet.sim.tasks.vision.videos.clips import rated_clips
from basinet.sim.tasks.vision.videos.kvq_files import rated_files
from basinet.sim.tasks.vision.videos.video_views import Rated

__all__ = ["VideoRating", "rated_videos"]


@dataclass(frozen=True, kw_only=True)
class VideoRating(Scoring):
    """Prediction of the mean opinion scores of videos, from 1 to 5, under the absolute error.

    The scores [B, 1] are the last part of a batch.

    Attributes:
        pairs: For "source" (the same content) and "nonsource" (different ones), pairs of test videos that are hard to
            tell apart: int64 [P, 3], the places of two, and 1 if the first is the better one, or else 2.
    """

    pairs: Mapping[str, Tensor] = field(default_factory=dict)

    def hold_out(self, share: float, seed: int) -> Self:
        """Hold videos out, without pairs; see `Task.hold_out`."""
        return replace(super().hold_out(share, seed), pairs={})


def rated_videos(
    task: Callable[..., Any],
    *,
    frames: int,
    path: str | None,
    train_scores: str | None,
    test_scores: str | None,
    pairs: str | None,
    **made: Any,
) -> Rated:
    """Make clips of photos, or find videos in files.

    Args:
        task: The function that makes the task, whose parameters the others are.
        frames: See `video_quality`.
        path: See `video_quality`.
        train_scores: See `video_quality`.
        test_scores: See `video_quality`.
        pairs: See `video_quality`.
        **made: Other settings of `rated_clips`.

    Returns:
        The videos.

    Raises:
        ImportError: PyAV or scikit-image is not installed.
        ValueError: A file cannot be read, or holds something else; or settings do not fit.
    """
    if path is None:
        check_left_out(task, READ, train_scores=train_scores, test_scores=test_scores, pairs=pairs)
        return rated_clips(frames=frames, **made)
    check_left_out(task, GENERATED, **made)
    return rated_files(task.__name__, Path(path), train_scores, test_scores, pairs, frames)
