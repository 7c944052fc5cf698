"""What networks of videos begin and end with: local contrast, and scores on the scale of opinions."""

import torch
from torch import Tensor, nn

__all__ = ["LocalContrast", "check_video", "score_layer"]

_REACH = 3
"""Pixels on either side of one over which local contrast is measured."""

_MIDDLE = 3.0
"""The middle of the scale of mean opinion scores, from 1 to 5, where training begins."""


def check_video(name: str, input_shape: tuple[int, ...]) -> None:
    """Raise unless inputs are videos.

    Args:
        name: Name of the model.
        input_shape: Shape of one input.

    Raises:
        ValueError: They are not.
    """
    if len(input_shape) != 4:
        raise ValueError(f"{name} needs inputs of shape (frames, channels, height, width), but got {input_shape}")


def score_layer(width: int, num_outputs: int) -> nn.Linear:
    """Make the last layer, whose scores are around the middle of the scale at first.

    Args:
        width: Number of inputs.
        num_outputs: Number of scores.

    Returns:
        The layer.
    """
    layer = nn.Linear(width, num_outputs)
    nn.init.constant_(layer.bias, _MIDDLE)
    return layer


class LocalContrast(nn.Module):
    """Shifts and scales pixels by the mean and deviation around them, which leaves what distortions change.

    (x − μ) / (σ + 1/255), with μ and σ over 7 × 7 pixels, fewer at the borders. Without it, networks of this size learn
    brightness and content long before quality. It has no parameters.

    References:
        L. Kang et al.: Convolutional neural networks for no-reference image quality assessment, CVPR 2014,
        doi:10.1109/CVPR.2014.224.
    """

    def forward(self, video: Tensor) -> Tensor:
        """Normalise videos [B, T, C, H, W]."""
        frames = video.flatten(0, 1)
        mean = _window_mean(frames)
        deviation = (_window_mean(frames.square()) - mean.square()).clamp(min=1e-8).sqrt()
        return ((frames - mean) / (deviation + 1 / 255)).view(video.shape)


def _window_mean(frames: Tensor) -> Tensor:
    """Average over windows, by products with band matrices, which are up to five times as fast as pooling."""
    down, along = (_band(size, frames) for size in frames.shape[-2:])
    with torch.autocast(frames.device.type, enabled=False):  # a variance is a small difference
        return down @ frames @ along.T


def _band(size: int, like: Tensor) -> Tensor:
    """Make the matrix [size, size] that averages each place and the three on either side, as far as there are any."""
    places = torch.arange(size, device=like.device)
    near = ((places - places[:, None]).abs() <= _REACH).to(like.dtype)
    return near / near.sum(1, keepdim=True)
