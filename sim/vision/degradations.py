"""Degradations of images, of a strength from 0 (none) to 1, and chains of them."""

import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.sim.vision.distortions import DISTORTIONS, noisy, through_jpeg
from basinet.sim.vision.fidelity import to_bytes

__all__ = ["DEGRADATIONS", "Composition", "degrade", "degraded", "order"]

Composition = Literal["one", "sequence", "skips", "random_order", "second_order"]

Degradation = Callable[[Tensor, float, np.random.Generator], Tensor]
"""Takes an image, uint8 [3, H, W], a strength above 0 and a generator; returns an image of the same form."""

_GREY = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
"""The shares of the colours in the luma of ITU-R BT.601."""


def degrade(image: Tensor, kind: str, strength: float, generator: np.random.Generator) -> Tensor:
    """Degrade an image.

    Args:
        image: uint8 [3, H, W].
        kind: A key of `DEGRADATIONS`.
        strength: From 0, which leaves the image as it is, to 1.
        generator: Where signs and noise are drawn from.

    Returns:
        uint8 of the same shape.
    """
    return DEGRADATIONS[kind](image, strength, generator) if strength > 0 else image


def order(kinds: Sequence[str], composition: Composition, generator: np.random.Generator) -> list[str]:
    """Choose what is done to an image, one after another.

    Args:
        kinds: The degradations of a chain.
        composition: "one" of them at random; all in their "sequence"; those that are left by "skips", each with
            probability ½; all in a "random_order"; or the sequence twice ("second_order").
        generator: Where choices are drawn from.

    Returns:
        Some of the degradations in an order.
    """
    if composition == "one":
        return [kinds[int(generator.integers(len(kinds)))]]
    if composition == "skips":
        skipped = generator.random(len(kinds)) < 0.5
        return [kind for kind, is_skipped in zip(kinds, skipped, strict=True) if not is_skipped]
    if composition == "random_order":
        return [kinds[place] for place in generator.permutation(len(kinds))]
    return [*kinds] * (2 if composition == "second_order" else 1)


def degraded(
    image: Tensor, kinds: Sequence[str], composition: Composition, strongest: float, generator: np.random.Generator
) -> Tensor:
    """Degrade an image by a chain, each time by a strength that is drawn anew.

    Args:
        image: uint8 [3, H, W].
        kinds: The degradations of the chain.
        composition: How they are composed; see `order`.
        strongest: Strengths are uniform between 0 and this.
        generator: Where everything is drawn from.

    Returns:
        uint8 of the same shape.
    """
    for kind in order(kinds, composition, generator):
        image = degrade(image, kind, strongest * generator.random(), generator)
    return image


def _distorted(name: str, none: float, strongest: float) -> Degradation:
    """Return a distortion of clips, whose setting is `none` at the strength 0 and `strongest` at 1."""
    apply = DISTORTIONS[name].apply
    return lambda image, strength, _: apply(image[None], none + strength * (strongest - none))[0]


def _noise(image: Tensor, strength: float, generator: np.random.Generator) -> Tensor:
    return noisy(image, 50 * strength, generator)


def _jpeg(image: Tensor, strength: float, _: np.random.Generator) -> Tensor:
    return through_jpeg(image, round(95 - 85 * strength))


def _colour(image: Tensor, strength: float, generator: np.random.Generator) -> Tensor:
    """Scale and shift the two channels of colour in YCbCr or Lab, up or down at random."""
    from skimage.color import lab2rgb, rgb2lab, rgb2ycbcr, ycbcr2rgb

    there, back, grey = [(rgb2ycbcr, ycbcr2rgb, 128.0), (rgb2lab, lab2rgb, 0.0)][generator.integers(2)]
    channels = there(image.permute(1, 2, 0).numpy())
    factor, shift = (_sign(generator, 2) * size * strength for size in (0.8, 30.0))
    channels[..., 1:] = grey + (1 + factor) * (channels[..., 1:] - grey) + shift
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Conversion from CIE-LAB")  # colours that do not exist are clipped, as meant
        pixels = torch.from_numpy(back(channels))
    return to_bytes(pixels).permute(2, 0, 1).contiguous()


def _jitter(image: Tensor, strength: float, generator: np.random.Generator) -> Tensor:
    """Change saturation, contrast and brightness by a factor each, up or down at random."""
    x = image / 255
    saturation, contrast, brightness = (1 + strength * _sign(generator, 3) * (0.8, 0.5, 0.4)).tolist()
    grey = (x * _GREY).sum(0, keepdim=True)
    x = grey + saturation * (x - grey)
    middle = grey.mean()
    return to_bytes(brightness * (middle + contrast * (x - middle)))


def _sign(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    return generator.choice([-1.0, 1.0], count)


DEGRADATIONS: dict[str, Degradation] = {
    "blur": _distorted("blur", 0, 3),
    "sharpening": _distorted("sharpen", 0, 4),
    "noise": _noise,
    "colour": _colour,
    "jitter": _jitter,
    "resizing": _distorted("rescale", 1, 4),
    "jpeg": _jpeg,
}
"""Degradations by name, those of QPT V2 and JPEG, with sizes of our own: a Gaussian blur of up to 3 pixels; an unsharp
mask of a factor up to 4; Gaussian noise of up to 50 grey levels; a transform of the two colours in YCbCr or Lab, by up
to ± 80 % and ± 30 units; jitter of saturation, contrast and brightness, by up to ± 80, 50 and 40 %; shrinking to as
little as a quarter, and back; JPEG from a quality of 95 to 10."""
