"""Disjoint regions of photos that show something."""

from collections.abc import Iterator
from functools import lru_cache

import torch

from basinet.algorithms.draws import key, permutation
from basinet.sim.vision.colours import luma
from basinet.sim.vision.photos import PHOTOS, motif, read_photo

__all__ = ["DISTINCT", "photo_pixels", "photo_regions"]

_LEAST_DEVIATION = 12.0
"""Smallest deviation of the luma in a region that shows something."""

DISTINCT = tuple({motif(name): name for name in reversed(PHOTOS)}.values())[::-1]
"""The first photo of each motif."""

photo_pixels = lru_cache(maxsize=len(PHOTOS))(read_photo)
"""`read_photo`, which keeps what it has read."""


def photo_regions(side: int, most: int) -> Iterator[tuple[str, int, int]]:
    """Choose disjoint regions that show something, in turns from each photo.

    Args:
        side: Height and width of a region.
        most: Number of regions; there may be fewer.

    Yields:
        The name of a photo, and the row and column of the region's corner.
    """
    cells = {name: _cells(name, side) for name in DISTINCT}
    found = 0
    while cells and found < most:
        for name in [*cells]:
            if found == most:
                return
            if (corner := next(cells[name], None)) is None:
                del cells[name]
            else:
                found += 1
                yield name, *corner


def _cells(photo: str, side: int) -> Iterator[tuple[int, int]]:
    """List the corners of disjoint regions of a photo that show something, in a random order."""
    pixels = photo_pixels(photo)
    rows, columns = (size // side for size in pixels.shape[1:])
    count = rows * columns
    if not count:
        return
    for cell in permutation(torch.tensor([key(0, "regions", photo)]), torch.tensor([count]), count)[0].tolist():
        top, left = cell // columns * side, cell % columns * side
        if luma(pixels[:, top : top + side, left : left + side].double() / 255).std() >= _LEAST_DEVIATION:
            yield top, left
