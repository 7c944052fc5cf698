"""Features of images and videos by frozen extractors, computed once and kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.sim.data.items import Items
from basinet.sim.data.memory_map import Mapped, Separate, cache_folder, cached, cached_separately
from basinet.sim.experiment.digest import digest
from basinet.sim.vision.extractors.extractor import Extractor
from basinet.sim.vision.extractors.pool import extractors
from basinet.sim.vision.extractors.pretrained import Budget
from basinet.sim.vision.video_files import evenly_spaced

__all__ = ["CLIP", "features", "frozen", "made_for"]

CLIP = "@clip"
"""Appended to the name of an extractor, for how frames change instead of frames."""

_MIDDLE = 512
"""Most rows and columns of frames that are seen, in the middle, which bounds the time that it takes."""


def features(
    names: Sequence[str],
    videos: Any,
    *,
    rows: Tensor | None = None,
    frames: int | None = None,
    cache: str | Path | None = None,
    made: Mapping[str, Extractor] | None = None,
    budget: Budget | None = None,
) -> dict[str, Tensor]:
    """Compute features of videos or images, unless they are kept in files.

    Mean and deviation over space of each layer of an extractor, in the middle 512 × 512 pixels at most of each frame;
    or, with `@clip` appended to its name, of the difference of each layer from that of the frame before.

    Args:
        names: Extractors; see `basinet.sim.vision.extractors.pool.extractors`.
        videos: Videos uint8 [T, 3, H, W] or images uint8 [3, H, W] by their places, such as a list. Features of those
            that are kept separately in files are, too.
        rows: Which of these, int64 [n]; by default all.
        frames: Number of evenly spaced frames, or of changes between adjacent ones; by default all.
        cache: Folder for features and trained networks; by default ~/.cache/basinet.
        made: What `made_for` has made of the names, if it has.
        budget: What networks of the pool are trained with.

    Returns:
        By name, float32 [n, frames, d].

    Raises:
        ExperimentError: A file cannot be read or written, or an extractor cannot be made or used.
        ImportError: A package is not installed.
        ValueError: There is no such extractor, one is named twice, or features of videos differ in shape.
    """
    if len({*names}) < len(names):
        raise ValueError(f"extractors: got {', '.join(names)}; allowed is to name each once")
    folder = cache_folder() if cache is None else Path(cache)
    rows = torch.arange(len(videos)) if rows is None else rows
    made = made_for(names, folder, budget) if made is None else made
    origin = "" if isinstance(videos, Separate) else _origin(videos, rows)
    found = {}
    for name in names:
        source = _Seen(videos, rows, frames, made[name.removesuffix(CLIP)], name.endswith(CLIP), origin)
        items = Items(source=source, name=f"features of {name}")
        kept: Mapped | Separate
        if isinstance(videos, Separate):
            kept = cached_separately(items, source.keys, torch.empty(0, 0), folder)
        else:
            kept = cached(items, folder)
        each: list[Any] = [kept[row] for row in range(len(rows))]
        if len({part.shape for part in each}) > 1:
            shapes = " and ".join(str(tuple(part.shape)) for part in _differing(each))
            raise ValueError(
                f"extractors: features of {name} have the shapes {shapes}; allowed are equal numbers of frames, and"
                " features that do not depend on the size of images"
            )
        found[name] = torch.stack(each)
    return found


def frozen(
    names: Sequence[str], made: Mapping[str, Extractor], frames: int | None = None
) -> Callable[[NDArray[Any]], dict[str, Tensor]]:
    """Apply extractors to one video after another without keeping what they find.

    Args:
        names: Extractors; see `features`.
        made: What `made_for` has made of them.
        frames: Number of evenly spaced frames, or of changes between adjacent ones; by default all.

    Returns:
        A function of a video uint8 [T, 3, H, W]; it returns what `features` does, float32 [frames, d] by name.
    """
    return lambda video: {
        name: _described(video, made[name.removesuffix(CLIP)], frames, is_clip=name.endswith(CLIP)) for name in names
    }


def made_for(names: Sequence[str], folder: Path, budget: Budget | None = None) -> dict[str, Extractor]:
    """Make the extractors of features, each once.

    Args:
        names: Extractors; see `features`.
        folder: Folder for trained networks.
        budget: What networks of the pool are trained with.

    Returns:
        The extractors, by their names without `@clip`.

    Raises:
        ExperimentError: A file or the user's own module cannot be read or made.
        ImportError: A package is not installed.
        ValueError: There is no such extractor.
    """
    bare = list(dict.fromkeys(name.removesuffix(CLIP) for name in names))
    return {each.name: each for each in extractors(bare, folder, budget)}


def _differing(parts: list[Tensor]) -> list[Tensor]:
    """Return the first of two shapes."""
    return [parts[0], next(part for part in parts if part.shape != parts[0].shape)]


def _origin(videos: Any, rows: Tensor) -> str:
    """Digest videos: by their pixels, unless they are in files that have a digest as their name."""
    if isinstance(videos, Mapped):
        return digest([videos.folder.name, rows])
    return digest([digest(videos[row]) for row in rows.tolist()])


@dataclass(frozen=True)
class _Seen:
    """Features of videos by one extractor, as the items of a data set."""

    videos: Any
    rows: Tensor
    frames: int | None
    extractor: Extractor
    is_clip: bool
    origin: str

    @property
    def _made(self) -> list[Any]:
        return [self.extractor.fingerprint, self.frames, self.is_clip, _MIDDLE]

    @cached_property
    def fingerprint(self) -> str:
        """A digest of what the features depend on."""
        return digest([self.origin, self._made])

    @property
    def keys(self) -> list[str]:
        """A digest for each video, of those that are kept separately."""
        return [digest([self.videos.keys[row], self._made]) for row in self.rows.tolist()]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Tensor:
        place = int(self.rows[row])
        video = np.asarray(self.videos.view(place) if hasattr(self.videos, "view") else self.videos[place])
        return _described(video, self.extractor, self.frames, is_clip=self.is_clip)


def _described(video: NDArray[Any], extractor: Extractor, frames: int | None, *, is_clip: bool) -> Tensor:
    """Compute the features of a video, [frames, d]."""
    if video.dtype != np.uint8 or video.ndim not in (3, 4) or video.shape[-3] != 3:
        raise ValueError(
            f"it is of type {video.dtype} and shape {video.shape}; allowed are videos uint8 [frames, 3, height,"
            " width] and images uint8 [3, height, width]"
        )
    video = video.reshape(-1, *video.shape[-3:])
    total = len(video) - is_clip
    count = total if frames is None else frames
    if not 1 <= count <= total:
        what = "changes between frames" if is_clip else "frames"
        raise ValueError(f"it has {total} {what}, and {max(1, count)} are needed")
    places = evenly_spaced(total, count)
    if not is_clip:
        return extractor.of_frames(_middle(video, places))
    return extractor.of_changes(_middle(video, places), _middle(video, [place + 1 for place in places]))


def _middle(video: Any, frames: Sequence[int]) -> Tensor:
    """Read the middle of some frames."""
    top, left = (max(0, size - _MIDDLE) // 2 for size in video.shape[2:])
    return torch.from_numpy(np.stack([video[frame, :, top : top + _MIDDLE, left : left + _MIDDLE] for frame in frames]))
