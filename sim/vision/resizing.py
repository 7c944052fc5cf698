"""Sizes of images: the bicubic kernel of MATLAB's imresize, by which super-resolution makes its small images."""

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import cache

import torch
from torch import Tensor

__all__ = ["crop_to", "enlarge", "gaussian_mean", "resize", "shrink", "weighted_sum"]


def resize(x: Tensor, factor: Fraction | int) -> Tensor:
    r"""Resize images by cubic convolution, without rounding.

    Output pixel $i$ lies at $u_i = (i + ½) / f - ½$ and is $\sum_j w_{ij} x_j$ with
    $w_{ij} \propto k(s (u_i - j))$, $\sum_j w_{ij} = 1$ and $s = \min(f, 1)$: the kernel is stretched to smooth what is
    shrunk. $k$ is Keys's kernel with $a = -½$. Beyond the border, the image is mirrored, its last pixel included.

    The weights depend on the phase of $i$ alone, so that an output pixel is the same sum of few products wherever it
    is, whatever else is in the batch: tiles, batches and single images agree bit for bit.

    Args:
        x: Floating-point images [..., height, width], on any device.
        factor: By how much height and width grow; `Fraction(1, 4)` shrinks.

    Returns:
        The images, [..., ⌈factor · height⌉, ⌈factor · width⌉], first resized in height and then in width.

    Raises:
        ValueError: The factor is not positive, or the pixels are integers.

    Source:
        Keys, Cubic convolution interpolation for digital image processing, doi:10.1109/TASSP.1981.1163711.

    Example:
        >>> resize(torch.tensor([[0.0, 0, 16, 0, 0]]), 2)[0].tolist()
        [0.0, -0.375, -1.125, 3.625, 13.875, 13.875, 3.625, -1.125, -0.375, 0.0]
    """
    if factor <= 0:
        raise ValueError(f"factor: got {factor}; allowed are positive numbers")
    if not x.is_floating_point():
        raise ValueError(f"x: the pixels are {x.dtype}; allowed are floating-point numbers")
    for axis in (-2, -1):
        x = _along(x, Fraction(factor), axis)
    return x


def shrink(image: Tensor, factor: int) -> Tensor:
    """Shrink an image as the training data of super-resolution are made.

    Args:
        image: uint8 [channels, height, width].
        factor: By how much height and width shrink.

    Returns:
        uint8, rounded half up, of the size of `resize`.
    """
    return _resized_bytes(image, Fraction(1, factor))


def enlarge(image: Tensor, factor: int) -> Tensor:
    """Enlarge an image by bicubic interpolation.

    Args:
        image: uint8 [channels, height, width].
        factor: By how much height and width grow.

    Returns:
        uint8, rounded half up.
    """
    return _resized_bytes(image, Fraction(factor))


def crop_to(image: Tensor, factor: int) -> Tensor:
    """Cut off the last rows and columns, so that height and width are multiples of a factor.

    Args:
        image: [..., height, width].
        factor: The factor.

    Returns:
        A view of the rest.
    """
    height, width = image.shape[-2:]
    return image[..., : height - height % factor, : width - width % factor]


def mirrored(x: Tensor, axis: int, begin: int, end: int) -> Tensor:
    """Continue data by their mirror images, which begin with the last element.

    Args:
        x: The data.
        axis: The axis along which they are continued.
        begin: The first place that is returned; 0 is the first element.
        end: The place after the last one.

    Returns:
        The data, `end - begin` along the axis.
    """
    size = x.shape[axis]
    places = torch.arange(begin, end, device=x.device) % (2 * size)
    return x.index_select(axis, places.minimum(2 * size - 1 - places))


def weighted_sum(x: Tensor, axis: int, weights: Mapping[int, float], count: int, stride: int = 1) -> Tensor:
    """Correlate along an axis with few weights, in the precision of the data even where convolutions have less.

    Args:
        x: The data.
        axis: The axis.
        weights: The weights by their position, from 0, in the order in which they are summed.
        count: Number of outputs.
        stride: Distance of the positions between two outputs.

    Returns:
        The sums, `count` along the axis.
    """
    x = x.movedim(axis, -1)
    span = (count - 1) * stride + 1
    (first, weight), *others = weights.items()
    total = x[..., first : first + span : stride] * weight
    for place, weight in others:
        total = torch.add(total, x[..., place : place + span : stride], alpha=weight)
    return total.movedim(-1, axis)


def gaussian_mean(x: Tensor, radius: int, deviation: float) -> Tensor:
    """Average images in a Gaussian window about each pixel whose window lies within them.

    Args:
        x: Images [..., H, W].
        radius: Pixels of the window to each side of its middle.
        deviation: Standard deviation of the Gaussian in pixels.

    Returns:
        [..., H − 2 radius, W − 2 radius].
    """
    places = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = dict(enumerate(torch.softmax(-(places**2) / (2 * deviation**2), 0).tolist()))
    for axis in (-2, -1):
        x = weighted_sum(x, axis, weights, x.shape[axis] - 2 * radius)
    return x


def _along(x: Tensor, factor: Fraction, axis: int) -> Tensor:
    """Resize along an axis."""
    size = x.shape[axis]
    phases = _phases(factor)
    first, last = min(map(min, phases)), max(map(max, phases))
    steps = math.ceil(size * factor / len(phases))
    stride = factor.denominator
    padded = mirrored(x, axis, first, last + (steps - 1) * stride + 1)
    sums = [weighted_sum(padded, axis, {j - first: w for j, w in phase.items()}, steps, stride) for phase in phases]
    # Output m · phases + p is number m of phase p.
    resized = torch.stack([phase.movedim(axis, -1) for phase in sums], -1).flatten(-2).movedim(-1, axis)
    return resized.narrow(axis, 0, math.ceil(size * factor))


@cache
def _phases(factor: Fraction) -> list[dict[int, float]]:
    """Return the weights of the first outputs by their inputs; those of later ones repeat, shifted."""
    scale = min(factor, Fraction(1))
    phases = []
    for output in range(factor.numerator):
        centre = (output + Fraction(1, 2)) / factor - Fraction(1, 2)
        near = range(math.ceil(centre - 2 / scale), math.floor(centre + 2 / scale) + 1)
        kernel = {place: value for place in near if (value := _cubic(scale * abs(centre - place)))}
        phases.append({place: float(value / sum(kernel.values())) for place, value in kernel.items()})
    return phases


def _cubic(x: Fraction) -> Fraction:
    """Return Keys's kernel at a distance of at most 2."""
    if x <= 1:
        return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
    return -Fraction(1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2


def _resized_bytes(image: Tensor, factor: Fraction) -> Tensor:
    """Resize a uint8 image, channel by channel to need little memory."""
    # For factors 2, 4 and 8, float64 is exact, so that ties are rounded alike everywhere.
    channels = [(resize(channel.double(), factor) + 0.5).floor_().clamp_(0, 255).byte() for channel in image]
    return torch.stack(channels)
