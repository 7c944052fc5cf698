"""Videos with what is told of them at three levels, drawn together: a clip, a phase and a whole video in a sample."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.algorithms.draws import fold, key, uniform
from basinet.sim.data.nests import Nest, map_nest, move_nest
from basinet.sim.data.rows import Stored
from basinet.sim.experiment.digest import digest
from basinet.sim.tasks.vision.procedures.clip_views import DRAWS_OF_VIEW, view_of
from basinet.sim.tasks.vision.procedures.labelled_frames import Views
from basinet.sim.tasks.vision.procedures.text_features import TextFeatures
from basinet.sim.tasks.vision.procedures.vocabulary import Words

__all__ = ["Alternation", "Clip", "Extent", "Phase", "Span", "Told", "ToldVideos", "Video", "filled"]


class Span(NamedTuple):
    """Frames of which something is told.

    Attributes:
        first: The first frame.
        end: The frame behind the last one.
        texts: What is told: candidates for a clip, of which any may fit; one text for a phase or a video.
        steps: Key steps of a phase, which belong to its narrations.
    """

    first: int
    end: int
    texts: tuple[str, ...]
    steps: tuple[str, ...] = ()

    def holds(self, other: "Span") -> bool:
        """Return whether most of another span lies in this one."""
        common = min(self.end, other.end) - max(self.first, other.first)
        return 2 * common > other.end - other.first


class Told(NamedTuple):
    """What is told of a video, at three levels.

    Attributes:
        name: Name of the video.
        clips: Clips and their narrations.
        phases: Phases and the text of each.
        videos: The whole video and its abstract; several parts if it shows several procedures.
    """

    name: str
    clips: tuple[Span, ...]
    phases: tuple[Span, ...]
    videos: tuple[Span, ...]

    @property
    def texts(self) -> list[str]:
        """All texts."""
        spans = (*self.clips, *self.phases, *self.videos)
        return [text for span in spans for text in (*span.texts, *span.steps)]


@dataclass(frozen=True)
class Extent:
    """How much of a video is in a sample.

    Attributes:
        clip_frames: Frames of a clip, F₁.
        phase_frames: Frames of a phase, F₂.
        video_frames: Frames of a video, F₃.
        candidates: Narrations of a clip, C; missing ones are padding.
        steps: Narrations and key steps of a phase, S.
        phases: Texts of the phases of a video, P.
        words: Tokens of each text, T.
        augmented: Whether two augmented views of a clip follow its frames, which makes these 3 F₁.
    """

    clip_frames: int = 2
    phase_frames: int = 4
    video_frames: int = 8
    candidates: int = 2
    steps: int = 3
    phases: int = 8
    words: int = 16
    augmented: bool = False


@dataclass(frozen=True)
class Alternation:
    """In which epochs the losses of the three levels count.

    That of clips counts in each epoch whose number is a multiple of `clip`, and so on. Epoch 0 is for clips alone, as
    in HecVL's training.

    Attributes:
        steps: Steps of an epoch.
        clip: Distance of the epochs in which clips count.
        phase: Distance of the epochs in which phases count.
        video: Distance of the epochs in which videos count.
    """

    steps: int = 1
    clip: int = 1
    phase: int = 3
    video: int = 5

    def at(self, step: int) -> tuple[bool, bool, bool]:
        """Tell which levels count at a step.

        Args:
            step: The step, from 0.

        Returns:
            Whether clips, phases and videos do.

        Example:
            >>> [sum(Alternation().at(epoch)) for epoch in (0, 1, 3, 5, 15)]
            [1, 1, 2, 2, 3]
        """
        epoch = step // self.steps
        phase, video = (epoch > 0 and epoch % distance == 0 for distance in (self.phase, self.video))
        return epoch % self.clip == 0, phase, video

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of the epochs in which the levels count, in the long run."""
        return 1 / self.clip, 1 / self.phase, 1 / self.video


class Clip(NamedTuple):
    """Clips: frames [B, F₁ or 3 F₁, 3, H, W] and candidate narrations [B, C, T]."""

    frames: Any
    narrations: Any


class Phase(NamedTuple):
    """Phases: frames [B, F₂, 3, H, W], texts [B, T], and narrations and key steps within [B, S, T]."""

    frames: Any
    text: Any
    steps: Any


class Video(NamedTuple):
    """Videos: frames [B, F₃, 3, H, W], abstracts [B, T], and the texts of their phases [B, P, T]."""

    frames: Any
    abstract: Any
    phases: Any


