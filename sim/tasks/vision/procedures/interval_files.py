"""Video files and what is told of them, in CSV files of intervals at three levels."""

import math
from collections.abc import Sequence
from filecmp import cmp
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import nearest, reason_of, shown
from basinet.sim.tasks.loaders.csv_files import read_csv, wanted_columns
from basinet.sim.tasks.vision.procedures.told_videos import Span, Told
from basinet.sim.tasks.vision.procedures.vocabulary import split_words
from basinet.sim.tasks.vision.videos.kvq_files import VideoFiles
from basinet.sim.vision.resizing import resize
from basinet.sim.vision.video_files import VIDEO_SUFFIXES, duration

__all__ = ["LEVELS", "Interval", "SmallVideos", "check_apart", "read_folder", "read_intervals", "read_prompts"]

LEVELS = ("clips", "phases", "abstracts")
"""Folders of the CSV files, one for each video and level."""

_TASK = "video_language"

_ROUNDING = 0.1
"""Seconds by which an interval may go beyond the end of its video."""

_REVISION = 1
"""Of how frames are shrunk; another one has caches made anew."""


class Interval(NamedTuple):
    """A row of a CSV file.

    Attributes:
        start: Where it begins, in seconds.
        end: Where it ends.
        text: What is told of it.
        step: A key step of it; empty if there is none.
        where: Line and file.
    """

    start: float
    end: float
    text: str
    step: str
    where: str


def read_intervals(file: Path, level: str, length: float) -> list[Interval]:
    """Read what is told of a video at a level.

    Args:
        file: A CSV file with the columns start, end and text, and for phases a column step if there are key steps.
        level: One of `LEVELS`. Rows of the same interval are other narrations of a clip, or other key steps of a phase
            of the same text.
        length: Seconds that the video lasts.

    Returns:
        The rows, by their beginning.

    Raises:
        ValueError: The file cannot be read, has other columns or no rows, or a row lacks its text, or has an interval
            that is no interval of the video or overlaps another.
    """
    header, values, places = read_csv(file, _TASK)
    needed, allowed = ("start", "end", "text"), {"start", "end", "text", *(["step"] if level == "phases" else [])}
    if any(header.count(name) != 1 for name in needed) or len({*header}) < len(header) or {*header} - allowed:
        also = ", and step if there are key steps" if level == "phases" else ""
        raise ValueError(
            f"{_TASK}: the columns of {file} are {', '.join(map(repr, header))}; needed are"
            f" {wanted_columns(header, needed)}{also}"
        )
    if not places:
        raise ValueError(f"{_TASK}: {file} has no rows")
    columns = dict(zip(header, (column.tolist() for column in values), strict=True))
    steps = columns.get("step", [""] * len(places))
    found = []
    for start, end, text, step, place in zip(*(columns[name] for name in needed), steps, places, strict=True):
        where = f"{place} of {file}"
        first, last = (_seconds(word, name, where) for word, name in ((start, "start"), (end, "end")))
        if not split_words(text):
            raise ValueError(f"{_TASK}: {where} has the text {shown(text)}; allowed are texts with a word at least")
        if not first < last:
            raise ValueError(f"{_TASK}: {where} is of {first:g} to {last:g} s; the end has to be behind the start")
        if first >= length or last > length + _ROUNDING:
            raise ValueError(f"{_TASK}: {where} is of {first:g} to {last:g} s, and the video lasts {length:.4g} s")
        found.append(Interval(first, min(last, length), text, step, where))
    found.sort(key=lambda row: (row.start, row.end))  # stable: other narrations stay in their order
    latest = found[0]
    for row in found[1:]:
        same = (row.start, row.end) == (latest.start, latest.end)
        joined = level == "clips" or (level == "phases" and row.text == latest.text and row.step and latest.step)
        if row.start < latest.end and not (same and joined):
            hint = {"clips": "; other narrations of a clip have the same interval"}.get(level, "")
            raise ValueError(
                f"{_TASK}: {row.where} is of {row.start:g} to {row.end:g} s, which overlaps {latest.start:g} to"
                f" {latest.end:g} s in {latest.where.split(' of ')[0]}{hint}"
            )
        latest = row
    return found


def _seconds(word: str, name: str, where: str) -> float:
    try:
        found = float(word)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise ValueError(f"{_TASK}: {where} has the {name} {shown(word)}; allowed are seconds from 0 on, such as 12.5")
    return found


def read_prompts(file: Path) -> dict[str, list[str]]:
    """Read sentences that describe phases.

    Args:
        file: A CSV file with the columns phase and prompt, and one row or more for each phase.

    Returns:
        The prompts of each phase, by its name.

    Raises:
        ValueError: The file cannot be read or has other columns, or a row lacks something.
    """
    header, values, places = read_csv(file, _TASK)
    if sorted(header) != ["phase", "prompt"]:
        raise ValueError(
            f"{_TASK}: the columns of {file} are {', '.join(map(repr, header))}; needed are"
            f" {wanted_columns(header, ('phase', 'prompt'))}"
        )
    columns = dict(zip(header, (column.tolist() for column in values), strict=True))
    found: dict[str, list[str]] = {}
    for phase, prompt, place in zip(columns["phase"], columns["prompt"], places, strict=True):
        for name, text in (("phase", phase), ("prompt", prompt)):
            if not split_words(text):
                raise ValueError(f"{_TASK}: {place} of {file} has the {name} {shown(text)}; a word is needed at least")
        found.setdefault(phase, []).append(prompt)
    return found


