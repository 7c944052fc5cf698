"""Video files: their frames, decoded the same way each time."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["VIDEO_SUFFIXES", "av_package", "av_versions", "duration", "evenly_spaced", "read_frames"]

VIDEO_SUFFIXES = (
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm",
    ".wmv", ".y4m",
)  # fmt: skip
"""Endings of the names of video files."""

_Video = Path | bytes
"""A file, or its content."""

_REVISION = 1
"""Of how frames are read; another one has caches made anew."""


def av_package() -> Any:
    """Import PyAV.

    Returns:
        The module.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError('videos need the package av (PyAV): pip install "basinet[vision]"') from error
    return av


def av_versions() -> str:
    """Return the versions of PyAV, its libraries and this file, on which the decoded pixels may depend."""
    av = av_package()
    libraries = ((name, ".".join(map(str, version))) for name, version in sorted(av.library_versions.items()))
    return " ".join([f"reader {_REVISION} av {av.__version__}", *(f"{name} {version}" for name, version in libraries)])


def read_frames(video: _Video, count: int | None = None, name: str | None = None) -> Tensor:
    """Decode the frames of a video, turned upright if it says how.

    Args:
        video: A file, or its content.
        count: Number of frames that are returned, evenly spaced over the video; None for all.
        name: What to call the video in error messages; by default, its path.

    Returns:
        uint8 [T, 3, H, W].

    Raises:
        ImportError: PyAV is not installed.
        ValueError: It cannot be read, holds no video, ends too early, has fewer frames, or these differ in size.
    """
    what = name or (str(video) if isinstance(video, Path) else "the video")
    with _sentences(what):
        said, wanted = _said(video, what), None
        if count is not None and said:
            wanted = evenly_spaced(said, count) if said >= count else range(0)
        frames, total = _decode(video, wanted)
        if count is not None and total != said:  # the file did not say how many there are, or said it wrong
            if total < count:
                raise ValueError(f"{what} has {total} of the {count} frames that are needed")
            frames, total = _decode(video, evenly_spaced(total, count))
        if not total:
            raise ValueError(f"{what} has no frames")
        if count is not None and total < count:
            raise ValueError(f"{what} has {total} of the {count} frames that are needed")
        if len(shapes := {frame.shape for frame in frames}) > 1:
            sizes = " and ".join(sorted(f"{width}×{height}" for height, width, _ in shapes))
            raise ValueError(f"{what} has frames of the sizes {sizes}; allowed is one size")
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()


def duration(video: _Video, name: str | None = None) -> float:
    """Return how long a video lasts, as the file says, or else by its frames.

    Args:
        video: A file, or its content.
        name: What to call the video in error messages; by default, its path.

    Returns:
        Seconds.

    Raises:
        ImportError: PyAV is not installed.
        ValueError: It cannot be read, or holds no video.
    """
    what = name or (str(video) if isinstance(video, Path) else "the video")
    with _sentences(what):
        said = _said(video, what)
        with _opened(video) as container:
            stream = container.streams.video[0]
            if stream.duration:
                return float(stream.duration * stream.time_base)
            if container.duration:
                return float(container.duration / 1e6)
            rate = stream.average_rate or stream.guessed_rate
        total = said or _decode(video, range(0))[1]
        if not rate or not total:
            raise ValueError(f"{what} does not say how long it lasts")
        return float(total / rate)


def evenly_spaced(total: int, count: int) -> list[int]:
    """Choose the middle frames of equal parts of a video.

    Args:
        total: Number of its frames.
        count: Number of parts, at most as many.

    Returns:
        Their places, in order.

    Example:
        >>> evenly_spaced(9, 3), evenly_spaced(4, 4)
        ([1, 4, 7], [0, 1, 2, 3])
    """
    return [(2 * part + 1) * total // (2 * count) for part in range(count)]


def _opened(video: _Video) -> Any:
    av = av_package()
    if isinstance(video, bytes):
        return av.open(io.BytesIO(video))
    if not video.stat().st_size:
        raise ValueError("it is empty")
    with open(video, "rb"):  # a name is never taken for an address or a device
        return av.open(f"file:{video}")


def _said(video: _Video, what: str) -> int:
    """Return the number of frames that a file says it has, 0 if it does not say."""
    with _opened(video) as container:
        if not container.streams.video:
            kinds = sorted({stream.type for stream in container.streams})
            raise ValueError(f"{what} holds no video{', but ' + ' and '.join(kinds) if kinds else ''}")
        return int(container.streams.video[0].frames)


def _decode(video: _Video, wanted: Any) -> tuple[list[NDArray[np.uint8]], int]:
    """Decode the frames at some places, or all; return them [H, W, 3], and how many there are in all."""
    found, total, places = [], 0, None if wanted is None else {*wanted}
    times: list[float] = []
    with _opened(video) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise ValueError(f"frame {total} is damaged")
            if places is None or total in places:
                pixels = frame.to_ndarray(format="rgb24")
                found.append(np.rot90(pixels, frame.rotation // 90) if frame.rotation % 360 else pixels)
            total += 1
            if frame.time is not None:
                times.append(frame.time)
        _check_end(container, stream, times)
    return found, total


def _check_end(container: Any, stream: Any, times: list[float]) -> None:
    """Raise if frames are missing at the end, which Matroska files do not tell otherwise."""
    if said := stream.metadata.get("DURATION"):
        hours, minutes, seconds = map(float, said.split(":"))
        length = 3600 * hours + 60 * minutes + seconds
    elif len(container.streams) == 1 and not stream.frames and container.duration:
        length = container.duration / 1e6
    else:
        return
    gaps = [later - earlier for earlier, later in pairwise(times)]
    if gaps and length - times[-1] > 2.5 * max(gaps):  # the last frame lasts about as long as others
        raise ValueError(f"it ends after {times[-1] + max(gaps):.3g} of {length:.3g} seconds")


@contextmanager
def _sentences(what: str) -> Iterator[None]:
    """Turn what may go wrong into sentences that name the video."""
    av = av_package()
    try:
        yield
    except av.error.FFmpegError as error:
        raise ValueError(f"{what} cannot be read as a video: {error.strerror}") from error
    except OSError as error:
        raise ValueError(f"{what} cannot be read: {error.strerror}") from error
    except ValueError as error:
        if what in str(error):
            raise
        raise ValueError(f"{what} cannot be read as a video: {error}") from error
