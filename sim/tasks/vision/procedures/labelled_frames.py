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
    """Frames in memory, a byte a number, which become batches `Frames` of one frame at each time.

    Attributes:
        frames: uint8 [n, 3, H, W].
        phase: The phase of each, int64 [n].
        video: The video of each, int64 [n].
        device: Where batches are placed.
        dtype: Their floating type.
    """

    frames: Tensor
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
        frames, phase, video = [], [], []
        for row, own in enumerate(phases):
            pixels = source.arrays(row)[0]
            for first, end, number in own:
                frames.append(torch.from_numpy(np.array(pixels[first:end])))
                phase += [number] * (end - first)
                video += [row] * (end - first)
        return cls(torch.cat(frames), torch.tensor(phase), torch.tensor(video))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Put sets together.

        Args:
            parts: The sets, at least one.

        Returns:
            All frames; videos are numbered on from set to set.
        """
        videos, count = [], 0
        for part in parts:
            videos.append(part.video + count)
            count += part.videos
        return cls(
            torch.cat([part.frames for part in parts]), torch.cat([part.phase for part in parts]), torch.cat(videos)
        )

    @property
    def videos(self) -> int:
        """Number of videos."""
        return int(self.video.max()) + 1

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frames)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the same frames, to be read to a device and in a floating type; see `Stored`."""
        return replace(self, device=device, dtype=dtype)

    def fetch(self, rows: Tensor, keys: Tensor | None = None) -> Nest:
        """Read frames; see `Stored`."""
        return Frames(self.frames[rows][:, None], self.phase[rows], self.video[rows])

    def place(self, batch: Nest) -> Nest:
        """Move a batch to the device, and scale its pixels to [0, 1]; see `Stored`."""
        moved: Any = move_nest(batch, self.device, self.dtype)
        return replace(moved, frames=moved.frames.to(self.dtype) / 255)
