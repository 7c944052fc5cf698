"""The geometric self-ensemble: the mean over the eight flips and rotations of an image."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["of_eight_views"]


def of_eight_views(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a model that commutes with flips and rotations by 90°: its mean over the eight views of an image.

    Args:
        model: Takes images [..., height, width] of any size, and returns images.

    Returns:
        The averaged model, eight times as expensive.

    Source:
        Timofte et al., Seven ways to improve example-based single image super resolution, arXiv 1511.02228.
    """

    def averaged(images: Tensor) -> Tensor:
        total: Tensor | None = None
        for flipped in (False, True):
            for turns in range(4):
                seen = torch.rot90(images.flip(-1) if flipped else images, turns, (-2, -1))
                restored = torch.rot90(model(seen), -turns, (-2, -1))
                restored = restored.flip(-1) if flipped else restored
                total = restored if total is None else total + restored
        assert total is not None
        return total / 8

    return averaged
