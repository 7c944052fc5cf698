"""Rated videos in the layout of KVQ: a folder of videos, CSV files of scores, and sheets of pairs."""

import logging
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import ExperimentError, reason_of, shown
from basinet.sim.tasks.loaders.csv_files import read_csv
from basinet.sim.tasks.vision.quality.ratings import GROUPS, check_apart, read_ratings
from basinet.sim.tasks.vision.videos.video_views import KINDS, Rated
from basinet.sim.vision.video_files import av_versions, read_frames

__all__ = ["VideoFiles", "rated_files", "read_pairs"]

_log = logging.getLogger(__name__)

_EXCEL = (".xlsx", ".xlsm")


def read_pairs(file: Path, names: Sequence[str], task: str = "video_quality") -> dict[str, Tensor]:
    """Read pairs of videos, of which one is better.

    Args:
        file: An Excel file with the sheets nonsource and source, whose first three columns are two file names and 1 if
            the first video is the better one, or else 2; or a CSV file with the name of the sheet in a column before.
            The first row of a sheet or CSV file may hold headings: it is a pair if it names one of the videos, or its
            rank is 1 or 2.
        names: The videos that may appear.
        task: Who asks, for error messages.

    Returns:
        For each sheet the places of the two videos and the rank, int64 [P, 3].

    Raises:
        ImportError: openpyxl is not installed.
        ValueError: The file cannot be read, or a row holds something else.
    """
    places = {name: place for place, name in enumerate(names)}
    found: dict[str, list[list[int]]] = {sheet: [] for sheet in KINDS}
    for sheet, row, where, is_first in _rows(file, task):
        if is_first and row[2:3] not in (["1"], ["2"]) and places.keys().isdisjoint(row[:2]):
            continue  # headings
        if sheet not in found:
            raise ValueError(f"{task}: {where} is of {sheet!r}; allowed are {' and '.join(KINDS)}")
        if len(row) < 3:
            raise ValueError(
                f"{task}: {where} has {len(row)} of the three values that are needed, two videos and a rank"
            )
        for name in row[:2]:
            if name not in places:
                raise ValueError(f"{task}: {where} has {name!r}, which is none of the test videos")
        if row[0] == row[1]:
            raise ValueError(f"{task}: {where} compares {row[0]!r} with itself; two videos are needed")
        if row[2] not in ("1", "2"):
            raise ValueError(f"{task}: {where} has the rank {shown(row[2])}; allowed are 1 and 2")
        found[sheet].append([places[row[0]], places[row[1]], int(row[2])])
    return {sheet: torch.tensor(rows, dtype=torch.int64).view(-1, 3) for sheet, rows in found.items()}


def _rows(file: Path, task: str) -> Iterator[tuple[str, list[str], str, bool]]:
    """Read the sheet, the values and the place of each row, and whether it is the first one."""
    if file.suffix.lower() == ".csv":
        header, values, places = read_csv(file, task)
        yield header[0], header[1:], f"line 1 of {file}", True
        for row, where in zip(zip(*(column.tolist() for column in values), strict=True), places, strict=True):
            yield row[0], [*row[1:]], f"{where} of {file}", False
        return
    if file.suffix.lower() not in _EXCEL:
        raise ValueError(f"{task}: {file} is of another kind; allowed are {', '.join(_EXCEL)} and .csv")
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise ImportError('Excel files need the package openpyxl: pip install "basinet[vision]"') from error
    try:
        book = load_workbook(file, read_only=True, data_only=True)
        sheets = {sheet.title: [*sheet.iter_rows(values_only=True)] for sheet in book.worksheets}
    except OSError as error:
        raise ValueError(f"{task}: {file} cannot be read: {reason_of(error)}") from error
    except Exception as error:  # a file of another kind may raise anything
        raise ValueError(f"{task}: {file} is no Excel file, or damaged") from error
    for sheet, rows in sheets.items():
        for number, row in enumerate(rows, 1):
            words = ["" if value is None else f"{value:g}" if isinstance(value, float) else str(value) for value in row]
            if any(words):
                yield sheet, words, f"row {number} of sheet {sheet} of {file}", number == 1


def rated_files(task: str, folder: Path, train: str | None, test: str | None, pairs: str | None, frames: int) -> Rated:
    """Find videos in the layout of KVQ, and read their scores.

    Args:
        task: Who asks, for error messages.
        folder: The folder of the videos.
        train: CSV file of the training videos.
        test: CSV file of the test videos, if there are any.
        pairs: See `read_pairs`.
        frames: Number of frames of each video.

    Returns:
        The videos.

    Raises:
        ValueError: A file cannot be read or holds something else, or both parts show the same.
    """
    if not folder.is_dir():
        raise ValueError(f"{task}: path is {str(folder)!r}, which is no folder")
    if train is None:
        raise ValueError(f"{task}: train_scores is missing; a CSV file with the columns filename and score is needed")
    ratings = [read_ratings(Path(train), folder, task=task)]
    if test is not None:
        held = read_ratings(Path(test), folder, blank=True, task=task)
        if twice := {*map(os.path.normpath, ratings[0].names)} & {*map(os.path.normpath, held.names)}:
            raise ValueError(f"{task}: {min(twice)!r} is a training video in {train}, and a test video in {test}")
        check_apart(task, ratings[0].shown(train, GROUPS), held.shown(test, GROUPS))
        if held.scores is None:
            _log.warning("task.test_scores: the scores of %s are blank, so that nothing is tested", test)
        else:
            ratings.append(held)
    if pairs is not None and len(ratings) == 1:
        raise ValueError(f"{task}: pairs is {pairs!r}, which is for test videos, and there are none with scores")
    names = [name for part in ratings for name in part.names]
    places = torch.split(torch.arange(len(names)), [len(part.names) for part in ratings])
    scores = np.concatenate([part.scores for part in ratings if part.scores is not None])
    return Rated(
        VideoFiles([folder / name for name in names], frames),
        dict(zip(("train", "test"), places, strict=False)),
        torch.from_numpy(scores).float()[:, None],
        tuple(name for part in ratings[1:] for name in part.names),
        {} if pairs is None else read_pairs(Path(pairs), ratings[1].names, task),
        dict(ratings[0].columns),
    )


class VideoFiles:
    """Frames of video files, as the items of a data set.

    Args:
        files: The files.
        frames: Number of frames, evenly spaced over each video.

    Attributes:
        names: What the videos are called.
    """

    def __init__(self, files: Sequence[Path], frames: int) -> None:
        self.files, self.frames = [file.absolute() for file in files], frames
        self.names = [str(file) for file in files]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> Tensor:
        """Return the frames of a video, uint8 [T, 3, H, W].

        Raises:
            ExperimentError: It cannot be read.
        """
        try:
            return read_frames(self.files[row], self.frames)
        except ValueError as error:
            raise ExperimentError(f"task: {error}") from error

    @property
    def versions(self) -> Any:
        """What decodes the files."""
        return av_versions()

    @cached_property
    def keys(self) -> list[str]:
        """A digest for each video of what its frames depend on: its path, size and time, and what decodes it."""
        versions = self.versions
        stamps = ((str(file), stat.st_size, stat.st_mtime_ns) for file in self.files for stat in (file.stat(),))
        return [digest([*stamp, self.frames, versions]) for stamp in stamps]

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all keys."""
        return digest(self.keys)
