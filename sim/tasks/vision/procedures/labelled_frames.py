"""Frames of test videos with the phases that they show."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.sim.data.nests import Nest, move_nest
from basinet.sim.data.rows import Stored

__all__ = ["Frames", "Labelled", "Views"]


class Views(Protocol):
    """Videos by their places."""

    def arrays(self, row: int) -> list[NDArray[np.uint8]]:
        """Return the frames of a video, uint8 [T, 3, H, W], as the only array."""


@dataclass(frozen=True)
class Frames:
    """A batch for tests: frames of known phases, in the order of time.

    Attributes:
        frames: A frame or more at each time, [B, F, 3, H, W] from 0 to 1.
        phase: The phase, int64 [B].
        video: The number of the video, int64 [B]; videos of all sets are numbered together.
    """

    frames: Tensor
    phase: Tensor
    video: Tensor


@dataclass(frozen=True, eq=False)
class Labelled(Stored):
    """Frames of videos, read when they are needed, which become batches `Frames` of one frame at each time.

    Attributes:
        source: The videos.
        frame: The number of each frame in its video, int64 [n].
        phase: Its phase, int64 [n].
        video: Its video, int64 [n].
        device: Where batches are placed.
        dtype: Their floating type.
    """

    source: Views
    frame: Tensor
    phase: Tensor
    video: Tensor
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32

    @classmethod
    def of(cls, source: Views, phases: Sequence[Sequence[tuple[int, int, int]]]) -> Self:
        """Take the frames of the phases of videos.

        Args:
            source: The videos.
            phases: For each video its phases: the first frame, that behind the last one, and the number of the phase.

        Returns:
            All frames that lie in a phase.
        """
        found = [
            (frame, number, row)
            for row, own in enumerate(phases)
            for first, end, number in own
            for frame in range(first, end)
        ]
        frame, phase, video = torch.tensor(found).unbind(1)
        return cls(source, frame, phase, video)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Put sets together.

        Args:
            parts: The sets, at least one.

        Returns:
            All frames; videos are numbered on from set to set.
        """
        places: list[tuple[Views, int]] = []
        videos = []
        for part in parts:
            videos.append(part.video + len(places))
            places += [(part.source, row) for row in range(part.videos)]
        frame, phase = (torch.cat([getattr(part, name) for part in parts]) for name in ("frame", "phase"))
        return cls(_Joined(tuple(places)), frame, phase, torch.cat(videos))

    @property
    def videos(self) -> int:
        """Number of videos."""
        return int(self.video.max()) + 1

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.phase)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the same frames, to be read to a device and in a floating type; see `Stored`."""
        return replace(self, device=device, dtype=dtype)

    def fetch(self, rows: Tensor, keys: Tensor | None = None) -> Nest:
        """Read frames; see `Stored`."""
        videos, frames = self.video[rows].tolist(), self.frame[rows].tolist()
        pixels = {video: self.source.arrays(video)[0] for video in dict.fromkeys(videos)}
        read = np.stack([pixels[video][frame] for video, frame in zip(videos, frames, strict=True)])
        return Frames(torch.from_numpy(read)[:, None], self.phase[rows], self.video[rows])

    def place(self, batch: Nest) -> Nest:
        """Move a batch to the device, and scale its pixels to [0, 1]; see `Stored`."""
        moved: Any = move_nest(batch, self.device, self.dtype)
        return replace(moved, frames=moved.frames.to(self.dtype) / 255)


@dataclass(frozen=True)
class _Joined:
    """Videos of several sets.

    Attributes:
        places: The set of each, and its place there.
    """

    places: tuple[tuple[Views, int], ...]

    def arrays(self, row: int) -> list[NDArray[np.uint8]]:
        source, place = self.places[row]
        return source.arrays(place)
