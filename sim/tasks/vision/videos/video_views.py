"""What models see of videos: fragments of their frames, or a crop, read from memory-mapped files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.algorithms.draws import uniform
from basinet.sim.data.items import Items
from basinet.sim.data.memory_map import Mapped, Separate, cached, cached_separately
from basinet.sim.data.nests import Nest, move_nest
from basinet.sim.data.rows import Stored
from basinet.sim.experiment.digest import digest
from basinet.sim.vision.colours import luma
from basinet.sim.vision.scene_statistics import motion_statistics, scene_statistics
from basinet.sim.vision.video_files import evenly_spaced

__all__ = ["KINDS", "Fragments", "Rated", "Videos", "both_rates", "kept_videos", "statistics_of"]

KINDS = ("nonsource", "source")
"""Kinds of pairs of videos: of different contents and similar quality, and of the same content."""

_MIDDLE = 512
"""Most rows and columns of frames whose statistics are computed, which bounds the time that these take."""

_REVISION = 2
"""Of the statistics; another one makes them anew."""


class Rated(NamedTuple):
    """Videos with scores.

    Attributes:
        source: Videos uint8 [T, 3, H, W] by their places, with `names` and a `fingerprint`.
        rows: Places of the videos for training, and for tests if there are any, by "train" and "test".
        scores: Scores of all videos [n, 1].
        names: Names of the test videos.
        pairs: Pairs of test videos by their kind; see `VideoQuality`.
        columns: What else is known of the training videos.
        remark: What tests with them do not tell, in words.
    """

    source: Any
    rows: dict[str, Tensor]
    scores: Tensor
    names: tuple[str, ...]
    pairs: dict[str, Tensor]
    columns: dict[str, NDArray[Any]]
    remark: str = ""


@dataclass(frozen=True)
class Fragments:
    """A small video that is put together from patches of each frame at its native resolution.

    Frames are divided into a grid of equal cells, and a patch is cut out of each, at the same place in all frames. A
    grid of one cell makes a crop.

    Attributes:
        grid: Number of cells in a row, and in a column.
        patch: Height and width of a patch.

    References:
        H. Wu et al.: FAST-VQA: Efficient end-to-end video quality assessment with fragment sampling, ECCV 2022,
        arXiv:2207.02595.
    """

    grid: int
    patch: int

    @property
    def side(self) -> int:
        """Height and width of the small video."""
        return self.grid * self.patch

    def check(self, size: Sequence[int], name: str) -> None:
        """Raise unless the patches fit into the cells of frames.

        Args:
            size: Height and width of the frames.
            name: What to call them.

        Raises:
            ValueError: They do not fit.
        """
        height, width = size
        if min(height, width) // self.grid < self.patch:
            patches = f"{self.grid} × {self.grid} patches" if self.grid > 1 else "a crop"
            raise ValueError(
                f"{name} has {width} × {height} pixels, too few for {patches} of {self.patch} × {self.patch}"
            )

    def cut(self, video: NDArray[np.uint8], places: NDArray[np.float64], out: NDArray[np.uint8]) -> None:
        """Cut a small video out of a larger one.

        Args:
            video: [T, 3, H, W].
            places: Where the patch is in the room that its cell has, from 0 for the top left to 1, [grid, grid, 2].
            out: Where it is written, [T, 3, side, side].
        """
        edges = [[cell * size // self.grid for cell in range(self.grid + 1)] for size in video.shape[2:]]
        for row in range(self.grid):
            for column in range(self.grid):
                (top, below), (left, right) = (
                    edge[cell : cell + 2] for edge, cell in zip(edges, (row, column), strict=True)
                )
                y = top + int(places[row, column, 0] * (below - top - self.patch + 1))
                x = left + int(places[row, column, 1] * (right - left - self.patch + 1))
                down, along = (slice(cell * self.patch, (cell + 1) * self.patch) for cell in (row, column))
                out[:, :, down, along] = video[:, :, y : y + self.patch, x : x + self.patch]

    def of(self, video: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the small video of one, of the middle of each cell; see `cut`."""
        out = np.empty((*video.shape[:2], self.side, self.side), dtype=np.uint8)
        self.cut(video, np.full((self.grid, self.grid, 2), 0.5), out)
        return out


