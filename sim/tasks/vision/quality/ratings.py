"""Files of mean opinion scores, in the layouts of data sets of rated videos and images."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basinet.sim.experiment.mistakes import count_of, reason_of, shown
from basinet.sim.tasks.loaders.csv_files import read_csv, wanted_columns
from basinet.topologies.policies.matrix_files import decode

__all__ = [
    "GROUPS",
    "HIGHEST",
    "KONIQ",
    "KVQ",
    "LOWEST",
    "Layout",
    "Ratings",
    "check_apart",
    "read_ratings",
    "read_votes",
]

LOWEST, HIGHEST = 1.0, 5.0
"""The scale of mean opinion scores."""

Layout = tuple[str, str]
"""Names of the columns of file names and of scores."""

KVQ: Layout = ("filename", "score")
KONIQ: Layout = ("image_name", "MOS")

GROUPS = ("photo", "content")
"""Columns that say what samples show, of which several may be versions."""

_VOTES = 10
"""Counts of the votes for 1, 2, … in a row of AVA."""


@dataclass(frozen=True)
class Ratings:
    """What a file says of videos or images.

    Attributes:
        names: Their file names.
        scores: Their mean opinion scores, from 1 to 5, float64 [n]; None if all are blank.
        columns: What the file says besides, by the name of the column.
        places: Where each is in the file.
    """

    names: tuple[str, ...]
    scores: NDArray[np.float64] | None
    columns: Mapping[str, NDArray[Any]]
    places: tuple[str, ...]

    def shown(self, file: str, columns: Sequence[str], rows: Iterable[int] | None = None) -> dict[tuple[str, str], str]:
        """Find what is shown, as far as columns say it.

        Args:
            file: The file, for messages.
            columns: Names of the columns.
            rows: The rows that count; None for all.

        Returns:
            Line and file of the first row with each entry, by the column and the entry; blank ones are left out.
        """
        rows = [*(range(len(self.names)) if rows is None else rows)]
        found: dict[tuple[str, str], str] = {}
        for name in columns:
            for row in rows if name in self.columns else ():
                if entry := str(self.columns[name][row]):
                    found.setdefault((name, entry), f"{self.places[row]} of {file}")
        return found


def check_apart(task: str, train: Mapping[tuple[str, str], str], test: Mapping[tuple[str, str], str]) -> None:
    """Raise if something is shown in training and in tests.

    Args:
        task: Who asks, for error messages.
        train: What `Ratings.shown` finds in training.
        test: The same of tests.

    Raises:
        ValueError: An entry is in both.
    """
    for (column, entry), where in train.items():
        if (column, entry) in test:
            raise ValueError(
                f"{task}: the {column} {entry!r} is shown in training, {where}, and in tests, {test[column, entry]};"
                " allowed is one of them"
            )


def read_ratings(
    file: Path,
    folder: Path | None = None,
    *,
    blank: bool = False,
    task: str = "video_quality",
    layouts: Sequence[Layout] = (KVQ,),
    scale: tuple[float, float] = (LOWEST, HIGHEST),
) -> Ratings:
    """Read a CSV file of file names and scores.

    Args:
        file: The file.
        folder: The folder of the videos or images; None if they need not be there.
        blank: Whether scores may be blank, all of them, as in the test set of a challenge.
        task: Who asks, for error messages.
        layouts: Layouts that the file may have.
        scale: The lowest and the highest score that there may be.

    Returns:
        The ratings, in the order of the file, on the scale from 1 to 5.

    Raises:
        ValueError: The file has other columns or no rows, a video or image is missing or appears twice, or a score is
            no number of the scale.
    """
    header, values, places = read_csv(file, task)
    layout = next((one for one in layouts if all(header.count(name) == 1 for name in one)), None)
    if layout is None:
        wanted = ", or ".join(wanted_columns(header, one) for one in layouts)
        raise ValueError(f"{task}: the columns of {file} are {', '.join(map(repr, header))}; needed are {wanted}")
    columns = dict(zip(header, values, strict=True))
    names, given = (columns.pop(name).tolist() for name in layout)
    _check_names(names, places, file, folder, task)
    if blank and not any(given):
        return Ratings(tuple(names), None, columns, tuple(places))
    scores = [_score(text, scale, f"{task}: {where} of {file}") for text, where in zip(given, places, strict=True)]
    return Ratings(tuple(names), _rescaled(scores, scale), columns, tuple(places))


def read_votes(file: Path, folder: Path, task: str) -> Ratings:
    """Read a text file of votes in the layout of AVA.

    Args:
        file: Its rows are a number, the name of an image without .jpg, the counts of the votes for 1, 2, …, 10, and
            anything else, separated by spaces.
        folder: The folder of the images.
        task: Who asks, for error messages.

    Returns:
        The mean votes, in the order of the file, on the scale from 1 to 5.

    Raises:
        ValueError: The file cannot be read or has no rows, an image is missing or appears twice, or a row has fewer
            counts, or no votes.
    """
    try:
        lines = decode(file.read_bytes(), file, task).splitlines()
    except OSError as error:
        raise ValueError(f"{task}: {file} cannot be read: {reason_of(error)}") from error
    rows = [(f"line {number}", line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    means = []
    for where, row in rows:
        if len(row) < 2 + _VOTES:
            raise ValueError(
                f"{task}: {where} of {file} has {count_of(len(row), 'value')}; needed are at least {2 + _VOTES}: a"
                f" number, the name of an image without .jpg, and {_VOTES} counts of votes"
            )
        counts = row[2 : 2 + _VOTES]
        if wrong := next((word for word in counts if not (word.isascii() and word.isdigit())), None):
            raise ValueError(f"{task}: {where} of {file} has the count {shown(wrong)}; allowed are 0, 1, …")
        votes = [*map(int, counts)]
        if not sum(votes):
            raise ValueError(f"{task}: {where} of {file} has no votes")
        means.append(sum(vote * count for vote, count in enumerate(votes, 1)) / sum(votes))
    names, places = [f"{row[1]}.jpg" for _, row in rows], [where for where, _ in rows]
    _check_names(names, places, file, folder, task)
    return Ratings(tuple(names), _rescaled(means, (1, _VOTES)), {}, tuple(places))


def _check_names(names: Sequence[str], places: Sequence[str], file: Path, folder: Path | None, task: str) -> None:
    """Raise unless there are names of different files, which exist."""
    if not names:
        raise ValueError(f"{task}: {file} has no rows")
    seen: dict[str, str] = {}
    for name, where in zip(names, places, strict=True):
        if (place := os.path.normpath(name)) in seen:
            raise ValueError(f"{task}: {where} of {file} has {name!r} again, which {seen[place]} has already")
        if not name:
            raise ValueError(f"{task}: {where} of {file} has no file name")
        if folder is not None and not (folder / name).is_file():
            raise ValueError(f"{task}: {where} of {file} has {name!r}, which is no file in {folder}")
        seen[place] = where


def _score(text: str, scale: tuple[float, float], where: str) -> float:
    lowest, highest = scale
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not lowest <= found <= highest:
        raise ValueError(f"{where} has the score {shown(text)}; allowed are numbers from {lowest:g} to {highest:g}")
    return found


def _rescaled(scores: Sequence[float], scale: tuple[float, float]) -> NDArray[np.float64]:
    """Map scores of a scale to that from 1 to 5; those of it stay exactly as they are."""
    found, (lowest, highest) = np.array(scores), scale
    if (lowest, highest) == (LOWEST, HIGHEST):
        return found
    return LOWEST + (HIGHEST - LOWEST) * (found - lowest) / (highest - lowest)
