"""Degraded crops of images, cut into units of which some are masked."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.algorithms.draws import fold, key
from basinet.sim.data.nests import Nest
from basinet.sim.data.rows import Stored
from basinet.sim.models.vision.masked.hierarchical_encoder import UNIT, units_of
from basinet.sim.tasks.vision.restoration.patches import Pictures, drawn, turned
from basinet.sim.vision.degradations import Composition, degraded

__all__ = ["MaskedCrops", "Normalised", "Target", "unit_pixels", "unit_targets"]

Target = Literal["degraded", "clean"]
Normalised = bool | Literal["channels"]

_TINY = 1e-6
"""What is added to a variance of pixels, as in masked autoencoders."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskedCrops(Stored):
    """Crops, each in one version for each chain of degradations, of which a model sees some units.

    Which units are masked, and the degradations, are drawn by the key of the draw, by which the crop is also shifted
    and turned; those of measured samples by their index, so that they stay the same.

    Attributes:
        pictures: The images.
        side: Height and width of a crop.
        places: Image, version (0), top and left of each crop, and how far it may be shifted down and right, [n, 6].
        augment: Whether drawn crops are flipped and rotated.
        chains: The degradations of each version.
        composition: How the degradations of a chain are composed.
        strength: The largest strength.
        masked: Number of masked units.
        target: Which pixels are predicted.
        normalised: Whether those of each unit are normalised, or those of each channel of it.
        seed: Seed of what is drawn for measured samples.
        device: Where batches are placed.
        dtype: Their floating type; None for float32.
    """

    pictures: Pictures
    side: int
    places: NDArray[np.int64]
    augment: bool
    chains: tuple[tuple[str, ...], ...]
    composition: Composition
    strength: float
    masked: int
    target: Target
    normalised: Normalised
    seed: int
    device: torch.device | str = "cpu"
    dtype: torch.dtype | None = None

    def __len__(self) -> int:
        """Return the number of crops in all versions."""
        return len(self.places) * len(self.chains)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the same crops, to be read to a device and in a floating type; see `Stored`."""
        return replace(self, device=device, dtype=dtype)

    def clean(self, rows: Tensor, keys: Tensor | None = None) -> list[Tensor]:
        """Cut crops out.

        Args:
            rows: Their indices, int64 [B].
            keys: Keys of the shifts, flips and rotations, int64 [B]; None for none of them.

        Returns:
            Crops as they are, uint8 [3, side, side].
        """
        places, turns = drawn(self.places[rows.numpy() // len(self.chains)], keys, augment=self.augment)
        side, found = self.side, []
        for (picture, _, top, left, *_), turn in zip(places.tolist(), turns.tolist(), strict=True):
            image = self.pictures.arrays(picture)[0][:, top : top + side, left : left + side]
            found.append(torch.from_numpy(np.ascontiguousarray(turned(image, turn))))
        return found

    def fetch(self, rows: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cut crops out, degrade and mask them; see `Stored`.

        Args:
            rows: Their indices, int64 [B].
            keys: Keys of all draws, int64 [B].

        Returns:
            Units that are seen, uint8 [B, kept, 3, 16, 16]; their places, int64 [B, kept]; places of those that are
            masked, int64 [B, masked]; and what is to be predicted, uint8 [B, masked, 3, 16, 16].
        """
        own = fold(torch.full_like(rows, key(self.seed, "measured crops")), rows) if keys is None else fold(keys, 1)
        samples = []
        for row, seed, clean in zip(rows.tolist(), own.tolist(), self.clean(rows, keys), strict=True):
            generator = np.random.default_rng(seed & (2**63 - 1))
            chain = self.chains[row % len(self.chains)]
            order = torch.from_numpy(generator.permutation((self.side // UNIT) ** 2))
            seen = units_of(degraded(clean, chain, self.composition, self.strength, generator))
            wanted, places = order[: self.masked].sort().values, order[self.masked :].sort().values
            truth = seen if self.target == "degraded" else units_of(clean)
            samples.append((seen[places], places, wanted, truth[wanted]))
        units, places_, wanted_, targets = map(torch.stack, zip(*samples, strict=True))
        return units, places_, wanted_, targets

    def place(self, batch: Nest) -> Nest:
        """Move samples to the device, scale pixels to [0, 1], and make targets of them; see `Stored`."""
        units, places, wanted, targets = (part.to(self.device) for part in batch)
        units, targets = (part.to(self.dtype or torch.float32) / 255 for part in (units, targets))
        return units, places, wanted, unit_targets(targets, normalised=self.normalised)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def unit_targets(units: Tensor, *, normalised: Normalised) -> Tensor:
    """Turn units into what a model predicts of them.

    Args:
        units: Pixels from 0 to 1, [..., 3, 16, 16].
        normalised: Whether the pixels of each unit get the mean 0 and the variance 1, all channels together, or each of
            the "channels"; flat ones become 0.

    Returns:
        [..., 768].
    """
    if normalised:
        mean, deviation = _moments(units, normalised)
        units = (units - mean) / deviation
    return units.flatten(-3)


def unit_pixels(predicted: Tensor, units: Tensor, *, normalised: Normalised) -> Tensor:
    """Turn what a model predicts of units into pixels, the inverse of `unit_targets`.

    Args:
        predicted: What it predicts, [..., 768].
        units: The true pixels, whose mean and variance are taken, [..., 3, 16, 16].
        normalised: See `unit_targets`.

    Returns:
        [..., 3, 16, 16].
    """
    pixels = predicted.view_as(units)
    if not normalised:
        return pixels
    mean, deviation = _moments(units, normalised)
    return mean + deviation * pixels


def _moments(units: Tensor, normalised: Normalised) -> tuple[Tensor, Tensor]:
    """Return the mean of each unit or of each channel of it, and by what it is divided."""
    together = (-2, -1) if normalised == "channels" else (-3, -2, -1)
    variance, mean = torch.var_mean(units, together, correction=0, keepdim=True)
    return mean, (variance + _TINY).sqrt()
