"""Videos of procedures composed of stages: a tool that moves over the texture of a photo, with noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.algorithms.draws import fold, integers, key, normal, uniform
from basinet.sim.experiment.digest import digest
from basinet.sim.tasks.vision.procedures.procedure_stages import (
    CENTRES,
    DIFFICULTIES,
    MOTIONS,
    TEXTURES,
    TOOLS,
    Difficulty,
)
from basinet.sim.tasks.vision.procedures.told_videos import Span, Told
from basinet.sim.tasks.vision.procedures.wording import DRAWS, abstract, narration, phase_text
from basinet.sim.vision.photo_regions import photo_pixels

__all__ = ["KINDS", "SIDE", "Composed", "Part", "Procedure", "compose", "region_of", "tell"]

KINDS = ("removal", "repair")
"""Kinds of procedures: in a repair, stages that are rare in a removal are frequent, and come in the reverse order."""

SIDE = 32
"""Height and width of frames."""

_REVISION = 1
"""Of how videos are made and rendered."""

_FEWEST, _MOST = 4, 6
_SHORTEST, _LONGEST = 6, 11
_CLIP = 3

_FREQUENT = 3.0
"""How much more frequent the first half of the stages is in a removal."""

_TRAINING_SHARE = 0.65
"""Share of the columns of a photo that training videos show; tests show the others."""

_CORNERS = 4
"""Regions of a photo that are drawn for a phase, of which it shows the one of the greatest contrast."""

_JITTER = 2
_LIGHT, _SHADOW = 235, 20
_SECOND_CAST = (1.2, 1.0, 0.8)
_SECOND_NOISE = 1.5

Part = Literal["train", "test"]


@dataclass(frozen=True)
class Procedure:
    """A video.

    Attributes:
        number: Its number, from which all draws are.
        difficulty: Name of the difficulty.
        kind: Kind of procedure.
        centre: Where it was made.
        part: "train" or "test", which show other regions of the photos.
        stages: Numbers of its stages, in order.
        lengths: Number of frames of each.
    """

    number: int
    difficulty: str
    kind: str
    centre: str
    part: Part
    stages: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the video."""
        return f"{self.part}_{self.kind}_{self.centre}_{self.number:04}"

    @property
    def phases(self) -> list[tuple[int, int, int]]:
        """For each stage the first frame, that behind the last one, and its number."""
        edges = pairwise(accumulate(self.lengths, initial=0))
        return [(first, end, stage) for (first, end), stage in zip(edges, self.stages, strict=True)]

    def drawn(self, purpose: str) -> Tensor:
        """Return the key of its draws for a purpose, int64 [1]."""
        return torch.tensor([key(0, "procedures", self.difficulty, self.name, purpose)])


