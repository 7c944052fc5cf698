"""Images cut from photos, distorted or edited at known levels, with the scores that annotators might give."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from basinet.algorithms.draws import key
from basinet.sim.experiment.digest import digest
from basinet.sim.tasks.vision.quality.opinions import mean_opinion, quality_of
from basinet.sim.vision.degradations import degrade
from basinet.sim.vision.distortions import REVISION
from basinet.sim.vision.fidelity import to_bytes
from basinet.sim.vision.photo_regions import DISTINCT, photo_pixels, photo_regions

__all__ = ["EDITS", "DistortedPhotos", "Edit", "EditedPhotos", "MadeImages", "Version"]

Edit = Literal["tilt", "shift", "saturation", "exposure", "contrast"]

SOURCE = "source"
"""Kind of the image as it is."""

_REVISION = 1
"""Of how images are made; another one makes them anew."""

_SHARE = 0.6
"""Side of an edited window over the shorter side of its photo, so that it may be tilted and shifted within it."""

_GREY = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
"""The shares of the colours in the luma of ITU-R BT.601."""


@dataclass(frozen=True)
class Version:
    """A version of a content.

    Attributes:
        content: Place of the content.
        photo: The photo that it is cut from.
        place: Where in the photo it is.
        kind: What is done to it, or "source".
        level: How strongly, from 0 for the source.
    """

    content: int
    photo: str
    place: tuple[int, ...]
    kind: str
    level: int

    @property
    def name(self) -> str:
        """Name of the image, like that of a file."""
        suffix = "" if self.kind == SOURCE else f"_{self.level}"
        return f"{self.content:03}_{self.photo}_{self.kind}{suffix}.png"


class MadeImages(ABC):
    """Versions of contents: each as it is, and changed in each way at each level, one after another.

    All draws are the same in every run, and at all levels of one content and kind.

    Args:
        contents: Photo and place of each content.
        kinds: What is done to them.
        levels: Number of levels.
        size: Height and width of an image.

    Attributes:
        versions: What the images are.
        names: What they are called.
    """

    def __init__(self, contents: Sequence[tuple[str, *tuple[int, ...]]], kinds: Sequence[str], levels: int, size: int):
        self.kinds, self.levels, self.size = [*kinds], levels, size
        self.versions = [
            made
            for content, (photo, *place) in enumerate(contents)
            for made in (
                Version(content, photo, tuple(place), SOURCE, 0),
                *(
                    Version(content, photo, tuple(place), kind, level)
                    for kind in kinds
                    if self._changes(photo, kind)
                    for level in range(1, levels + 1)
                ),
            )
        ]
        self.names = [image.name for image in self.versions]

    def __len__(self) -> int:
        return len(self.versions)

    def __getitem__(self, row: int) -> Tensor:
        """Return an image as a video of one frame, uint8 [1, 3, size, size]."""
        image = self.versions[row]
        draw = key(0, "changes of an image", image.content, image.kind)
        return self._made(image, image.level / self.levels, np.random.default_rng(draw))[None]

    def _changes(self, photo: str, kind: str) -> bool:
        """Return whether a change can be seen in a photo."""
        return True

    @abstractmethod
    def _made(self, image: Version, strength: float, generator: np.random.Generator) -> Tensor:
        """Make an image, uint8 [3, size, size].

        Args:
            image: What it is.
            strength: From 0, which changes nothing, to 1.
            generator: Where signs and noise are drawn from.
        """

    @cached_property
    def fingerprint(self) -> str:
        """A digest of what the pixels depend on: the versions, the photos, and what changes them."""
        photos = [digest([photo_pixels(name)]) for name in dict.fromkeys(image.photo for image in self.versions)]
        made = [_REVISION, REVISION, type(self).__name__, self.levels, self.size]
        made += [version(package) for package in ("pillow", "scikit-image", "torch")]  # which make the pixels
        return digest([[vars(image) for image in self.versions], photos, made])

    def scores(self) -> Tensor:
        """Return the mean opinion score of each image, float32 [n]: see `quality_of` and `mean_opinion`."""
        levels = torch.tensor([image.level for image in self.versions], dtype=torch.float64)
        return mean_opinion(quality_of(levels / self.levels), key(0, "annotators of images")).float()


class DistortedPhotos(MadeImages):
    """Disjoint regions of photos at their native resolution, degraded; see `DEGRADATIONS`.

    Args:
        contents: Number of contents.
        kinds: Degradations by name.
        levels: Number of levels, of equal steps of the strength of each degradation.
        size: Height and width of an image.

    Raises:
        ValueError: The photos have fewer regions of this size.
    """

    def __init__(self, contents: int, kinds: Sequence[str], levels: int, size: int) -> None:
        regions = [*photo_regions(size, contents)]
        if len(regions) < contents:
            raise ValueError(
                f"contents is {contents}; allowed are at most {len(regions)}, the regions of {size} × {size} pixels of"
                " the photos that show something"
            )
        super().__init__(regions, kinds, levels, size)

    def _made(self, image: Version, strength: float, generator: np.random.Generator) -> Tensor:
        top, left = image.place
        region = photo_pixels(image.photo)[:, top : top + self.size, left : left + self.size].contiguous()
        return degrade(region, image.kind, strength, generator)


class EditedPhotos(MadeImages):
    """The middle of photos and its mirror image, shrunk, and worsened by edits of composition and colour; see `EDITS`.

    Photos without colours are not edited in saturation.

    Args:
        kinds: Edits by name.
        levels: Number of levels, of equal steps of the strength of each edit.
        size: Height and width of an image.
    """

    def __init__(self, kinds: Sequence[Edit], levels: int, size: int) -> None:
        super().__init__([(photo, mirrored) for mirrored in (0, 1) for photo in DISTINCT], kinds, levels, size)

    def _changes(self, photo: str, kind: str) -> bool:
        return kind != "saturation" or _has_colours(photo)

    def _made(self, image: Version, strength: float, generator: np.random.Generator) -> Tensor:
        photo, sign = _shrunk(image.photo, self.size), generator.choice([-1.0, 1.0], 2)
        if image.place[0]:
            photo = photo.flip(-1)
        if image.kind in _COLOURS:
            return to_bytes(_COLOURS[image.kind](_window(photo, self.size), strength, float(sign[0])))
        angle = math.radians(15) * strength * float(sign[0]) if image.kind == "tilt" else 0.0
        shift = sign * strength / 3 if image.kind == "shift" else np.zeros(2)
        return to_bytes(_window(photo, self.size, angle, shift))


def _has_colours(photo: str) -> bool:
    red, green, blue = photo_pixels(photo)
    return not (torch.equal(red, green) and torch.equal(green, blue))


@lru_cache(maxsize=2)
def _shrunk(name: str, size: int) -> Tensor:
    """Resize a photo so that its window has twice the height and width of an image: [3, H, W] from 0 to 1."""
    photo = photo_pixels(name) / 255
    factor = 2 * size / (_SHARE * min(photo.shape[1:]))
    shape = [round(factor * side) for side in photo.shape[1:]]
    resized = nn.functional.interpolate(photo[None], shape, mode="bicubic", antialias=True, align_corners=False)
    return resized[0].clamp(0, 1)


def _window(photo: Tensor, size: int, angle: float = 0.0, shift: Sequence[float] | np.ndarray = (0.0, 0.0)) -> Tensor:
    """Cut the window in the middle of a shrunk photo, tilted, and shifted by a part of its side: [3, size, size]."""
    height, width = photo.shape[1:]
    offsets = torch.arange(2 * size) + 0.5 - size
    down, along = offsets[:, None], offsets[None]
    cosine, sine = math.cos(angle), math.sin(angle)
    y = height / 2 + cosine * down + sine * along + 2 * size * float(shift[0])
    x = width / 2 + cosine * along - sine * down + 2 * size * float(shift[1])
    grid = torch.stack([2 * x / width - 1, 2 * y / height - 1], -1)[None]
    found = nn.functional.grid_sample(photo[None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return nn.functional.avg_pool2d(found, 2)[0]


def _saturation(x: Tensor, strength: float, sign: float) -> Tensor:
    grey = (x * _GREY).sum(0, keepdim=True)
    return grey + (1 + strength * (3 if sign > 0 else -1)) * (x - grey)


def _exposure(x: Tensor, strength: float, sign: float) -> Tensor:
    return (x**2.2 * 2 ** (2.5 * strength * sign)).clamp(0, 1) ** (1 / 2.2)


def _contrast(x: Tensor, strength: float, sign: float) -> Tensor:
    middle = x.mean()
    return middle + (1 + strength * (2 if sign > 0 else -0.8)) * (x - middle)


_COLOURS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "saturation": _saturation,
    "exposure": _exposure,
    "contrast": _contrast,
}

EDITS: tuple[Edit, ...] = ("tilt", "shift", "saturation", "exposure", "contrast")
"""Edits of composition (a tilt by up to 15°, a window that is shifted by up to a third of its side down and along) and
of colour (saturation from none to four times as much, exposure by up to 2.5 stops, contrast from a fifth to three times
as much), each in a direction that is drawn. Sizes are our own."""