@dataclass(frozen=True, kw_only=True, eq=False)
class Videos(Stored):
    """Fragments of videos and their scores: at random places for agents that draw them, at fixed ones when measured.

    Attributes:
        source: The videos, uint8 [T, 3, H, W] each, all with as many frames.
        rows: Which of these there are, int64 [n].
        scores: Their scores, [n, 1].
        fragments: What is cut out of them.
        origin: A digest of the source.
        device: Where batches are placed.
        dtype: Their floating type.
    """

    source: Mapped | Separate
    rows: Tensor
    scores: Tensor
    fragments: Fragments
    origin: str
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32

    @property
    def fingerprint(self) -> str:
        """A digest of the samples, wherever their files are."""
        return digest([self.origin, self.rows, self.scores, self.fragments])

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self.rows)

    def chosen(self, rows: Tensor) -> Self:
        """Choose videos; see `Stored`."""
        return replace(self, rows=self.rows[rows], scores=self.scores[rows.to(self.scores.device)])

    def fetch(self, rows: Tensor, keys: Tensor | None = None) -> Nest:
        """Cut fragments out of videos; see `Stored`.

        Args:
            rows: Indices of the videos, int64 [B].
            keys: Keys of the random places, int64 [B]; None for fixed ones.

        Returns:
            Fragments uint8 [B, T, 3, S, S], and scores [B, 1].
        """
        grid, side = self.fragments.grid, self.fragments.side
        shape = (grid, grid, 2)
        places = np.full((len(rows), *shape), 0.5) if keys is None else uniform(keys, shape).numpy()
        found = np.empty((len(rows), *self.source.arrays(0)[0].shape[:2], side, side), dtype=np.uint8)
        for row, place, out in zip(self.rows[rows].tolist(), places, found, strict=True):
            self.fragments.cut(self.source.arrays(row)[0], place, out)
        return torch.from_numpy(found), self.scores[rows]

    def place(self, batch: Nest) -> Nest:
        """Move a batch to the device, and scale its pixels to [0, 1]; see `Stored`."""
        video, scores = move_nest(batch, self.device, self.dtype)
        return video.to(self.dtype) / 255, scores

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the same videos, to be read to a device and in a floating type; see `Stored`."""
        return replace(self, device=device, dtype=dtype)


def kept_videos(source: Any, folder: Path, name: str = "videos") -> Mapped | Separate:
    """Decode videos, unless they are kept in files.

    Args:
        source: The videos, uint8 [T, 3, H, W], with a `fingerprint`; or with `keys`, one for each, to be kept
            separately, so that others with some of these videos share them, and a bad one does not lose the rest.
        folder: The folder of all that is kept.
        name: What they are, for messages.

    Returns:
        The same videos.

    Raises:
        ExperimentError: The folder cannot be written, or a video cannot be read.
    """
    items = Items(source=source, name=name)
    if hasattr(source, "keys"):
        return cached_separately(items, source.keys, torch.empty(0, 0, 0, 0, dtype=torch.uint8), folder)
    # Without the first video, which workers would be sent.
    return Mapped(cached(items, folder).folder, torch.empty(0))


def statistics_of(source: Mapped | Separate, origin: str, rows: Tensor, key_frames: int | None) -> Tensor:
    """Compute statistics of videos, unless they are kept beside them.

    Args:
        source: The videos.
        origin: A digest of them.
        rows: Which of these, int64 [n].
        key_frames: Number of evenly spaced frames whose scene statistics are computed, K; None for the motion between
            all frames.

    Returns:
        Scene statistics [n, K, 36], or statistics of motion [n, T − 1, 6]; float64.
    """
    made = [key_frames, _MIDDLE, _REVISION]
    items = Items(source=_Statistics(source, digest([origin, rows, made]), rows, key_frames), name="statistics")
    kept: Mapped | Separate
    if isinstance(source, Separate):
        keys = [digest([source.keys[row], made]) for row in rows.tolist()]
        kept = cached_separately(items, keys, torch.empty(0, 0, dtype=torch.float64), source.folder)
    else:
        kept = cached(items, source.folder.parent)
    found: list[Any] = [kept[row] for row in range(len(rows))]
    return torch.stack(found)


@dataclass(frozen=True)
class _Statistics:
    """Statistics of videos, as the items of a data set."""

    source: Mapped | Separate
    fingerprint: str
    rows: Tensor
    key_frames: int | None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Tensor:
        (video,) = self.source.arrays(int(self.rows[row]))
        return _motion(video) if self.key_frames is None else _scenes(video, self.key_frames)


def both_rates(video: Tensor, key_frames: int) -> tuple[Tensor, Tensor]:
    """Compute the statistics of a video at two rates, of the middle of its frames.

    Args:
        video: uint8 [T, 3, H, W].
        key_frames: Number of key frames, K.

    Returns:
        Scene statistics of evenly spaced frames [K, 36], and statistics of all motion [T − 1, 6], float64.
    """
    return _scenes(video.numpy(), key_frames), _motion(video.numpy())


def _scenes(video: NDArray[np.uint8], key_frames: int) -> Tensor:
    return scene_statistics(_brightness(video, evenly_spaced(len(video), key_frames)))


def _motion(video: NDArray[np.uint8]) -> Tensor:
    return motion_statistics(_brightness(video, range(len(video))))


def _brightness(video: NDArray[np.uint8], frames: Sequence[int]) -> Tensor:
    """Return the luma of the middle of some frames; only these are read."""
    top, left = (max(0, size - _MIDDLE) // 2 for size in video.shape[2:])
    shown = np.stack([video[frame, :, top : top + _MIDDLE, left : left + _MIDDLE] for frame in frames])
    return luma(torch.from_numpy(shown).double() / 255)
