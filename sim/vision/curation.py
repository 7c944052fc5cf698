"""Curation of images: which of them are worth to be trained on, by estimates of their content."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from basinet.sim.vision.colours import luma
from basinet.sim.vision.distortions import gaussian_blur

__all__ = ["Criterion", "Curation", "coverage", "curate", "estimate_in_words", "estimated", "objects"]

Criterion = Literal["resolution", "coverage", "objects"]

_CELL = 8
"""Height and width of the cells of which some are foreground."""

_FLAT = 6.0
"""Standard deviation of the luma, in grey levels, above which a cell is foreground."""

_SMALLEST = 0.01
"""Least share of an image that an object takes."""

_WANTED = 0.75
"""The quantile of the number of objects that is best: the middle of the upper half."""


def coverage(image: Tensor) -> float:
    """Estimate the share of an image that is foreground.

    Args:
        image: uint8 [3, H, W], of at least 8 × 8 pixels.

    Returns:
        The share of its cells of 8 × 8 pixels whose luma has a standard deviation above 6 grey levels. A texture is
        foreground by this; sky, walls and what is out of focus are not.
    """
    y = luma(image.double() / 255)
    cells = y.unfold(-2, _CELL, _CELL).unfold(-2, _CELL, _CELL).flatten(-2)
    return float((cells.std(-1, correction=0) > _FLAT).double().mean())


def objects(image: Tensor) -> int:
    """Count what stands out in an image.

    The luma is smoothed by a Gaussian of 1/32 of the shorter side, and divided in two by Otsu's threshold. What less of
    the border belongs to is the foreground, and each of its connected parts that takes 1 % of the image an object.

    Args:
        image: uint8 [3, H, W].

    Returns:
        The number of objects; 0 if the image is flat.

    References:
        N. Otsu: A threshold selection method from gray-level histograms, IEEE Transactions on Systems, Man, and
        Cybernetics 9, 1979, doi:10.1109/TSMC.1979.4310076.
    """
    from scipy.ndimage import label
    from skimage.filters import threshold_otsu

    y = luma(image.double() / 255)
    smooth = gaussian_blur(y[None, None], min(y.shape) / 32)[0, 0].round().numpy()
    if smooth.min() == smooth.max():
        return 0
    bright = smooth > threshold_otsu(smooth)
    border = np.concatenate([bright[0], bright[-1], bright[1:-1, 0], bright[1:-1, -1]])
    parts, _ = label(~bright if border.mean() > 0.5 else bright)
    return int((np.bincount(parts.flat)[1:] >= _SMALLEST * parts.size).sum())


@dataclass(frozen=True)
class Curation:
    """What was kept of candidates, and by which estimates.

    Attributes:
        estimates: Of each candidate, float64 [n], by the criterion; none if all are kept without any.
        is_kept: Whether each is kept, bool [n].
    """

    estimates: dict[Criterion, NDArray[np.float64]]
    is_kept: NDArray[np.bool_]

    def means(self) -> dict[Criterion, tuple[float, float]]:
        """Return the means over what is kept and over what is left out; the latter is NaN if nothing is."""
        return {
            name: (float(found[self.is_kept].mean()), float(found[~self.is_kept].mean()) if self.left_out else np.nan)
            for name, found in self.estimates.items()
        }

    @property
    def left_out(self) -> int:
        """Number of candidates that are left out."""
        return int((~self.is_kept).sum())


def estimated(image: Tensor, resolution: int, criteria: Sequence[Criterion]) -> list[float]:
    """Estimate what an image is worth.

    Args:
        image: An image or a crop of it, uint8 [3, H, W].
        resolution: Number of pixels of the image, or of the one that a crop is of.
        criteria: The criteria that count.

    Returns:
        An estimate by each criterion.
    """
    measures: dict[Criterion, Callable[[], float]] = {
        "resolution": lambda: resolution,
        "coverage": lambda: coverage(image),
        "objects": lambda: objects(image),
    }
    return [float(measures[name]()) for name in criteria]


def estimate_in_words(name: Criterion, value: float) -> str:
    """Round an estimate of an image, or a mean of several.

    Args:
        name: The criterion.
        value: The estimate.

    Returns:
        Such as "0.24 MP" of 240,000 pixels, "0.79" of a coverage, and "3" or "3.1" objects.
    """
    if name == "resolution":
        size = value / 1e6
        return f"{size:.2f} MP" if size >= 0.1 else f"{size:.2g} MP"
    return f"{value:.2f}" if name == "coverage" else f"{round(value, 1):g}"


def curate(estimates: Mapping[Criterion, NDArray[np.float64]], share: float) -> Curation:
    """Keep the best of some images.

    Each criterion ranks the images: by resolution and by coverage, larger is better; of objects, a number near the
    upper quartile of all images is best, since few say little and very many are clutter. The images with the best mean
    rank are kept; of equals, the first ones.

    Args:
        estimates: Those of each image, float64 [n], by the criteria that count.
        share: The share that is kept, at least one image.

    Returns:
        What is kept, with the estimates of all.
    """
    from scipy.stats import rankdata

    goods = [-abs(e - np.quantile(e, _WANTED)) if name == "objects" else e for name, e in estimates.items()]
    ranks = np.mean([rankdata(good) for good in goods], axis=0)
    best = np.argsort(-ranks, kind="stable")[: max(1, round(share * len(ranks)))]
    is_kept = np.zeros(len(ranks), dtype=np.bool_)
    is_kept[best] = True
    return Curation({**estimates}, is_kept)
