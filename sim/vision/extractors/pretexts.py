"""Pretext tasks: what small networks learn from data that packages bring along, without scores of quality."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basinet.sim.vision.distortions import gaussian_blur
from basinet.sim.vision.photos import PHOTOS, motif, photo_file, read_photo, shipped_file

__all__ = ["CHANNELS", "PRETEXTS", "SIDE", "Pretext", "Samples"]

SIDE = 32
"""Height and width of the images that are learnt from."""

CHANNELS = (16, 32, 48, 64)
"""Of the layers of a network; each but the first halves height and width."""

_HELD = 4
"""Of so many samples, or parts of a photo, one is held out."""

_NOISE = 0.2
"""Deviation of the noise that is to be removed, of a range of 1."""

_BLUR = 2.5
"""Largest deviation of the blur that is to be told, in pixels, and the number of levels."""

_LEVELS = 11

_TRIES = 3
"""Parts of a photo of which the one with the most contrast is taken, since many show nothing."""

_ORDERS = torch.tensor([*permutations(range(4))])
"""In which the quarters of an image may be."""

_SHOWN = tuple({motif(name): name for name in PHOTOS}.values())
"""Photos of which no two show the same."""


class Samples(NamedTuple):
    """Samples of a pretext task.

    Attributes:
        images: float32 [n, 3, 32, 32], from 0 to 1.
        targets: What is to be told of each.
    """

    images: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Pretext:
    """A pretext task.

    Attributes:
        words: What is told of an image.
        samples: Makes at most so many samples, to be trained on or held out; takes a generator, their number, and
            whether they are held out.
        head: Makes what turns the last layer of a network, [n, 64, 4, 4], into an answer.
        loss: Compares answers with targets; a mean.
        score: Says how good answers to held-out samples are, 1 at best; takes the samples and the answers.
        measure: What the score is.
        chance: What the score is of one who has learnt nothing.
        files: Finds the files that the samples are made of.
    """

    words: str
    samples: Callable[[np.random.Generator, int, bool], Samples]
    head: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Samples, Tensor], float]
    measure: str
    chance: float
    files: Callable[[], list[Path]]

    def content(self) -> str:
        """Return a digest of the files."""
        return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in self.files())).hexdigest()


def _photo_files() -> list[Path]:
    return [photo_file(name) for name in _SHOWN]


def _digit_files() -> list[Path]:
    return [shipped_file("sklearn", "datasets/data/digits.csv.gz", "the set of digits")]


def _face_files() -> list[Path]:
    return [shipped_file("skimage", "data/lfw_subset.npy", "the set of faces")]


def _rotated_files() -> list[Path]:
    return [*_photo_files(), *_digit_files(), *_face_files()]


@cache
def _views(held: bool) -> list[tuple[Tensor, Tensor]]:
    """Return photos as they are and at half their size: the last quarter along the longer side, or the other three."""
    found = []
    for name in _SHOWN:
        pixels = read_photo(name)
        axis = 2 if pixels.shape[2] >= pixels.shape[1] else 1
        size = pixels.shape[axis]
        begin = size - size // _HELD
        part = pixels.narrow(axis, begin, size - begin) if held else pixels.narrow(axis, 0, begin)
        small = F.avg_pool2d(part.float(), 2).round().byte()
        found.append((part, small))
    return found


def _crops(random: np.random.Generator, count: int, held: bool) -> tuple[Tensor, Tensor]:
    """Cut images that show something out of photos, at random: [n, 3, 32, 32], and the place of the photo of each."""
    views, images = _views(held), torch.empty(count, 3, SIDE, SIDE)
    which = random.integers(len(views), size=count)
    for row, photo in enumerate(which):
        places = []
        for _ in range(_TRIES):
            view = views[photo][random.integers(2)]
            top, left = (random.integers(size - SIDE + 1) for size in view.shape[1:])
            places.append(view[:, top : top + SIDE, left : left + SIDE] / 255)
        images[row] = max(places, key=lambda place: float(place.std()))
    return images, torch.from_numpy(which)


def _photos(random: np.random.Generator, count: int, held: bool) -> Samples:
    return Samples(*_crops(random, count, held))


def _rotated(random: np.random.Generator, count: int, held: bool) -> Samples:
    """Turn faces, digits and parts of photos: as many of each, since few parts of photos say where they are up."""
    third = count // 3
    images, is_face = _faces(random, count, held)
    faces = images[is_face == 1]
    faces = faces[torch.from_numpy(random.integers(len(faces), size=third))]
    digits, _ = _digits(random, third, held)
    images, _ = _crops(random, third, held)
    images = torch.cat([faces, digits, images])
    turns = torch.from_numpy(random.integers(4, size=len(images)))
    turned = [image.rot90(int(turn), (1, 2)) for image, turn in zip(images, turns, strict=True)]
    return Samples(torch.stack(turned), turns)


def _shuffled(random: np.random.Generator, count: int, held: bool) -> Samples:
    images, _ = _crops(random, count, held)
    orders = torch.from_numpy(random.integers(len(_ORDERS), size=count))
    half = SIDE // 2
    quarters = images.unfold(2, half, half).unfold(3, half, half).flatten(2, 3)  # [n, 3, 4, half, half]
    mixed = torch.stack([image[:, _ORDERS[order]] for image, order in zip(quarters, orders, strict=True)])
    rows = [torch.cat([mixed[:, :, 2 * row], mixed[:, :, 2 * row + 1]], 3) for row in range(2)]
    return Samples(torch.cat(rows, 2), orders)


def _noisy(random: np.random.Generator, count: int, held: bool) -> Samples:
    images, _ = _crops(random, count, held)
    noise = torch.from_numpy(random.standard_normal(images.shape, dtype=np.float32))
    return Samples(images + _NOISE * noise, images)


def _blurred(random: np.random.Generator, count: int, held: bool) -> Samples:
    images, _ = _crops(random, count, held)
    levels = torch.from_numpy(random.integers(_LEVELS, size=count))
    for level in range(1, _LEVELS):
        if (levels == level).any():
            images[levels == level] = gaussian_blur(images[levels == level], _BLUR * level / (_LEVELS - 1))
    return Samples(images, (_BLUR * levels / (_LEVELS - 1)).float()[:, None])


def _digits(random: np.random.Generator, count: int, held: bool) -> Samples:
    table = _digit_table()
    images = _enlarged(table[:, :-1].view(-1, 1, 8, 8).float() / 16)
    return _some(random, count, held, images, table[:, -1].long())


@cache
def _digit_table() -> Tensor:
    """Read digits: 64 pixels from 0 to 16, and the class."""
    return torch.from_numpy(np.loadtxt(_digit_files()[0], delimiter=","))


def _faces(random: np.random.Generator, count: int, held: bool) -> Samples:
    """Return faces, of class 1, and other parts of photos, as they are and mirrored."""
    grey = torch.from_numpy(np.load(_face_files()[0])).float()[:, None]
    is_face = (torch.arange(len(grey)) < len(grey) // 2).long()
    images, classes = _some(random, len(grey), held, _enlarged(grey), is_face)
    return Samples(torch.cat([images, images.flip(3)])[:count], classes.repeat(2)[:count])


def _enlarged(grey: Tensor) -> Tensor:
    """Resize grey images to 32 × 32 pixels, in three equal channels."""
    images = F.interpolate(grey, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return images.expand(-1, 3, -1, -1).contiguous()


def _some(random: np.random.Generator, count: int, held: bool, images: Tensor, targets: Tensor) -> Samples:
    """Choose among samples: every fourth is held out."""
    rows = np.flatnonzero((np.arange(len(images)) % _HELD == _HELD - 1) == held)
    chosen = torch.from_numpy(random.permutation(rows)[:count])
    return Samples(images[chosen], targets[chosen])


def _accuracy(samples: Samples, answers: Tensor) -> float:
    return float((answers.argmax(1) == samples.targets).float().mean())


def _explained(samples: Samples, answers: Tensor) -> float:
    errors = (answers - samples.targets).square().mean()
    return float(1 - errors / samples.targets.var(correction=0))


def _removed(samples: Samples, answers: Tensor) -> float:
    errors = (answers - samples.targets).square().mean()
    return float(1 - errors / (samples.images - samples.targets).square().mean())


def _overall(outputs: int) -> Callable[[], nn.Module]:
    """Return a head that sees the mean over space."""
    return lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS[-1], outputs, dtype=torch.float32)
    )


def _by_place(outputs: int) -> Callable[[], nn.Module]:
    """Return a head that knows where things are."""
    inputs = CHANNELS[-1] * (SIDE // 8) ** 2
    return lambda: nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs, dtype=torch.float32))


def _decoder() -> nn.Module:
    """Return a head that makes an image."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(CHANNELS[:1:-1], CHANNELS[-2:0:-1], strict=True):
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1, dtype=torch.float32),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
        ]
    return nn.Sequential(*layers, nn.Conv2d(CHANNELS[1], 12, 3, padding=1, dtype=torch.float32), nn.PixelShuffle(2))


