"""Clips cut from photos, distorted at known levels, with the scores that annotators might give."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.algorithms.draws import fold, integers, key, normal, permutation, uniform
from basinet.sim.experiment.digest import digest
from basinet.sim.tasks.vision.video_views import Rated
from basinet.sim.vision.codecs import codec_settings
from basinet.sim.vision.colours import luma
from basinet.sim.vision.distortions import DISTORTIONS, REVISION
from basinet.sim.vision.photos import PHOTOS, motif, read_photo
from basinet.sim.vision.video_files import av_versions

__all__ = ["PARTS", "VERSIONS", "Clip", "Clips", "mean_opinion", "quality_of", "rated_clips", "rated_pairs"]

PARTS = {"train": 418, "validation": 60, "test": 122}
"""Contents in the parts of KVQ, which has 7 versions of each: 2926, 420 and 854 videos."""

VERSIONS = 7
"""Versions of a content: as it is, and at six levels of distortion."""

RATERS = 18
"""Annotators whose scores are averaged."""

_CODECS = ("x264", "x265", "vp9", "av1")
_OTHERS = ("blur", "denoise", "rescale", "sharpen")

_FASTEST = 2
"""Pixels that a window moves in a frame, at most, down and to the right."""

_LEAST_DEVIATION = 12.0
"""Smallest deviation of the luma in a region that shows something."""

_DISAGREEMENT = 0.7
"""Deviation of an annotator from the true quality."""

_SIMILAR = 0.5
"""Largest difference of the scores of a pair of videos of different contents."""


@dataclass(frozen=True)
class Clip:
    """A version of a content.

    Attributes:
        content: Place of the content.
        photo: The photo that it is cut from.
        corner: Row and column of the window in the first frame.
        velocity: Rows and columns that it moves in a frame.
        distortion: Name of the distortion, or "source".
        level: Its level, from 0 for none to 1.
        strength: Its strength.
    """

    content: int
    photo: str
    corner: tuple[int, int]
    velocity: tuple[int, int]
    distortion: str
    level: float
    strength: float

    @property
    def name(self) -> str:
        """Name of the clip, like that of a file."""
        suffix = "" if self.distortion == "source" else f"_{self.strength:g}"
        return f"{self.content:03}_{self.photo}_{self.distortion}{suffix}.mp4"


class Clips:
    """Clips of windows that move over disjoint regions of photos, 7 versions of each content, one after another.

    A processed version goes through one of four codecs, or (two of the six) is blurred, denoised, rescaled or
    sharpened. Its level is drawn from one of six equal parts of [0, 1], and the distortion is drawn as well. All draws
    are the same in every run.

    Args:
        contents: Number of contents.
        size: Height and width of a clip.
        frames: Number of its frames.

    Attributes:
        clips: What they are.
        names: What they are called.
        shares: Number of contents in each part.

    Raises:
        ValueError: The photos have fewer regions of this size, or there is no content for a part of the data.
    """

    def __init__(self, contents: int, size: int, frames: int) -> None:
        self.size, self.frames = size, frames
        least = next(n for n in range(3, 100) if min(_shares(n).values()) > 0)
        if contents < least:
            raise ValueError(f"contents is {contents}; allowed are at least {least}, one for each part of the data")
        self.shares = _shares(contents)
        reach = size + _FASTEST * (frames - 1)
        regions = [*_regions(reach, contents)]
        if len(regions) < contents:
            raise ValueError(
                f"contents is {contents}; allowed are at most {len(regions)}, the regions of {reach} × {reach} pixels"
                " of the photos that show something"
            )
        self.clips = [clip for content, region in enumerate(regions) for clip in _versions(content, *region, frames)]
        self.names = [clip.name for clip in self.clips]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, row: int) -> Tensor:
        """Return the pixels of a clip, uint8 [T, 3, H, W]."""
        clip = self.clips[row]
        source = _moving(clip.photo, clip.corner, clip.velocity, self.size, self.frames)
        if clip.distortion == "source":
            return source
        return DISTORTIONS[clip.distortion].apply(source, clip.strength)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of what the pixels depend on: the clips, the photos, the distortions and the codecs."""
        photos = [digest([_photo(name)]) for name in dict.fromkeys(clip.photo for clip in self.clips)]
        made = [REVISION, codec_settings(), av_versions()]
        return digest([[vars(clip) for clip in self.clips], self.size, self.frames, photos, made])

    def part(self, which: Literal["train", "validation", "test"]) -> Tensor:
        """Return the places of the clips of a part, which shares no content with the others.

        Args:
            which: The part.

        Returns:
            int64 [n].
        """
        total = sum(self.shares.values())
        order = permutation(torch.tensor([key(0, "parts of contents")]), torch.tensor([total]), total)[0]
        ends = dict(zip(PARTS, accumulate(self.shares.values()), strict=True))
        chosen = order[ends[which] - self.shares[which] : ends[which]].sort().values
        rows: Tensor = chosen[:, None] * VERSIONS + torch.arange(VERSIONS)
        return rows.flatten()

    def scores(self) -> Tensor:
        """Return the mean opinion score of each clip, float32 [n]: see `quality_of` and `mean_opinion`."""
        levels = torch.tensor([clip.level for clip in self.clips], dtype=torch.float64)
        return mean_opinion(quality_of(levels), key(0, "annotators")).float()