class _Tokens(NamedTuple):
    """The texts of a video."""

    clips: list[NDArray[Any]]
    phases: NDArray[Any]
    steps: list[NDArray[Any]]
    videos: NDArray[Any]
    children: list[NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class ToldVideos(Stored):
    """Samples of all three levels: of each video one clip, one phase and the whole, with what is told of them.

    A batch is (clip, phase, video, weights): a `Clip`, a `Phase`, a `Video`, and how much the loss of each level
    counts, [B, 3]. Texts are tokens, int64 padded with 0, or vectors, of which those of missing texts are 0. Which
    clip, phase and frames there are is drawn by the key of the sample; where samples are measured, by their places in
    the data.

    Attributes:
        source: The videos.
        told: What is told of each.
        words: What makes texts tokens, or vectors.
        extent: Sizes of the parts of a sample.
        alternation: When the loss of each level counts.
        origin: A digest of the source.
        device: Where batches are placed.
        dtype: Their floating type.
    """

    source: Views
    told: tuple[Told, ...]
    words: Words | TextFeatures
    extent: Extent
    alternation: Alternation
    origin: str
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32

    @property
    def fingerprint(self) -> str:
        """A digest of the samples, wherever their files are."""
        return digest([self.origin, self.told, self.words.identity, self.extent, self.alternation])

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self.told)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without what is made of them."""
        return {name: value for name, value in vars(self).items() if name != "_tokens"}

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the same videos, to be read to a device and in a floating type; see `Stored`."""
        return replace(self, device=device, dtype=dtype)

    def place(self, batch: Nest) -> Nest:
        """Move a batch to the device, and scale its pixels to [0, 1]; see `Stored`."""
        *levels, weights = move_nest(batch, self.device, self.dtype)
        return (*(level._replace(frames=level.frames.to(self.dtype) / 255) for level in levels), weights)

    def at_step(self, batch: Nest, step: int) -> Nest:
        """Weigh the levels by whether their losses count at a step, and leave nothing of others; see `Stored`.

        Args:
            batch: A nest of tensors [..., B, ...] that was read.
            step: The step.

        Returns:
            A nest of the same structure. Parts of levels that do not count have a last dimension of 0, so that nothing
            is computed for them.
        """
        *levels, weights = batch
        weights = torch.empty_like(weights)
        found = []
        for place, (level, counts) in enumerate(zip(levels, self.alternation.at(step), strict=True)):
            weights[..., place].fill_(float(counts))
            found.append(level if counts else map_nest(lambda t: t[..., :0], level))
        return (*found, weights)

    def fetch(self, rows: Tensor, keys: Tensor | None = None) -> Nest:
        """Draw a clip, a phase and frames of videos; see `Stored`.

        Args:
            rows: Indices of the videos, int64 [B].
            keys: Keys of the draws, int64 [B]; None for those of the places of the videos.

        Returns:
            A batch, with frames in uint8; the levels are weighed by their shares of the epochs.
        """
        keys = fold(torch.tensor([key(0, "measured clips and phases")]), rows) if keys is None else keys
        e = self.extent
        counts = (3, e.clip_frames, e.phase_frames, e.video_frames, e.steps, e.phases)
        drawn = np.split(uniform(keys, (sum(counts),)).numpy(), np.cumsum(counts)[:-1], axis=1)
        samples = [self._sample(row, [part[at] for part in drawn]) for at, row in enumerate(rows.tolist())]
        if e.augmented:
            changes = uniform(fold(keys, 1), (2, DRAWS_OF_VIEW)).numpy()
            for sample, own in zip(samples, changes, strict=True):
                sample[0] = np.concatenate([sample[0], *(view_of(sample[0], drawn) for drawn in own)])
        parts = [torch.from_numpy(np.stack(part)) for part in zip(*samples, strict=True)]
        weights = torch.tensor(self.alternation.shares).expand(len(rows), 3).clone()
        return Clip(*parts[:2]), Phase(*parts[2:5]), Video(*parts[5:]), weights

    def _sample(self, row: int, drawn: list[NDArray[np.float64]]) -> list[NDArray[Any]]:
        """Return the frames and the texts of a sample by numbers in [0, 1)."""
        told, tokens, frames, extent = self.told[row], self._tokens[row], self.source.arrays(row)[0], self.extent
        levels = (told.clips, told.phases, told.videos)
        clip, phase, video = (int(u * len(spans)) for u, spans in zip(drawn[0], levels, strict=True))
        seen = [
            np.asarray(frames[_spread(span.first, span.end, places)])
            for span, places in zip((told.clips[clip], told.phases[phase], told.videos[video]), drawn[1:4], strict=True)
        ]
        steps = _some(tokens.steps[phase], extent.steps, drawn[4])
        children = _some(tokens.children[video], extent.phases, drawn[5])
        texts = tokens.clips[clip], tokens.phases[phase], steps, tokens.videos[video], children
        return [seen[0], texts[0], seen[1], *texts[1:3], seen[2], *texts[3:]]

    @cached_property
    def _tokens(self) -> list[_Tokens]:
        return [self._encoded(told) for told in self.told]

    def _encoded(self, told: Told) -> _Tokens:
        length, words = self.extent.words, self.words
        phases = words.encode_all([span.texts[0] for span in told.phases], length)
        steps = [(*p.steps, *(clip.texts[0] for clip in told.clips if p.holds(clip))) for p in told.phases]
        within = [[at for at, phase in enumerate(told.phases) if video.holds(phase)] for video in told.videos]
        return _Tokens(
            [
                filled(words.encode_all(c.texts[: self.extent.candidates], length), self.extent.candidates)
                for c in told.clips
            ],
            phases,
            [words.encode_all(texts, length) for texts in steps],
            words.encode_all([span.texts[0] for span in told.videos], length),
            [phases[places] for places in within],
        )


def _spread(first: int, end: int, places: NDArray[np.float64]) -> NDArray[np.int64]:
    """Choose one of each of equal parts of a range, by numbers in [0, 1); all differ unless the range is shorter."""
    edges = first + np.arange(len(places) + 1) * (end - first) // len(places)
    found: NDArray[np.int64] = edges[:-1] + (places * np.diff(edges)).astype(np.int64)
    return found


def _some(texts: NDArray[Any], count: int, places: NDArray[np.float64]) -> NDArray[Any]:
    """Choose texts, spread over all, or add padding if there are too few."""
    return texts[_spread(0, len(texts), places)] if len(texts) > count else filled(texts, count)


def filled(texts: NDArray[Any], count: int) -> NDArray[Any]:
    """Add texts that are missing.

    Args:
        texts: [n, T].
        count: Number of texts, at least n.

    Returns:
        [count, T]; 0 behind the n.
    """
    return np.concatenate([texts, np.zeros((count - len(texts), texts.shape[1]), dtype=texts.dtype)])
