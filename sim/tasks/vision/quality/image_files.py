"""Rated images in folders, with files of scores in the layouts of KonIQ-10k, AVA and KVQ."""

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from basinet.algorithms.draws import key, permutation
from basinet.sim.experiment.mistakes import shown
from basinet.sim.tasks.vision.quality.ratings import (
    HIGHEST,
    KONIQ,
    KVQ,
    LOWEST,
    Ratings,
    check_apart,
    read_ratings,
    read_votes,
)
from basinet.sim.tasks.vision.videos.kvq_files import VideoFiles
from basinet.sim.tasks.vision.videos.video_views import Rated
from basinet.sim.vision.picture_files import read_pixels
from basinet.sim.vision.resizing import resize

__all__ = ["ImageFiles", "Part", "fold_rows", "rated_image_files", "read_scores"]

Part = Literal["test", "validation"]

_SETS = ("training", "validation", "test")
"""Words in the column `set` of KonIQ-10k."""

_REVISION = 1
"""Of how images are read; another one has caches made anew."""


class ImageFiles(VideoFiles):
    """Image files, as videos of one frame.

    Args:
        files: The files.
        side: Height and width to which the middle square of images is resized; None to leave them as they are.
    """

    def __init__(self, files: Sequence[Path], side: int | None = None) -> None:
        super().__init__(files, 1)
        self.side = side

    def __getitem__(self, row: int) -> Tensor:
        """Return an image, uint8 [1, 3, H, W].

        Raises:
            ExperimentError: It cannot be read.
        """
        image = read_pixels(self.files[row]).colour.expand(3, -1, -1)
        if self.side is not None:
            short = min(image.shape[1:])
            top, left = ((length - short) // 2 for length in image.shape[1:])
            square = image[:, top : top + short, left : left + short]
            image = resize(square.double(), Fraction(self.side, short)).round().clamp(0, 255).byte()
        return image[None].contiguous()

    @property
    def versions(self) -> Any:
        """What decodes the files."""
        from PIL import __version__

        return [_REVISION, __version__, self.side]


def fold_rows(groups: Sequence[str], fold: int, folds: int, noun: str = "photos") -> dict[str, Tensor]:
    """Divide samples into folds that share no group, and hold one of them out.

    Args:
        groups: The group of each sample, such as its photo.
        fold: The fold that is tested, from 0.
        folds: Number of folds.
        noun: What groups are, for messages.

    Returns:
        Places of the samples for training and for tests, by "train" and "test".

    Raises:
        ValueError: There is no such fold, or there are fewer groups than folds.
    """
    names = [*dict.fromkeys(groups)]
    if folds > len(names):
        raise ValueError(f"folds is {folds}; allowed are at most {len(names)}, the number of {noun}")
    if fold >= folds:
        raise ValueError(f"fold is {fold}; allowed are 0 to {folds - 1}, one of the {folds} folds")
    order = permutation(torch.tensor([key(0, "folds")]), torch.tensor([len(names)]), len(names))[0].tolist()
    held = {names[at] for at in order[fold::folds]}
    is_held = torch.tensor([group in held for group in groups])
    return {"train": (~is_held).nonzero()[:, 0], "test": is_held.nonzero()[:, 0]}


def rated_image_files(
    task: str,
    path: Path,
    scores: str | None,
    test_scores: str | None,
    part: Part,
    fold: int,
    folds: int,
    scale: Sequence[float],
    side: int | None,
) -> Rated:
    """Find images in a folder, and read their scores.

    Args:
        task: Who asks, for error messages.
        path: The folder.
        scores: File of scores: a CSV file with the columns filename and score, or image_name and MOS; or, if it ends
            with .txt, one in the layout of AVA.
        test_scores: The same of the test images; without it, they are those whose column `set` says so, or one of the
            folds of images that share no entry of the column `photo`, or just of images.
        part: What the column `set` says of images that are tested.
        fold: The fold that is tested.
        folds: Number of folds.
        scale: Lowest and highest score in CSV files.
        side: See `ImageFiles`.

    Returns:
        The images, with scores from 1 to 5.

    Raises:
        ValueError: A file cannot be read or holds something else, or an image or photo is for training and for tests.
    """
    if not path.is_dir():
        raise ValueError(f"{task}: path is {str(path)!r}, which is no folder")
    if scores is None:
        raise ValueError(
            f"{task}: scores is missing; a CSV file with the columns filename and score, or image_name and MOS, or a"
            " text file in the layout of AVA is needed"
        )
    found = [read_scores(task, Path(file), path, scale) for file in (scores, test_scores) if file is not None]
    known = found[0]
    if test_scores is not None:
        both = {*map(os.path.normpath, known.names)} & {*map(os.path.normpath, found[1].names)}
        if both:
            raise ValueError(
                f"{task}: {min(both)!r} is a training image in {scores}, and a test image in {test_scores}"
            )
        check_apart(task, known.shown(scores, ["photo"]), found[1].shown(test_scores, ["photo"]))
        places = torch.split(torch.arange(sum(len(one.names) for one in found)), [len(one.names) for one in found])
        rows = dict(zip(("train", "test"), places, strict=True))
    elif "set" in known.columns:
        rows = _sets(task, scores, known, part)
        check_apart(task, *(known.shown(scores, ["photo"], rows[name].tolist()) for name in ("train", "test")))
    else:
        rows = fold_rows([*known.columns.get("photo", known.names)], fold, folds, "images of different photos")
    if "set" in known.columns or test_scores is not None:
        chosen = "test_scores" if test_scores is not None else "the column set"
        for name, value, usual in (("fold", fold, 0), ("folds", folds, 5)):
            if value != usual:
                raise ValueError(f"{task}: {name} is {value}, and {chosen} says what is tested; leave it out")
    if part != "test" and (test_scores is not None or "set" not in known.columns):
        raise ValueError(f"{task}: test is {part!r}, which is for a file with the column set; leave it out")
    names = [name for one in found for name in one.names]
    truth = np.concatenate([one.scores for one in found if one.scores is not None])
    trained = rows["train"].numpy()
    return Rated(
        ImageFiles([path / name for name in names], side),
        rows,
        torch.from_numpy(truth).float()[:, None],
        tuple(names[row] for row in rows["test"].tolist()),
        {},
        {name: column[trained] for name, column in known.columns.items()},
    )


def read_scores(task: str, file: Path, folder: Path, scale: Sequence[float]) -> Ratings:
    """Read a file of scores of images.

    Args:
        task: Who asks, for error messages.
        file: A CSV file, or one in the layout of AVA; see `rated_image_files`.
        folder: The folder of the images.
        scale: Lowest and highest score in CSV files.

    Returns:
        The ratings.

    Raises:
        ValueError: It cannot be read or holds something else.
    """
    lowest, highest = scale
    if file.suffix.lower() != ".txt":
        return read_ratings(file, folder, task=task, layouts=(KVQ, KONIQ), scale=(lowest, highest))
    if (lowest, highest) != (LOWEST, HIGHEST):
        raise ValueError(f"{task}: scale is for CSV files, and {file} is one of votes; leave it out")
    return read_votes(file, folder, task)


def _sets(task: str, file: str, known: Ratings, part: Part) -> dict[str, Tensor]:
    """Divide images as their column `set` says."""
    words = known.columns["set"].tolist()
    for word, where in zip(words, known.places, strict=True):
        if word not in _SETS:
            raise ValueError(f"{task}: {where} of {file} has the set {shown(word)}; allowed are {', '.join(_SETS)}")
    rows = {}
    for name, wanted in (("train", "training"), ("test", part)):
        rows[name] = torch.tensor([place for place, word in enumerate(words) if word == wanted], dtype=torch.int64)
        if not len(rows[name]):
            raise ValueError(f"{task}: {file} has no images of the set {wanted!r}")
    return rows