def _classes(
    words: str,
    samples: Callable[[np.random.Generator, int, bool], Samples],
    count: int,
    files: Callable[[], list[Path]] = _photo_files,
    head: Callable[[int], Callable[[], nn.Module]] = _overall,
) -> Pretext:
    return Pretext(words, samples, head(count), F.cross_entropy, _accuracy, "accuracy", 1 / count, files)


_R2 = "share of the variance that is explained"
_CLEAN = "share of the squared error that is removed"

PRETEXTS = {
    "digits": _classes("which of ten digits it shows", _digits, 10, _digit_files),
    "rotation": _classes("by how many quarters it is turned", _rotated, 4, _rotated_files, _by_place),
    "photos": _classes("which photo it is a part of", _photos, len(_SHOWN)),
    "denoising": Pretext("what it is without noise", _noisy, _decoder, F.mse_loss, _removed, _CLEAN, 0.0, _photo_files),
    "jigsaw": _classes("in which order its quarters are", _shuffled, len(_ORDERS), head=_by_place),
    "faces": _classes("whether it shows a face", _faces, 2, _face_files),
    "blur": Pretext("how blurred it is", _blurred, _overall(1), F.mse_loss, _explained, _R2, 0.0, _photo_files),
}
"""Pretext tasks by name. `blur` is one of quality: a ranking that prefers it to the others is right."""
