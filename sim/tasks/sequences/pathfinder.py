"""Images of dashed paths, two of whose ends have dots: do the dots belong to the same path?"""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from basinet.algorithms.draws import fold, integers, key, permutation, uniform
from basinet.sim.experiment.mistakes import reason_of
from basinet.sim.setup.memory import require_memory
from basinet.sim.tasks.left_out import GENERATED, READ, check_left_out
from basinet.sim.tasks.loaders.images import Decoder
from basinet.sim.tasks.sequences.arena_files import label_of
from basinet.sim.tasks.supervised import supervised
from basinet.sim.tasks.task import TASKS, Task

__all__ = ["pathfinder"]

_log = logging.getLogger(__name__)

_STEP = 0.9
"""Pixels between the points of a path; below 1, so that they fall on the same or on neighbouring pixels."""

_TURN, _BEND = 0.3, 0.15
"""Largest change of direction between two points, in radians, that is drawn for each and once for all."""

_CLEARANCE = 3
"""Pixels around a path, and around what is not near on the same path, that stay free: two dots do not touch."""

_NEAR = 8
"""Points of a path that are no further apart are near."""

_ALIKE = 1.0
"""Largest difference in pixels of the dots' distance between the classes, so that the distance says little."""

_TRIES, _ROUNDS = 8, 4
"""How many paths are drawn at a time, and how often, until one fits in; if none does, the image is begun again."""

_RESTARTS, _VAIN = 400, 5_000
"""How often images are begun again, and how many are without one that is completed."""

_CHUNK = 2048
"""Images that are drawn at a time."""

_NOWHERE = -1000
"""Coordinates of the points of a path that an image lacks."""

_SQUARE = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))
"""Pixels of a dot around its centre."""

_SHARES = {"train": (0.0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0)}
"""Parts of the Long Range Arena's images, which are in random order."""


@TASKS.register()
def pathfinder(
    *,
    path: str | None = None,
    test_split: Literal["test", "val"] = "test",
    lazy: bool | Literal["auto"] = "auto",
    size: Annotated[int, Field(ge=8, le=256)] | None = None,
    length: Annotated[int, Field(ge=6, le=256)] = 24,
    dash: Annotated[int, Field(ge=1)] = 3,
    gap: Annotated[int, Field(ge=0)] = 2,
    distractors: Annotated[int, Field(ge=0, le=100)] = 3,
    train_size: Annotated[int, Field(ge=2)] | None = None,
    test_size: Annotated[int, Field(ge=2)] | None = None,
    seed: int = 0,
) -> Task:
    """Draw two dots at the ends of one path (class 1) or of two (class 0), or read the Long Range Arena's images.

    Inputs are pixels, row by row, [n, size², 1], from 0 (background) to 1. An image has two smooth dashed paths of the
    same length and up to `distractors` shorter ones, which do not touch each other. Two of the ends of both paths are
    as far apart as those of one, to a pixel, and have the dots in class 0. There are as many images of each class, up
    to one. They may be partitioned by the column `distractors`, their number.

    Args:
        path: Folder of the Long Range Arena, such as pathfinder32/curv_contour_length_14, with `metadata` and `imgs`,
            which is read instead. Its images are put in a fixed random order: 80 % are training data, the next 10 % for
            validation, the last for tests. The column `folder` is the one an image is in.
        test_split: Which of its images are the test data, "test" or "val".
        lazy: Whether its images are read when they are needed; "auto" if they do not fit well into memory.
        size: Height and width, by default 32, or to which the images of a path are resized, by default not at all.
        length: Points of a path, 0.9 pixels apart; a distractor has a third of them.
        dash: Points of a dash. Dashes are counted from both ends of a path, so that all ends look alike; what meets in
            the middle may have another length.
        gap: Points between dashes; paths are unbroken for 0.
        distractors: Largest number of shorter paths; there are fewer where they do not fit in.
        train_size: Training images: by default 8,000, or all of a path.
        test_size: Test images: by default 2,000, or all of a path.
        seed: Seed of the images; the simulator supplies it.

    Returns:
        A task of two classes.

    Raises:
        ValueError: If the paths do not fit in, or the images of a path cannot be read.

    References:
        D. Linsley et al.: Learning long-range spatial dependencies with horizontal gated recurrent units, NeurIPS 2018,
        arXiv:1805.08315.
        Y. Tay et al.: Long range arena, ICLR 2021, arXiv:2011.04006.

    Example:
        >>> task = pathfinder(size=16, length=10, train_size=4, test_size=2)
        >>> task.input_shape, sorted(task.train[1].tolist())
        ((256, 1), [0, 0, 1, 1])
    """
    if path is not None:
        check_left_out(pathfinder, GENERATED, length=length, dash=dash, gap=gap, distractors=distractors)
        known = list(_listed(Path(path)))
        images = [
            _Images(_part(known, where)[:count], size)
            for where, count in (("train", train_size), (test_split, test_size))
        ]
        columns = {"folder": np.array([str(file.parent.relative_to(path)) for file in images[0].files])}
        task = supervised(*images, num_outputs=2, classification=True, columns=columns, lazy=lazy)
        return replace(task, model="transformer")
    check_left_out(pathfinder, READ, test_split=test_split, lazy=lazy)
    drawing = _Drawing(32 if size is None else size, length, dash, gap, distractors)
    counts = {"train": 8_000 if train_size is None else train_size, "test": 2_000 if test_size is None else test_size}
    wanted = 4 * drawing.size**2 * sum(counts.values())
    require_memory(wanted, f"{sum(counts.values()):,} images of {drawing.size}² pixels")
    parts = {where: drawing(count, key(seed, "pathfinder", where)) for where, count in counts.items()}
    (inputs, targets, short), (test_inputs, test_targets, _) = parts["train"], parts["test"]
    return Task(
        train=(inputs, targets),
        test=(test_inputs, test_targets),
        num_outputs=2,
        model="transformer",
        columns={"distractors": short.numpy()},
    )