def compose(difficulty: str, kind: str, centre: str, part: Part, number: int) -> Procedure:
    """Choose the stages of a video.

    Args:
        difficulty: Name of the difficulty.
        kind: Kind of procedure.
        centre: Where it is made.
        part: "train" or "test".
        number: Its number.

    Returns:
        Four to six different stages of 6 to 11 frames, in the order of its kind but for a random exchange of two
        neighbours.
    """
    bare = Procedure(number, difficulty, kind, centre, part, (), ())
    total = len(DIFFICULTIES[difficulty].stages)
    count = _FEWEST + int(integers(bare.drawn("count"), _MOST - _FEWEST + 1, (1,)))
    weights = torch.ones(total, dtype=torch.float64)
    weights[: total // 2] = _FREQUENT
    weights = weights if kind == KINDS[0] else weights.flip(0)
    # Without replacement: the first arrivals of processes with these rates.
    arrivals = -torch.log1p(-uniform(bare.drawn("stages"), (total,))[0]) / weights
    chosen = sorted(arrivals.argsort()[:count].tolist(), reverse=kind != KINDS[0])
    at = int(integers(bare.drawn("exchange"), count - 1, (1,)))
    chosen[at : at + 2] = reversed(chosen[at : at + 2])
    lengths = _SHORTEST + integers(bare.drawn("lengths"), _LONGEST - _SHORTEST + 1, (count,))[0]
    return Procedure(number, difficulty, kind, centre, part, tuple(chosen), tuple(lengths.tolist()))


def tell(procedure: Procedure, candidates: int) -> Told:
    """Tell what is seen in a video.

    Args:
        procedure: The video.
        candidates: Narrations of each clip.

    Returns:
        Clips of three to five frames with their narrations, phases, and the whole video.
    """
    difficulty = DIFFICULTIES[procedure.difficulty]
    stages = [difficulty.stages[number] for number in procedure.stages]
    drawn = procedure.drawn("texts")
    phases, clips = [], []
    for place, (first, end, _) in enumerate(procedure.phases):
        phases.append(Span(first, end, (phase_text(stages[place], fold(drawn, place)),)))
        count = (end - first) // _CLIP
        clips += [
            (place, first + (end - first) * at // count, first + (end - first) * (at + 1) // count)
            for at in range(count)
        ]
    numbers = uniform(procedure.drawn("narrations"), (len(clips), candidates, DRAWS))[0].tolist()
    told = [
        Span(first, end, tuple(narration(stages, place, difficulty, own) for own in said))
        for (place, first, end), said in zip(clips, numbers, strict=True)
    ]
    about = abstract(procedure.kind, stages, fold(drawn, len(stages)))
    whole = Span(0, sum(procedure.lengths), (about,))
    return Told(procedure.name, tuple(told), tuple(phases), (whole,))


def region_of(photo: NDArray[np.uint8], part: Part) -> NDArray[np.uint8]:
    """Return the columns of a photo that a part of the data shows.

    Args:
        photo: [3, H, W].
        part: "train" for those on the left, "test" for the others.

    Returns:
        [3, H, some of W].
    """
    border = int(photo.shape[2] * _TRAINING_SHARE)
    return photo[:, :, :border] if part == "train" else photo[:, :, border:]


class Composed:
    """Composed videos, rendered when they are looked at; the last ones stay in memory.

    Args:
        procedures: What they show.
    """

    def __init__(self, procedures: Sequence[Procedure]) -> None:
        self.procedures = tuple(procedures)

    def __len__(self) -> int:
        return len(self.procedures)

    def arrays(self, row: int) -> list[NDArray[np.uint8]]:
        """Return the frames of a video, uint8 [T, 3, 32, 32], as the only array."""
        return [_rendered(self.procedures[row])]

    @cached_property
    def fingerprint(self) -> str:
        """A digest of what the frames depend on."""
        places = {CENTRES.index(procedure.centre) for procedure in self.procedures}
        photos = [digest([photo_pixels(pair[place])]) for pair in TEXTURES.values() for place in sorted(places)]
        return digest([[vars(procedure) for procedure in self.procedures], photos, _REVISION])


@lru_cache(maxsize=1024)
def _rendered(procedure: Procedure) -> NDArray[np.uint8]:
    """Render a video; 1024 of them take some 130 MB."""
    difficulty, second = DIFFICULTIES[procedure.difficulty], procedure.centre != CENTRES[0]
    frames = np.concatenate([_phase(procedure, difficulty, place) for place in range(len(procedure.stages))])
    gain = 1 + difficulty.gain * (2 * float(uniform(procedure.drawn("gain"), (1,))) - 1)
    if second:
        frames *= np.array(_SECOND_CAST)[:, None, None]
    noise = normal(procedure.drawn("noise"), frames.shape, dtype=torch.float32)[0].numpy()
    frames = frames * gain + noise * difficulty.noise * (_SECOND_NOISE if second else 1)
    made: NDArray[np.uint8] = frames.round().clip(0, 255).astype(np.uint8)
    made.setflags(write=False)
    return made


def _phase(procedure: Procedure, difficulty: Difficulty, place: int) -> NDArray[np.float64]:
    """Render a phase without noise, [T, 3, 32, 32]."""
    stage, length = difficulty.stages[procedure.stages[place]], procedure.lengths[place]
    drawn = fold(procedure.drawn("phases"), place)
    photo = photo_pixels(TEXTURES[stage.texture][CENTRES.index(procedure.centre)]).numpy()
    region = region_of(photo, procedure.part)
    room = SIDE + _JITTER
    corners = uniform(drawn, (_CORNERS, 2))[0].numpy()
    cuts = []
    for y, x in corners:
        top, left = (int(u * (size - room + 1)) for u, size in zip((y, x), region.shape[1:], strict=True))
        cuts.append(region[:, top : top + room, left : left + room])
    window = max(cuts, key=lambda cut: float(cut.std()))
    shifts = integers(fold(drawn, 1), _JITTER + 1, (length, 2))[0].tolist()
    frames = np.stack([window[:, y : y + SIDE, x : x + SIDE] for y, x in shifts]).astype(np.float64)
    start, speed = uniform(fold(drawn, 2), (2,))[0].tolist()
    ways = MOTIONS[stage.motion](start + np.arange(length) * (0.12 + 0.08 * speed))
    tool = TOOLS[stage.tool]
    slack = SIDE - len(tool) - 1
    offset = (uniform(fold(drawn, 3), (2,))[0].numpy() - 0.5) * slack / 2 if stage.motion == "resting" else np.zeros(2)
    for frame, *at in zip(frames, *ways, strict=True):
        y, x = (round(u * slack + shift) for u, shift in zip(at, offset, strict=True))
        for value, shift in ((_SHADOW, 1), (_LIGHT, 0)):
            down, along = (slice(corner + shift, corner + shift + len(tool)) for corner in (y, x))
            frame[:, down, along][:, tool] = value
    return frames