def rated_clips(contents: int, size: int, frames: int, test: Literal["test", "validation"]) -> Rated:
    """Make clips of photos, and rate them.

    Args:
        contents: See `Clips`.
        size: See `Clips`.
        frames: See `Clips`.
        test: The part that is tested.

    Returns:
        The clips.
    """
    clips = Clips(contents, size, frames)
    rows = {"train": clips.part("train"), "test": clips.part(test)}
    scores = clips.scores()
    train, held = ([clips.clips[row] for row in part.tolist()] for part in rows.values())
    content, level = np.array([clip.content for clip in held]), np.array([clip.level for clip in held])
    columns = {name: np.array([getattr(clip, name) for clip in train]) for name in ("content", "photo", "distortion")}
    pairs = rated_pairs(content, level, scores[rows["test"]])
    shared = {clip.photo for clip in held} & {*columns["photo"].tolist()}
    remark = "test clips show other regions of the photos of training" if shared else ""
    return Rated(clips, rows, scores[:, None], tuple(clip.name for clip in held), pairs, columns, remark)


def quality_of(level: Tensor) -> Tensor:
    r"""Return the true quality $1 + 4 / (1 + \exp((ℓ − 0.5) / 0.18))$ at a level of distortion, which it falls with.

    Args:
        level: Levels ℓ from 0 to 1.

    Returns:
        Between 1 and 5.
    """
    return 1 + 4 * torch.sigmoid((0.5 - level) / 0.18)


def mean_opinion(quality: Tensor, seed: int) -> Tensor:
    """Average what annotators say: each deviates from the true quality, and chooses among 1, 1.5, …, 5.

    Args:
        quality: True qualities [n].
        seed: Key of the deviations.

    Returns:
        The mean of 18 of them, a multiple of 1/36.
    """
    noise = normal(torch.tensor([seed]), (len(quality), RATERS))[0]
    said = ((quality[:, None] + _DISAGREEMENT * noise) * 2).round().clamp(2, 10)
    return said.sum(1) / (2 * RATERS)


def rated_pairs(contents: NDArray[np.int64], levels: NDArray[np.float64], scores: Tensor) -> dict[str, Tensor]:
    """List pairs of clips that are hard to tell apart.

    Args:
        contents: Content of each clip, in order.
        levels: Its level of distortion.
        scores: Its mean opinion score.

    Returns:
        "source" for adjacent levels of the same content, and "nonsource", as many as there are clips at most, for
        different contents whose scores differ by at most 0.5: int64 [P, 3], the places of two clips, in a random order,
        and 1 if the first one has the higher score, or else 2. Pairs of equal scores are left out.
    """
    order = np.lexsort((levels, contents))
    near = [(a, b) for a, b in pairwise(order) if contents[a] == contents[b]]
    places = np.arange(len(contents))
    gaps = (scores[:, None] - scores[None]).abs().numpy()
    apart = (gaps <= _SIMILAR) & (contents[:, None] != contents[None]) & (places[:, None] < places[None])
    far = np.argwhere(apart & (gaps > 0))
    chosen = permutation(torch.tensor([key(0, "pairs")]), torch.tensor([max(1, len(far))]), max(1, len(far)))[0]
    far = far[chosen[: len(contents)].numpy()] if len(far) else far
    return {kind: _judged(np.array(found), scores, kind) for kind, found in (("source", near), ("nonsource", far))}