@dataclass(frozen=True)
class _Drawing:
    """Draws images, each from a key of its own."""

    size: int
    length: int
    dash: int
    gap: int
    distractors: int

    def __call__(self, count: int, root: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return images as sequences, their classes, and how many distractors found room in each."""
        keys = fold(torch.tensor(root), torch.arange(count))
        same = permutation(fold(torch.tensor([root]), -1), torch.tensor([count]), count)[0] % 2
        short = integers(fold(keys, 0), self.distractors + 1, ())
        images = torch.zeros(count, self.size, self.size)
        for rows in torch.split(torch.arange(count), _CHUNK):
            restart = vain = 0
            while len(rows):
                points, fits = self._points(fold(fold(keys[rows], 1), restart), short[rows])
                restart, vain = restart + 1, 0 if fits.any() else vain + len(rows)
                if vain > _VAIN or restart > _RESTARTS:
                    raise ValueError(
                        f"pathfinder: two paths of {self.length} points hardly fit into {self.size} × {self.size}"
                        " pixels; allowed are a smaller length and a larger size"
                    )
                drawn, points = rows[fits], points[fits]
                short[drawn] = (points[:, 2 * self.length :: -(-self.length // 3), 0] >= 0).sum(1)
                self._paint(images, drawn, points[:, self._dashed()])
                dots = self._dots(points[:, : 2 * self.length], same[drawn])
                self._paint(images, drawn, (dots[:, :, None] + _SQUARE).flatten(1, 2))
                rows = rows[~fits]
        return images.view(count, -1, 1), same, short

    @property
    def lengths(self) -> list[int]:
        """Points of each path."""
        return [self.length] * 2 + [-(-self.length // 3)] * self.distractors

    def _points(self, keys: Tensor, short: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the pixels of all paths of an image, [N, points, 2], and whether the first two fit in."""
        points = torch.full((len(keys), sum(self.lengths), 2), _NOWHERE, dtype=torch.int16)
        fits = torch.ones(len(keys), dtype=torch.bool)
        first = 0
        for number, length in enumerate(self.lengths):
            missing = fits & (number < 2 + short)
            for attempt in range(_ROUNDS):
                rows = missing.nonzero()[:, 0]
                if len(rows):
                    source = fold(fold(keys[rows], number), attempt)
                    own, found = self._path(source, length, points[rows, :first], alike=number == 1)
                    points[rows[found], first : first + length] = own[found]
                    missing[rows[found]] = False
            fits &= ~missing | (number > 1)
            first += length
        return points, fits

    def _path(self, keys: Tensor, length: int, others: Tensor, *, alike: bool) -> tuple[Tensor, Tensor]:
        """Draw the pixels of a path from each key, [N, length, 2], and whether one of some tries fits in."""
        tries = self._tries(fold(keys[:, None], torch.arange(_TRIES)), length)
        good = ((tries >= 1) & (tries <= self.size - 2)).all(-1).all(-1)
        image, place = good.nonzero(as_tuple=True)
        own = tries[image, place]
        fitting = _are_open(own)
        fitting[fitting.clone()] = _are_apart(own[fitting], others[image[fitting]])
        if alike:
            both = torch.cat([others[image[fitting]], own[fitting]], 1)
            fitting[fitting.clone()] = _distances(both)[1].min(1).values <= _ALIKE
        good[image, place] = fitting
        return tries[torch.arange(len(tries)), good.byte().argmax(1)], good.any(1)

    def _tries(self, keys: Tensor, length: int) -> Tensor:
        """Draw a smooth path from each key, [N, K, length, 2] in pixels, which may leave the image."""
        start = 1 + (self.size - 2) * uniform(fold(keys, 0), (1, 2))
        bend, about = (2 * uniform(fold(keys, n), (1,)) - 1 for n in (1, 2))
        turns = _TURN * (2 * uniform(fold(keys, 3), (length - 1,)) - 1) + _BEND * bend
        directions = math.pi * about + turns.cumsum(-1)
        moves = _STEP * torch.stack([directions.cos(), directions.sin()], -1)
        return (start + torch.cat([torch.zeros_like(start), moves.cumsum(-2)], -2)).floor().to(torch.int16)

    def _dots(self, points: Tensor, same: Tensor) -> Tensor:
        """Choose two ends of both paths, [N, 2, 2]: those of one, or of two that are about as far apart."""
        pairs, differences = _distances(points)
        return pairs[torch.arange(len(pairs)), torch.where(same == 1, 0, 1 + differences.argmin(1))]

    def _dashed(self) -> Tensor:
        """Return which points of all paths are visible.

        A path looks the same from both ends: if they differed, two ends of a kind would be those of two paths.
        """
        orders = [torch.arange(length) for length in self.lengths]
        return torch.cat([order.minimum(order.flip(0)) % (self.dash + self.gap) < self.dash for order in orders])

    def _paint(self, images: Tensor, rows: Tensor, points: Tensor) -> None:
        """Set pixels of some images to 1."""
        image, place = (points[..., 0] >= 0).nonzero(as_tuple=True)
        row, column = points[image, place].long().unbind(-1)
        images[rows[image], row, column] = 1


def _are_open(points: Tensor) -> Tensor:
    """Return whether paths are clear of what is not near on themselves, bool [N]."""
    first, second = torch.triu_indices(points.shape[1], points.shape[1], _NEAR + 1)
    return ((points[:, first] - points[:, second]).abs().amax(-1) > _CLEARANCE).all(-1)


def _are_apart(points: Tensor, others: Tensor) -> Tensor:
    """Return whether paths are clear of others, bool [N]."""
    return ((points[:, :, None] - others[:, None]).abs().amax(-1) > _CLEARANCE).all(-1).all(-1)


def _distances(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return pairs of ends of two paths of one length, [N, 5, 2, 2], of which the first is that of the first path.

    And by how much the distances of the others, each from both paths, differ from that of the first, [N, 4].
    """
    half = points.shape[1] // 2
    ends = points[:, [0, half - 1, half, -1]]
    pairs = torch.stack([ends[:, [i, j]] for i, j in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3))], 1)
    distances = (pairs[:, :, 0] - pairs[:, :, 1]).float().square().sum(-1).sqrt()
    return pairs, (distances[:, 1:] - distances[:, :1]).abs()


class _Images:
    """Images of the Long Range Arena as sequences of pixels.

    Attributes:
        files: Their files.
        targets: The class of each.
    """

    def __init__(self, known: list[tuple[Path, int]], size: int | None) -> None:
        self.files = [file for file, _ in known]
        self.targets = torch.tensor([label for _, label in known])
        self.decoder = Decoder(size, 1)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.decoder(self.files[row], str(self.files[row])).view(-1, 1), self.targets[row]


def _part(known: list[tuple[Path, int]], where: str) -> list[tuple[Path, int]]:
    first, last = (round(share * len(known)) for share in _SHARES[where])
    order = permutation(torch.tensor([key(0, "pathfinder images")]), torch.tensor([len(known)]), len(known))[0]
    return [known[row] for row in order[first:last].tolist()]


def _listed(folder: Path) -> Iterator[tuple[Path, int]]:
    """Read the list of images: lines of a folder, a file, a number and the class, and more."""
    lists = sorted((folder / "metadata").glob("*.npy"), key=lambda file: (len(file.name), file.name))
    if not lists:
        raise ValueError(f"pathfinder: {folder} has no lists of images, metadata/….npy")
    empty = 0
    for file in lists:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            raise ValueError(f"pathfinder: {file} cannot be read: {reason_of(error)}") from error
        for number, line in enumerate(lines, 1):
            words = line.split()
            if len(words) < 4:
                raise ValueError(f"pathfinder: {file}, line {number} has {len(words)} words; allowed are four or more")
            image = folder / words[0] / words[1]
            label = label_of(words[3], f"pathfinder: {file}, line {number}", 2)
            if not image.is_file():
                raise ValueError(f"pathfinder: {file}, line {number} names the image {image}, which does not exist")
            if image.stat().st_size:
                yield image, label
            else:
                empty += 1
    if empty:
        _log.warning("pathfinder: %d images of %s are left out, since their files are empty", empty, folder)
