"""Files of mean opinion scores, in the layouts of data sets of rated videos and images."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basinet.sim.experiment.mistakes import shown
from basinet.sim.tasks.loaders.csv_files import read_csv, wanted_columns

__all__ = ["Ratings", "read_ratings"]

_LOWEST, _HIGHEST = 1.0, 5.0
"""The scale of mean opinion scores."""


@dataclass(frozen=True)
class Ratings:
    """What a CSV file says of videos.

    Attributes:
        names: Their file names.
        scores: Their mean opinion scores, float64 [n]; None if all are blank.
        columns: What the file says besides, by the name of the column.
    """

    names: tuple[str, ...]
    scores: NDArray[np.float64] | None
    columns: Mapping[str, NDArray[Any]]


def read_ratings(file: Path, folder: Path | None = None, *, blank: bool = False) -> Ratings:
    """Read a CSV file with the columns filename and score.

    Args:
        file: The file.
        folder: The folder of the videos; None if they need not be there.
        blank: Whether scores may be blank, all of them, as in the test set of a challenge.

    Returns:
        The ratings, in the order of the file.

    Raises:
        ValueError: The file has other columns or no rows, a video is missing or appears twice, or a score is no number
            from 1 to 5.
    """
    header, values, places = read_csv(file, "video_quality")
    for needed in ("filename", "score"):
        if header.count(needed) != 1:
            raise ValueError(
                f"video_quality: the columns of {file} are {', '.join(map(repr, header))}; needed are"
                f" {wanted_columns(header, ('filename', 'score'))}"
            )
    columns = dict(zip(header, values, strict=True))
    names, given = columns.pop("filename").tolist(), columns.pop("score").tolist()
    if not names:
        raise ValueError(f"video_quality: {file} has no rows")
    seen: dict[str, str] = {}
    for name, where in zip(names, places, strict=True):
        if (place := os.path.normpath(name)) in seen:
            raise ValueError(f"video_quality: {where} of {file} has {name!r} again, which {seen[place]} has already")
        if not name:
            raise ValueError(f"video_quality: {where} of {file} has no file name")
        if folder is not None and not (folder / name).is_file():
            raise ValueError(f"video_quality: {where} of {file} has {name!r}, which is no file in {folder}")
        seen[place] = where
    if blank and not any(given):
        return Ratings(tuple(names), None, columns)
    scores = [_score(text, f"{where} of {file}") for text, where in zip(given, places, strict=True)]
    return Ratings(tuple(names), np.array(scores), columns)


def _score(text: str, where: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not _LOWEST <= found <= _HIGHEST:
        raise ValueError(
            f"video_quality: {where} has the score {shown(text)}; allowed are numbers from {_LOWEST:g} to {_HIGHEST:g}"
        )
    return found
