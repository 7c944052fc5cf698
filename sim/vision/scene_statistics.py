"""Statistics of natural scenes, which distortions change, and of the motion between frames."""

from fractions import Fraction
from functools import cache

import torch
from torch import Tensor

from basinet.sim.vision.resizing import gaussian_mean, resize

__all__ = [
    "MOTION_STATISTICS",
    "SCENE_STATISTICS",
    "fit_asymmetric",
    "fit_symmetric",
    "motion_statistics",
    "normalised_luminance",
    "scene_statistics",
]

SCENE_STATISTICS = 36
"""Numbers that `scene_statistics` returns of an image."""

MOTION_STATISTICS = 6
"""Numbers that `motion_statistics` returns of two frames."""

_RADIUS, _WIDTH = 3, 7 / 6
"""Of the Gaussian window, and its standard deviation."""

_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Row and column of the neighbours: to the right, below, and on the two diagonals."""

_TINY = 1e-12


def scene_statistics(luma: Tensor) -> Tensor:
    """Compute 36 statistics of images: the features of BRISQUE.

    At each of two scales, the second of half the size: shape and variance of a generalised Gaussian that is fitted to
    the normalised luminance, and for each of four neighbours shape, mean, and left and right variance of an asymmetric
    one that is fitted to the products of the normalised luminance of adjacent pixels.

    Args:
        luma: Images [..., H, W], from 0 to 255, of at least 4 × 4 pixels.

    Returns:
        float64 [..., 36].

    References:
        A. Mittal, A. K. Moorthy, A. C. Bovik: No-reference image quality assessment in the spatial domain, IEEE
        Transactions on Image Processing 21, 2012, doi:10.1109/TIP.2012.2214050.
    """
    luma, found = luma.double(), []
    for scale in (luma, resize(luma, Fraction(1, 2))):
        normal = normalised_luminance(scale)
        found += [*fit_symmetric(normal.flatten(-2))]
        for down, right in _NEIGHBOURS:
            found += [*fit_asymmetric(_products(normal, down, right).flatten(-2))]
    return torch.stack(found, -1)


def normalised_luminance(luma: Tensor) -> Tensor:
    r"""Compute $(I − μ) / (σ + 1)$ with the mean μ and deviation σ in a Gaussian window of 7 × 7 pixels.

    Args:
        luma: Images [..., H, W], from 0 to 255; their borders are repeated.

    Returns:
        The same shape.
    """
    mean = _window_mean(luma)
    deviation = (_window_mean(luma.square()) - mean.square()).clamp(min=0).sqrt()
    return (luma - mean) / (deviation + 1)


def fit_symmetric(x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Fit a generalised Gaussian $\propto \exp(−|x / β|^α)$ of mean 0 by its moments.

    α solves $Γ(2/α)^2 / (Γ(1/α) Γ(3/α)) = (E|x|)^2 / E x^2$.

    Args:
        x: Samples [..., n].

    Returns:
        The shape α, from 0.2 to 10, and the variance; float64 [...].
    """
    x = x.double()
    variance = x.square().mean(-1)
    return _shape(x.abs().mean(-1).square() / variance.clamp(min=_TINY)), variance


def fit_asymmetric(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Fit an asymmetric generalised Gaussian, of another width on each side of 0, by its moments.

    Args:
        x: Samples [..., n].

    Returns:
        The shape α, from 0.2 to 10; the mean $(β_r − β_l) Γ(2/α) / Γ(1/α)$; and the second moments of each side,
        $σ_l^2$ of the samples below 0 and $σ_r^2$ of those above; float64 [...].

    References:
        N.-E. Lasmar, Y. Stitou, Y. Berthoumieu: Multiscale skewed heavy tailed model for texture analysis, ICIP 2009,
        doi:10.1109/ICIP.2009.5414404.
    """
    x = x.double()
    squares, below, above = x.square(), x < 0, x > 0
    left = (squares * below).sum(-1) / below.sum(-1).clamp(min=1)
    right = (squares * above).sum(-1) / above.sum(-1).clamp(min=1)
    ratio = (left / right.clamp(min=_TINY)).sqrt()
    moments = x.abs().mean(-1).square() / squares.mean(-1).clamp(min=_TINY)
    shape = _shape(moments * (ratio**3 + 1) * (ratio + 1) / (ratio.square() + 1).square())
    one, two, three = (torch.lgamma(k / shape) for k in (1, 2, 3))
    mean = (right.sqrt() - left.sqrt()) * (two - (one + three) / 2).exp()
    return shape, mean, left, right


def motion_statistics(luma: Tensor) -> Tensor:
    """Compute 6 statistics of the difference of each frame from the one before.

    Mean of its absolute value; its deviation; shape of the generalised Gaussian that is fitted to it; share of pixels
    that do not change by half a level; how much rougher the second frame is; and the mean step of the difference across
    every eighth row and column, where codecs have the borders of their blocks, over that across the others.

    Args:
        luma: Frames [..., T, H, W], from 0 to 255, larger than 8 × 8 pixels.

    Returns:
        float64 [..., T − 1, 6].
    """
    luma = luma.double()
    change = luma.diff(dim=-3)
    shape, variance = fit_symmetric(change.flatten(-2))
    still = (change.abs() < 0.5).double().mean((-2, -1))
    steps = [change.diff(dim=axis).abs() for axis in (-2, -1)]
    edges = steps[0][..., 7::8, :].mean((-2, -1)) + steps[1][..., 7::8].mean((-2, -1))
    everywhere = sum(step.mean((-2, -1)) for step in steps)
    rough = _roughness(luma).diff(dim=-1)
    size = change.abs().mean((-2, -1))
    return torch.stack([size, variance.sqrt(), shape, still, rough, (edges + 1) / (everywhere + 1)], -1)


def _roughness(luma: Tensor) -> Tensor:
    """Return the mean step between adjacent pixels, [...]."""
    down, right = (luma.diff(dim=axis).abs().mean((-2, -1)) for axis in (-2, -1))
    return down + right


def _window_mean(x: Tensor) -> Tensor:
    """Average images in the Gaussian window about each pixel."""
    flat = x.reshape(-1, 1, *x.shape[-2:])
    flat = gaussian_mean(torch.nn.functional.pad(flat, (_RADIUS,) * 4, mode="replicate"), _RADIUS, _WIDTH)
    return flat.view(x.shape)


def _products(x: Tensor, down: int, right: int) -> Tensor:
    """Multiply each pixel with a neighbour."""
    height, width = x.shape[-2:]
    first, last = max(0, -right), width - max(0, right)
    return x[..., : height - down, first:last] * x[..., down:, first + right : last + right]


@cache
def _table() -> tuple[Tensor, Tensor]:
    """Tabulate Γ(2/α)² / (Γ(1/α) Γ(3/α)), which increases with α."""
    shapes = torch.arange(200, 10_001, dtype=torch.float64) / 1000
    one, two, three = (torch.lgamma(k / shapes) for k in (1, 2, 3))
    return shapes, (2 * two - one - three).exp()


def _shape(moments: Tensor) -> Tensor:
    """Return the α whose ratio of moments is given, by linear interpolation in a table."""
    shapes, ratios = (part.to(moments.device) for part in _table())
    moments = moments.clamp(ratios[0], ratios[-1])
    above = torch.searchsorted(ratios, moments).clamp(1, len(ratios) - 1)
    low, high = ratios[above - 1], ratios[above]
    return shapes[above - 1] + (moments - low) / (high - low) * (shapes[above] - shapes[above - 1])
