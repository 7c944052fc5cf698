"""Augmentations: random changes of the training images, keyed by agent and step."""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from basinet.algorithms import draws

__all__ = ["AUGMENTATIONS", "flip", "shift", "shift_flip"]

Pixels = Annotated[int, Field(ge=1)]


def shift(images: Tensor, keys: Tensor, *, pixels: Pixels = 1) -> Tensor:
    """Shift each image by up to `pixels` along each axis, filled with zeros (a padded random crop).

    Args:
        images: [N, B, C, H, W].
        keys: One key per agent, int64 [N].
        pixels: The largest shift.

    Returns:
        Images of the same shape.
    """
    n, batch, _, height, width = images.shape
    by = draws.integers(keys, 2 * pixels + 1, (2, batch))
    padded = torch.nn.functional.pad(images, (pixels,) * 4)
    agent = torch.arange(n, device=images.device).view(n, 1, 1, 1)
    image = torch.arange(batch, device=images.device).view(1, batch, 1, 1)
    row = by[:, 0, :, None, None] + torch.arange(height, device=images.device).view(height, 1)
    column = by[:, 1, :, None, None] + torch.arange(width, device=images.device)
    return padded[agent, image, :, row, column].movedim(-1, 2)


def flip(images: Tensor, keys: Tensor) -> Tensor:
    """Mirror each image left to right with probability one half.

    Args:
        images: [N, B, C, H, W].
        keys: One key per agent, int64 [N].

    Returns:
        Images of the same shape.
    """
    mirrored = draws.integers(keys, 2, (images.shape[1], 1, 1, 1)) == 1
    return torch.where(mirrored, images.flip(-1), images)


def shift_flip(images: Tensor, keys: Tensor, *, pixels: Pixels = 4) -> Tensor:
    """Shift, then flip: the usual augmentation of small photographs.

    Args:
        images: [N, B, C, H, W].
        keys: One key per agent, int64 [N].
        pixels: The largest shift.

    Returns:
        Images of the same shape.
    """
    return flip(shift(images, draws.fold(keys, 0), pixels=pixels), draws.fold(keys, 1))


AUGMENTATIONS: dict[str, Callable[..., Tensor]] = {"flip": flip, "shift": shift, "shift_flip": shift_flip}
"""The augmentations that an experiment can name."""
