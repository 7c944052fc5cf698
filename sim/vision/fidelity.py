"""How close a restored image is to the true one, as the challenges of super-resolution measure it."""

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from basinet.sim.vision.colours import luma
from basinet.sim.vision.resizing import crop_to, gaussian_mean

__all__ = ["SCORES", "fidelity", "psnr", "ssim", "to_bytes"]

_PEAK = 255.0
_RADIUS, _SIGMA = 5, 1.5

_SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = dict(
    psnr_y=lambda a, b: psnr(luma(a / _PEAK), luma(b / _PEAK)),
    ssim_y=lambda a, b: ssim(luma(a / _PEAK), luma(b / _PEAK)),
    psnr_rgb=lambda a, b: psnr(a.flatten(-3, -2), b.flatten(-3, -2)),
    # Channel by channel, which takes a third of the time, since the working set is smaller.
    ssim_rgb=lambda a, b: torch.stack([ssim(*pair) for pair in zip(a.unbind(-3), b.unbind(-3), strict=True)]).mean(0),
)

SCORES = (*_SCORES,)
"""The scores of a restored image."""


def to_bytes(x: Tensor) -> Tensor:
    """Round pixels to 8 bits.

    Args:
        x: Floating-point pixels; what is outside 0 … 1 is clipped.

    Returns:
        uint8 of the same shape, from 0 to 255.
    """
    return (x.clamp(0, 1) * _PEAK).round().byte()


def psnr(a: Tensor, b: Tensor) -> Tensor:
    r"""Compute the peak signal-to-noise ratio $20 \log_{10}(255 / \sqrt{\text{MSE}})$.

    Args:
        a: Images [..., height, width], from 0 to 255.
        b: Images of the same shape.

    Returns:
        float64 [...], in dB; infinite for equal images.
    """
    squares = (a.double() - b.double()) ** 2
    return 10 * torch.log10(_PEAK**2 / squares.mean((-2, -1)))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    r"""Compute the mean structural similarity, $K_1 = 0.01$ and $K_2 = 0.03$.

    Local means, variances and covariances are weighted by a Gaussian of σ = 1.5 in windows of 11 × 11 pixels, and only
    windows inside the image count.

    Args:
        a: Images [..., height, width], from 0 to 255, at least 11 × 11.
        b: Images of the same shape.

    Returns:
        float64 [...], 1 for equal images.

    Raises:
        ValueError: The images are smaller than a window.

    Source:
        Wang et al., Image quality assessment: from error visibility to structural similarity,
        doi:10.1109/TIP.2003.819861.
    """
    if min(a.shape[-2:]) <= 2 * _RADIUS:
        raise ValueError(f"an image of {a.shape[-2]} × {a.shape[-1]} pixels is smaller than a window of SSIM, 11 × 11")
    a, b = a.double(), b.double()
    mean_a, mean_b = (gaussian_mean(image, _RADIUS, _SIGMA) for image in (a, b))
    variances = gaussian_mean(a * a + b * b, _RADIUS, _SIGMA) - mean_a**2 - mean_b**2
    covariance = gaussian_mean(a * b, _RADIUS, _SIGMA) - mean_a * mean_b
    c1, c2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
    likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return (likeness / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))).mean((-2, -1))


def fidelity(restored: Tensor, truth: Tensor, factor: int, scores: Collection[str] = SCORES) -> dict[str, Tensor]:
    """Score restored images as the NTIRE challenge of super-resolution does.

    Images are cut to multiples of the factor, and `factor` pixels of each border do not count.

    Args:
        restored: Images [..., 3, height, width], uint8, or floating-point ones that are rounded to 8 bits.
        truth: Images of either kind; they may be larger, by less than the factor.
        factor: By how much the images were enlarged.
        scores: Which scores to compute; `ssim_rgb` takes longer than the others together.

    Returns:
        float64 [...]: `psnr_y` and `ssim_y` of the luma, `psnr_rgb` of the three colours together, and `ssim_rgb`, the
        mean over them; NaN for a restored image of which not all pixels are finite.

    Raises:
        ValueError: The sizes differ, or nothing is left of the images.
    """
    is_finite = restored.isfinite().flatten(-3).all(-1)
    restored, truth = (to_bytes(x) if x.is_floating_point() else x for x in (restored, truth))
    restored, truth = crop_to(restored, factor), crop_to(truth, factor)
    if restored.shape != truth.shape:
        sizes = (f"{image.shape[-2]} × {image.shape[-1]}" for image in (restored, truth))
        raise ValueError("the restored image has {} pixels, and the true one {}".format(*sizes))
    a, b = (image[..., factor:-factor, factor:-factor].double() for image in (restored, truth))
    if not a.numel():
        raise ValueError(f"without {factor} pixels at each border, nothing is left of the image")
    return {name: _SCORES[name](a, b).where(is_finite, torch.nan) for name in scores}
