"""Images in high resolution with the small ones that are made of them, in memory or in files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from basinet.algorithms.draws import key
from basinet.sim.data.items import Items
from basinet.sim.data.memory_map import cached
from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import ExperimentError, first_line
from basinet.sim.setup.memory import in_units, memory
from basinet.sim.tasks.vision.restoration.originals import Originals
from basinet.sim.tasks.vision.restoration.patches import Pictures
from basinet.sim.vision.distortions import gaussian_blur, noisy, through_jpeg
from basinet.sim.vision.fidelity import to_bytes
from basinet.sim.vision.resizing import crop_to, shrink

__all__ = ["Degradation", "made"]

Degradation = Literal["bicubic", "blur", "noise", "jpeg"]

_BLUR = 0.4
"""Standard deviation of the blur, in pixels of low resolution."""

_NOISE = 10.0
"""Standard deviation of the noise, in grey levels of 255."""

_QUALITY = 40
"""Quality of JPEG."""

_REVISION = 1
"""Of how images become small: one more after any change of their pixels, so that those that are kept are made anew."""

_SHARE_OF_MEMORY = 4
"""Without a cache, images may take one part in so many of the memory."""


def made(
    originals: Originals,
    name: str,
    scale: int,
    degradations: Sequence[Degradation],
    least: int,
    seed: int,
    cache: str | None,
) -> Pictures:
    """Decode images and make their versions in low resolution.

    Args:
        originals: The images.
        name: What they are, train or test.
        scale: By how much larger the high resolution is.
        degradations: How the versions are made; none if there are to be no versions.
        least: Least height and width in low resolution.
        seed: Seed of the noise.
        cache: Folder in which they are kept; None for memory.

    Returns:
        The images.

    Raises:
        ExperimentError: An image cannot be decoded, is too small, or has another size than in low resolution; or they
            do not fit into memory.
    """
    pairs = _Pairs(originals, scale, degradations, least, seed)
    if cache is not None:
        kept = cached(Items(source=pairs, name=name), Path(cache))
        for row in range(len(kept)):  # which may have been made for smaller patches
            pairs.check_size(row, [length // scale for length in kept.arrays(row)[0].shape[1:]])
        return kept
    found, room = [], memory() // _SHARE_OF_MEMORY
    for row in range(len(pairs)):
        found.append([part.numpy() for part in pairs[row]])
        room -= sum(part.nbytes for part in found[-1])
        if room < 0:
            raise ExperimentError(
                f"task.cache: {row + 1} of {len(pairs)} images of {name} take more than"
                f" {in_units(memory() // _SHARE_OF_MEMORY)} of memory; give a cache, a folder in which all are kept"
            )
    return _InMemory(found)


class _InMemory:
    """Images in memory."""

    def __init__(self, found: list[list[NDArray[np.uint8]]]) -> None:
        self.found = found

    def __len__(self) -> int:
        return len(self.found)

    def arrays(self, row: int) -> list[NDArray[np.uint8]]:
        return self.found[row]


class _Pairs:
    """Images with their versions in low resolution, made one by one."""

    def __init__(
        self, originals: Originals, scale: int, degradations: Sequence[Degradation], least: int, seed: int
    ) -> None:
        self.originals, self.scale, self.degradations = originals, scale, tuple(degradations)
        self.least, self.seed = least, seed

    @property
    def fingerprint(self) -> str:
        """What identifies the content."""
        from PIL import __version__ as pillow

        noise = self.seed if "noise" in self.degradations else None
        how = [_REVISION, _BLUR, _NOISE, _QUALITY, pillow]
        return digest([self.originals, self.scale, self.degradations, noise, how])

    def __len__(self) -> int:
        return len(self.originals.names)

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        """Return an image, and its versions."""
        try:
            high, given = self.originals.high(row), self.originals.low(row)
        except (ImportError, MemoryError):
            raise
        except Exception as error:  # a decoder may raise anything
            place, reason = self.originals.place(row), first_line(error)
            about = reason if place in reason else f"{place} cannot be used: {reason}"
            raise ExperimentError(f"task: {about}") from error
        height, width = (length // self.scale for length in high.shape[1:])
        self.check_size(row, (height, width))
        if given is not None and given.shape[1:] != (height, width):
            raise ExperimentError(
                f"task: {self.originals.place(row)} has {high.shape[1]} × {high.shape[2]} pixels, and"
                f" in low resolution {given.shape[1]} × {given.shape[2]}; allowed at scale {self.scale} are {height} ×"
                f" {width}"
            )
        high = crop_to(high, self.scale).contiguous()
        if not self.degradations:
            return (high,)
        low = shrink(high, self.scale) if given is None else given.contiguous()
        name = self.originals.names[row]
        return high, *(_degraded(kind, high, low, self.scale, (self.seed, name)) for kind in self.degradations)

    def check_size(self, row: int, shape: Sequence[int]) -> None:
        """Check that an image of a height and width in low resolution is large enough."""
        if min(shape) < self.least:
            height, width = (self.scale * length for length in shape)
            least = self.least * self.scale
            cut = f", cut to multiples of the scale {self.scale}," if self.scale > 1 else ""
            raise ExperimentError(
                f"task: {self.originals.place(row)}{cut} has {height} × {width} pixels; allowed are at least {least} ×"
                f" {least}"
            )


def _degraded(kind: Degradation, high: Tensor, low: Tensor, scale: int, keys: tuple[int, str]) -> Tensor:
    """Make a version of an image in low resolution."""
    if kind == "blur":
        return shrink(to_bytes(gaussian_blur(high[None].double() / 255, _BLUR * scale)[0]), scale)
    if kind == "noise":
        return noisy(low, _NOISE, np.random.default_rng(key(keys[0], "noise of an image", keys[1])))
    return through_jpeg(low, _QUALITY) if kind == "jpeg" else low
