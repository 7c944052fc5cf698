"""Distortions of clips, each at a level from 0 (none) to 1, and of images."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from basinet.sim.vision.codecs import compressed
from basinet.sim.vision.fidelity import to_bytes

__all__ = ["DISTORTIONS", "REVISION", "Distortion", "gaussian_blur", "noisy", "through_jpeg"]

REVISION = 1
"""Of what distortions make of pixels; another one has clips made anew."""


@dataclass(frozen=True)
class Distortion:
    """A distortion.

    Attributes:
        apply: Takes a clip, uint8 [T, 3, H, W], and a strength.
        mildest: Strength at the level 0.
        strongest: Strength at the level 1, linear between.
        is_whole: Whether strengths are rounded to integers.
    """

    apply: Callable[[Tensor, float], Tensor]
    mildest: float
    strongest: float
    is_whole: bool = False

    def strength(self, level: float) -> float:
        """Return the strength at a level from 0 to 1."""
        found = self.mildest + level * (self.strongest - self.mildest)
        return round(found) if self.is_whole else round(found, 3)


def _blurred(clip: Tensor, deviation: float) -> Tensor:
    return to_bytes(gaussian_blur(clip / 255, deviation))


def _denoised(clip: Tensor, deviation: float) -> Tensor:
    """Smooth by a self-guided filter, which takes what varies by less than a deviation (of 255) for noise."""
    x = clip / 255
    mean = _box(x)
    variance = (_box(x.square()) - mean.square()).clamp(min=0)
    slope = variance / (variance + (deviation / 255) ** 2)
    return to_bytes(_box(slope) * x + _box((1 - slope) * mean))


def _rescaled(clip: Tensor, factor: float) -> Tensor:
    """Shrink by bicubic interpolation, and enlarge again."""
    height, width = clip.shape[-2:]
    small = [max(1, round(size / factor)) for size in (height, width)]
    resize = partial(nn.functional.interpolate, mode="bicubic", antialias=True, align_corners=False)
    return to_bytes(resize(resize(clip / 255, size=small), size=(height, width)))


def _sharpened(clip: Tensor, amount: float) -> Tensor:
    """Add a multiple of what a blur takes away."""
    x = clip / 255
    return to_bytes(x + amount * (x - gaussian_blur(x, 1.5)))


def gaussian_blur(x: Tensor, deviation: float) -> Tensor:
    """Blur images by a Gaussian, of which three deviations to each side are used; their borders are repeated.

    Args:
        x: Floating-point images [batch, channels, H, W].
        deviation: Its standard deviation in pixels.

    Returns:
        The same shape.
    """
    radius = max(1, round(3 * deviation))
    weights = torch.exp(-torch.arange(-radius, radius + 1, dtype=x.dtype).square() / (2 * deviation**2))
    weights = weights / weights.sum()
    for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
        kernel = weights.view(shape)
        margin = [side // 2 for side in kernel.shape[:1:-1] for _ in range(2)]
        padded = nn.functional.pad(x, margin, mode="replicate")
        x = nn.functional.conv2d(padded.flatten(0, 1)[:, None], kernel)[:, 0].view(x.shape)
    return x


def noisy(image: Tensor, deviation: float, generator: np.random.Generator) -> Tensor:
    """Add Gaussian noise, independent from pixel to pixel and from channel to channel.

    Args:
        image: uint8 of any shape.
        deviation: Its standard deviation in grey levels of 255.
        generator: Where it is drawn from.

    Returns:
        uint8 of the same shape.
    """
    noise = generator.normal(0, deviation, image.shape)
    return torch.from_numpy((image.numpy() + noise).round().clip(0, 255).astype(np.uint8))


def through_jpeg(image: Tensor, quality: int) -> Tensor:
    """Compress an image as JPEG does.

    Args:
        image: uint8 [3, H, W].
        quality: From 1 to 95, as Pillow counts it.

    Returns:
        uint8 of the same shape.
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, format="JPEG", quality=quality)
    with Image.open(file) as read:
        return torch.from_numpy(np.array(read)).permute(2, 0, 1).contiguous()


def _box(x: Tensor) -> Tensor:
    """Average over 9 × 9 pixels; fewer at the borders."""
    return nn.functional.avg_pool2d(x, 9, stride=1, padding=4, count_include_pad=False)


def _coded(codec: str) -> Callable[[Tensor, float], Tensor]:
    return lambda clip, strength: compressed(clip, codec, int(strength))


DISTORTIONS = {
    "x264": Distortion(_coded("x264"), 18, 51, is_whole=True),
    "x265": Distortion(_coded("x265"), 18, 51, is_whole=True),
    "vp9": Distortion(_coded("vp9"), 40, 63, is_whole=True),
    "av1": Distortion(_coded("av1"), 40, 63, is_whole=True),
    "blur": Distortion(_blurred, 0.3, 2.0),
    "denoise": Distortion(_denoised, 4, 64),
    "rescale": Distortion(_rescaled, 1.1, 4),
    "sharpen": Distortion(_sharpened, 0.3, 4),
}
"""Distortions by name: codecs by their rate factors; a Gaussian blur by its deviation in pixels; a guided filter (He et
al., IEEE TPAMI 2013, doi:10.1109/TPAMI.2012.213) by the deviation that it takes for noise; a factor of size; and the
factor of an unsharp mask."""
