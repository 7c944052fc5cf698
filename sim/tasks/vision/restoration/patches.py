"""Images in low and high resolution: patches of them to train on, and whole ones to measure on."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.sim.data.nests import Nest, map_nest
from basinet.sim.data.rows import Stored

__all__ = ["Patches", "Pictures", "WholeImages", "turned"]

Bytes = NDArray[np.uint8]

_BITS = 20
"""Bits of a key that choose one of up to 2²⁰ shifts."""


class Pictures(Protocol):
    """Images in high resolution, [3, H, W], each with versions in low resolution, [3, H / scale, W / scale]."""

    def __len__(self) -> int:
        """Return the number of images."""

    def arrays(self, row: int) -> Sequence[Bytes]:
        """Return an image in high resolution, and then its versions in low resolution."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pairs(Stored):
    """Pairs (low, high) of uint8 pixels, which become numbers from 0 to 1 on the device.

    Attributes:
        pictures: The images.
        device: Where batches are placed.
        dtype: Their type; None for float32.
    """

    pictures: Pictures
    device: torch.device | str = "cpu"
    dtype: torch.dtype | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without what is derived from them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the same pairs, to be read to a device and in a floating type; see `Stored`."""
        return replace(self, device=device, dtype=dtype)

    def place(self, batch: Nest) -> Nest:
        """Move pixels to the device, and scale them to [0, 1]; see `Stored`."""
        return map_nest(lambda t: t.to(self.device).to(self.dtype or torch.float32).div_(255), batch)


@dataclass(frozen=True, kw_only=True, eq=False)
class Patches(_Pairs):
    """Square patches on a grid over images and their versions.

    Patches that agents draw are shifted at random within a step of the grid, and flipped and rotated, by the key of the
    draw; those that are measured are not.

    Attributes:
        scale: By how much larger the high resolution is.
        side: Height and width of a patch in low resolution.
        stride: Step of the grid.
        augment: Whether drawn patches are flipped and rotated.
        shapes: Height and width of each image in low resolution, [m, 2].
        versions: Number of versions of each image.
    """

    scale: int
    side: int
    stride: int
    augment: bool
    shapes: Sequence[tuple[int, int]]
    versions: int = 1

    @cached_property
    def grid(self) -> NDArray[np.int64]:
        """Image, version, top and left of each patch, and how far it may be shifted down and right, [n, 6]."""
        found = []
        for picture, shape in enumerate(self.shapes):
            for version in range(self.versions):
                # The shifts of all patches together cover all places.
                tops, lefts = ([*range(0, length - self.side + 1, self.stride)] for length in shape)
                for top in tops:
                    for left in lefts:
                        spans = (
                            min(self.stride, length - self.side + 1 - first)
                            for length, first in zip(shape, (top, left), strict=True)
                        )
                        found.append((picture, version, top, left, *spans))
        return np.array(found, dtype=np.int64).reshape(-1, 6)

    def __len__(self) -> int:
        """Return the number of patches."""
        return len(self.grid)

    def drawn(self, rows: Tensor, keys: Tensor | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw where patches are cut out, and how they are turned.

        Args:
            rows: Their indices, int64 [B].
            keys: Keys of the shifts, flips and rotations, int64 [B]; None for none of them.

        Returns:
            Places as in `grid`, int64 [B, 6], and what `turned` takes, int64 [B].
        """
        places = self.grid[rows.numpy()]
        turns = np.zeros(len(rows), dtype=np.int64)
        if keys is not None:  # its bits are those of a hash
            bits = keys.numpy()
            for axis in (0, 1):
                drawn = (bits >> (3 + _BITS * axis)) & ((1 << _BITS) - 1)
                places[:, 2 + axis] += drawn * places[:, 4 + axis] >> _BITS
            turns = bits & 7 if self.augment else turns
        return places, turns

    def fetch(self, rows: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cut patches out; see `Stored`.

        Args:
            rows: Their indices, int64 [B].
            keys: Keys of the shifts, flips and rotations, int64 [B].

        Returns:
            uint8, [B, 3, side, side] and [B, 3, scale · side, scale · side].
        """
        places, turns = self.drawn(rows, keys)
        low, high = (
            np.empty((len(rows), 3, side, side), dtype=np.uint8) for side in (self.side, self.scale * self.side)
        )
        for number, (picture, version, top, left, *_) in enumerate(places.tolist()):
            large, *small = self.pictures.arrays(picture)
            for out, image, scale in ((low, small[version], 1), (high, large, self.scale)):
                rows_, columns = (slice(scale * first, scale * (first + self.side)) for first in (top, left))
                out[number] = turned(image[:, rows_, columns], int(turns[number]))
        return torch.from_numpy(low), torch.from_numpy(high)


@dataclass(frozen=True, kw_only=True, eq=False)
class WholeImages(_Pairs):
    """Whole images in a single version, which may differ in shape."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.pictures)

    @cached_property
    def _shapes(self) -> set[tuple[int, ...]]:
        return {self.pictures.arrays(row)[0].shape for row in range(len(self))}

    @property
    def is_uniform(self) -> bool:
        """Whether all images have the same shape."""
        return len(self._shapes) == 1

    def fetch(self, rows: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read images of the same shape; see `Stored`.

        Args:
            rows: Their indices, int64 [B].
            keys: Not used, since whole images are not changed.

        Returns:
            uint8, [B, 3, height, width] and [B, 3, scale · height, scale · width].
        """
        found = [self.pictures.arrays(row) for row in rows.tolist()]
        low, high = (torch.from_numpy(np.stack([pair[part] for pair in found])) for part in (1, 0))
        return low, high


def turned(image: Bytes, turn: int) -> Bytes:
    """Turn a square image.

    Args:
        image: [C, H, H].
        turn: Which of the eight positions of a square it gets, from 0 (as it is) to 7.

    Returns:
        A view of it.
    """
    image = image[:, ::-1] if turn & 1 else image
    image = image[:, :, ::-1] if turn & 2 else image
    return image.swapaxes(1, 2) if turn & 4 else image