def _judged(pairs: NDArray[np.int64], scores: Tensor, kind: str) -> Tensor:
    """Turn some pairs round, and say which clip is the better one."""
    found = torch.from_numpy(pairs.reshape(-1, 2).astype(np.int64))
    turned = integers(torch.tensor([key(0, "turned pairs", kind)]), 2, (len(found),))[0].bool()
    found = torch.where(turned[:, None], found.flip(1), found)
    first, second = scores[found[:, 0]], scores[found[:, 1]]
    judged = torch.cat([found, torch.where(first > second, 1, 2)[:, None]], 1)
    return judged[first != second]


def _shares(contents: int) -> dict[str, int]:
    """Divide contents as KVQ's are."""
    total = sum(PARTS.values())
    tested, validated = (round(PARTS[part] * contents / total) for part in ("test", "validation"))
    return {"train": contents - tested - validated, "validation": validated, "test": tested}


def _regions(side: int, most: int) -> Iterator[tuple[str, int, int]]:
    """Choose disjoint regions that show something, in turns from each photo: its name, and the region's corner."""
    shown = {motif(name): name for name in reversed(PHOTOS)}  # the first photo of each motif
    cells = {name: _cells(name, side) for name in PHOTOS if shown[motif(name)] == name}
    found = 0
    while cells and found < most:
        for name in [*cells]:
            if found == most:
                return
            if (corner := next(cells[name], None)) is None:
                del cells[name]
            else:
                found += 1
                yield name, *corner


def _cells(photo: str, side: int) -> Iterator[tuple[int, int]]:
    """List the corners of disjoint regions of a photo that show something, in a random order."""
    pixels = _photo(photo)
    rows, columns = (size // side for size in pixels.shape[1:])
    count = rows * columns
    if not count:
        return
    for cell in permutation(torch.tensor([key(0, "regions", photo)]), torch.tensor([count]), count)[0].tolist():
        top, left = cell // columns * side, cell % columns * side
        if luma(pixels[:, top : top + side, left : left + side].double() / 255).std() >= _LEAST_DEVIATION:
            yield top, left


def _versions(content: int, photo: str, top: int, left: int, frames: int) -> Iterator[Clip]:
    """Describe the versions of a content, the source first, then by level."""
    drawn = torch.tensor([key(0, "content", content)])
    speeds = range(-_FASTEST, _FASTEST + 1)
    moves = [(down, right) for down in speeds for right in speeds if down or right]
    down, right = moves[int(integers(drawn, len(moves), (1,)))]
    corner = _start(top, down, frames), _start(left, right, frames)
    yield Clip(content, photo, corner, (down, right), "source", 0.0, 0.0)
    chosen = [*_CODECS, *_shuffled(_OTHERS, fold(drawn, 1))[: VERSIONS - 1 - len(_CODECS)]]
    places = uniform(fold(drawn, 2), (VERSIONS - 1,))[0]
    for step, name in enumerate(_shuffled(chosen, fold(drawn, 3))):
        level = (step + float(places[step])) / (VERSIONS - 1)
        yield Clip(content, photo, corner, (down, right), name, level, DISTORTIONS[name].strength(level))


def _start(corner: int, speed: int, frames: int) -> int:
    """Return where a window begins, so that its way lies in the middle of a region."""
    slack = (_FASTEST - abs(speed)) * (frames - 1)
    return corner + slack // 2 + max(0, -speed) * (frames - 1)


def _shuffled(names: Sequence[str], drawn: Tensor) -> list[str]:
    order = permutation(drawn, torch.tensor([len(names)]), len(names))[0]
    return [names[place] for place in order.tolist()]


@lru_cache(maxsize=1)
def _moving(photo: str, corner: tuple[int, int], velocity: tuple[int, int], size: int, frames: int) -> Tensor:
    """Cut a moving window out of a photo."""
    pixels = _photo(photo)
    corners = [[at + time * speed for at, speed in zip(corner, velocity, strict=True)] for time in range(frames)]
    return torch.stack([pixels[:, top : top + size, left : left + size] for top, left in corners])


_photo = lru_cache(maxsize=len(PHOTOS))(read_photo)
