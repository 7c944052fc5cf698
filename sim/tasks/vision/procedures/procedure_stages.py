"""Stages of composed procedures: what they are called, and the texture, the tool and its motion that they show."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CENTRES", "DIFFICULTIES", "MOTIONS", "TEXTURES", "TOOLS", "Difficulty", "Stage"]


@dataclass(frozen=True)
class Stage:
    """A stage of procedures, each part by the word that texts use.

    Attributes:
        name: What it is called.
        texture: What is seen behind the tool.
        tool: The tool.
        motion: How the tool moves.
    """

    name: str
    texture: str
    tool: str
    motion: str


@dataclass(frozen=True)
class Difficulty:
    """How hard procedures are to tell apart.

    Attributes:
        stages: The stages that they consist of.
        noise: Standard deviation of the noise of pixels, from 0 to 255.
        gain: Largest share by which videos are darker or brighter.
        wrong: Share of the narrations that are of another stage of the video.
        partial: Share of the narrations that name one part of what is seen only.
        lost: Share of the words that a narration lacks.
        videos: Usual number of training videos.
    """

    stages: tuple[Stage, ...]
    noise: float
    gain: float
    wrong: float
    partial: float
    lost: float
    videos: int


CENTRES = ("first", "second")
"""Places where videos are made, whose textures and noise differ."""

TEXTURES: Mapping[str, tuple[str, str]] = {
    "tissue": ("ihc", "retina"),
    "wall": ("brick", "china"),
    "lawn": ("grass", "flower"),
    "stones": ("gravel", "moon"),
    "sky": ("hubble", "rocket"),
    "metal": ("coins", "motorcycle_left"),
    "paper": ("page", "text"),
    "table": ("coffee", "clock"),
}
"""The photo of each texture in either centre."""

_DRAWN = {
    "cross": "....#....|....#....|....#....|....#....|#########|....#....|....#....|....#....|....#....",
    "ring": "..#####..|.#.....#.|#.......#|#.......#|#.......#|#.......#|#.......#|.#.....#.|..#####..",
    "rod": ".......##|......##.|.....##..|....##...|...##....|..##.....|.##......|##.......|#........",
    "disc": "..#####..|.#######.|#########|#########|#########|#########|#########|.#######.|..#####..",
    "frame": "#########|#.......#|#.......#|#.......#|#.......#|#.......#|#.......#|#.......#|#########",
    "wedge": "....#....|....#....|...###...|...###...|..#####..|..#####..|.#######.|.#######.|#########",
    "fork": "#...#...#|#...#...#|#...#...#|#...#...#|#########|....#....|....#....|....#....|....#....",
    "hook": ".####....|#....#...|#....#...|.....#...|.....#...|.....#...|.....#...|.....#...|.....####",
}

TOOLS: Mapping[str, NDArray[np.bool_]] = {
    name: np.array([[mark == "#" for mark in row] for row in rows.split("|")]) for name, rows in _DRAWN.items()
}
"""The shape of each tool."""


def _resting(time: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    return 0.5 + 0 * time, 0.5 + 0 * time


def _sweeping(time: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    return 0.5 + 0 * time, 0.5 + 0.5 * np.sin(2 * math.pi * time)


def _lifting(time: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    return 0.5 + 0.5 * np.sin(2 * math.pi * time), 0.5 + 0 * time


def _circling(time: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    return 0.5 + 0.5 * np.cos(2 * math.pi * time), 0.5 + 0.5 * np.sin(2 * math.pi * time)


MOTIONS = {"resting": _resting, "sweeping": _sweeping, "lifting": _lifting, "circling": _circling}
"""Ways of tools: the height and the place along the row at times in periods, from 0 to 1."""


def _easy() -> tuple[Stage, ...]:
    names = ("preparation", "dissection", "clipping", "cutting", "rinsing", "sealing", "packing", "inspection")
    ways = [*MOTIONS] * 2
    return tuple(Stage(*parts) for parts in zip(names, TEXTURES, TOOLS, ways, strict=True))


def _hard() -> tuple[Stage, ...]:
    """Return all pairs of four textures and four tools."""
    names = (
        *("opening", "exposure", "dissection", "division", "ligation", "clipping", "cutting", "stapling"),
        *("suturing", "rinsing", "suction", "sealing", "packing", "extraction", "inspection", "closure"),
    )
    textures, tools, ways = [*TEXTURES][:4], [*TOOLS][:4], [*MOTIONS]
    pairs = [divmod(number, 4) for number in range(16)]
    return tuple(
        Stage(name, textures[texture], tools[tool], ways[(texture + tool) % 4])
        for name, (texture, tool) in zip(names, pairs, strict=True)
    )


DIFFICULTIES: Mapping[str, Difficulty] = {
    "easy": Difficulty(_easy(), noise=12, gain=0, wrong=0.1, partial=0.5, lost=0.1, videos=160),
    "hard": Difficulty(_hard(), noise=40, gain=0.2, wrong=0.25, partial=0.8, lost=0.2, videos=80),
}
"""Eight stages with a texture and a tool of their own, which a network tells easily; or sixteen that share four
textures and four tools, in fewer and noisier videos of which less is told."""