def read_folder(folder: Path, frames: int, phases: Sequence[str] | None = None) -> tuple[list[Path], list[Told]]:
    """Find the videos of a folder, and read what is told of them.

    Args:
        folder: Holds videos, and in its folders clips, phases and abstracts a CSV file of the same name for each.
        frames: Number of frames of each video that are used, evenly spaced.
        phases: Names that the texts of phases have to be; None for any text.

    Returns:
        The files, by name, and what is told of each.

    Raises:
        ImportError: PyAV is not installed.
        ValueError: There is no video, or a file is missing, cannot be read or holds something else.
    """
    files = _videos(folder)
    names = [file.stem for file in files]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{_TASK}: {folder} holds two videos of the name {twice!r}, which share their CSV files")
    unknown: dict[str, str] = {}
    told = [_told(file, frames, phases, unknown) for file in files]
    if unknown:
        (text, where), *others = unknown.items()
        more = "".join(f", nor has {shown(other)}" for other, _ in others)
        raise ValueError(
            f"{_TASK}: {where} has the text {shown(text)}, which has no prompts{more}; {nearest(text, phases or ())}"
        )
    return files, told


def check_apart(path: Path, test_path: Path) -> None:
    """Raise if a video is in both of two folders, under whatever name.

    Args:
        path: Folder of the training videos.
        test_path: Folder of the test videos.

    Raises:
        ValueError: There is one, or a folder holds no videos or cannot be read.
    """
    sizes: dict[int, list[Path]] = {}
    for file in _videos(path):
        sizes.setdefault(file.stat().st_size, []).append(file)
    for held in _videos(test_path):
        if both := next((file for file in sizes.get(held.stat().st_size, ()) if cmp(file, held, shallow=False)), None):
            name = "" if held.name == both.name else f" of the name {held.name!r}"
            raise ValueError(
                f"{_TASK}: {both.name!r} is a training video in {path}, and a test video{name} in {test_path}; allowed"
                " is one of them"
            )


def _videos(folder: Path) -> list[Path]:
    """Find the videos of a folder, by name."""
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES)
    except OSError as error:
        raise ValueError(f"{_TASK}: {folder} cannot be read: {reason_of(error)}") from error
    if not files:
        raise ValueError(f"{_TASK}: {folder} holds no videos; allowed are {', '.join(VIDEO_SUFFIXES)}")
    return files


def _told(file: Path, frames: int, phases: Sequence[str] | None, unknown: dict[str, str]) -> Told:
    """Read what is told of a video; note texts of phases that are none of their names, and where they are."""
    try:
        length = duration(file)
    except ValueError as error:
        raise ValueError(f"{_TASK}: {error}") from error
    rows = {level: read_intervals(file.parent / level / f"{file.stem}.csv", level, length) for level in LEVELS}
    if phases is not None:
        for row in rows["phases"]:
            if row.text not in phases:
                unknown.setdefault(row.text, row.where)
    return Told(file.stem, *(_spans(rows[level], level, length, frames) for level in LEVELS))


def _spans(rows: list[Interval], level: str, length: float, frames: int) -> tuple[Span, ...]:
    """Join rows of the same interval, and find the frames in each."""
    found: dict[tuple[float, float], list[Interval]] = {}
    for row in rows:
        found.setdefault((row.start, row.end), []).append(row)
    spans = []
    for (start, end), same in found.items():
        # Frame t is at (t + 1/2) / frames of the video.
        first, last = (math.ceil(time / length * frames - 0.5) for time in (start, end))
        if last <= first:  # between two frames: the nearest one
            first = min(frames - 1, int((start + end) / 2 / length * frames))
            last = first + 1
        texts = tuple(row.text for row in same) if level == "clips" else (same[0].text,)
        spans.append(Span(first, last, texts, tuple(row.step for row in same if split_words(row.step))))
    return tuple(spans)


class SmallVideos(VideoFiles):
    """Frames of video files, cut to the square in their middle and resized.

    Args:
        files: The files.
        frames: Number of frames, evenly spaced over each video.
        side: Height and width of the frames.
    """

    def __init__(self, files: Sequence[Path], frames: int, side: int) -> None:
        super().__init__(files, frames)
        self.side = side

    def __getitem__(self, row: int) -> Tensor:
        """Return the frames of a video, uint8 [T, 3, side, side]."""
        return torch.stack([self._small(frame) for frame in super().__getitem__(row)])

    def _small(self, frame: Tensor) -> Tensor:
        height, width = frame.shape[1:]
        size = min(height, width)
        top, left = (height - size) // 2, (width - size) // 2
        square = frame[:, top : top + size, left : left + size].float()
        return (resize(square, Fraction(self.side, size)) + 0.5).floor().clamp(0, 255).byte()

    @cached_property
    def keys(self) -> list[str]:
        """A digest for each video of what its frames depend on."""
        return [digest([key, self.side, _REVISION]) for key in super().keys]
