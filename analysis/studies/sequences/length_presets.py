"""Sizes of the study of S³Attention: in minutes, and those of the paper."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ARENA", "SMALL", "Course", "Preset"]


@dataclass(frozen=True)
class Course:
    """A task and how models are trained on it.

    Attributes:
        title: What the task is called.
        task: The task, with the length of its sequences where this is not varied.
        model: The sizes of all models.
        lr: The largest learning rate of AdamW, the same for all models.
        weight_decay: Its weight decay.
        steps: Number of steps.
        batch: Samples of a step, of all agents together.
        lengths: Settings of the task for other lengths, by the length, at which three of the models are trained.
    """

    title: str
    task: Mapping[str, Any]
    model: Mapping[str, Any]
    lr: float
    weight_decay: float
    steps: int
    batch: int
    lengths: Mapping[int, Mapping[str, Any]]


@dataclass(frozen=True)
class Preset:
    """The size of a study.

    Attributes:
        about: What it takes, in a sentence.
        listops: Nested lists.
        pixels: Images as sequences.
        lengths: Lengths at which time and memory of a step are measured; the time is compared between the first and the
            last.
    """

    about: str
    listops: Course
    pixels: Course
    lengths: tuple[int, ...] = (256, 512, 1024, 2048, 3072, 4096)


SMALL = Preset(
    about="Small tasks of the same kind, in minutes on two processors.",
    listops=Course(
        title="nested lists",
        task={"name": "listops", "nested": 0.4, "max_length": 64, "train_size": 10_000, "test_size": 1_500},
        model={"width": 32, "hidden": 64},
        lr=4e-3,
        weight_decay=0.0,
        steps=500,
        batch=32,
        lengths={},
    ),
    pixels=Course(
        title="pixels",
        task={"name": "pixel_sequence", "size": 12, "train_size": 4_000, "test_size": 1_500},
        model={"width": 32, "hidden": 64},
        lr=4e-3,
        weight_decay=0.0,
        steps=300,
        batch=32,
        lengths={36: {"size": 6}, 64: {"size": 8}},
    ),
)
"""The default."""

ARENA = Preset(
    about=(
        "Generated lists of the Long Range Arena's lengths and patches of 32 × 32 pixels, with the paper's sizes and"
        " training. A step of S³Attention on 32 lists takes some 1.2 processor seconds, and one of softmax attention"
        " 4.2; the trainings of three seeds take about 500 processor hours."
    ),
    listops=Course(
        title="nested lists",
        task={
            "name": "listops", "min_length": 500, "max_length": 2000, "depth": 9, "arguments": 10, "nested": 0.25,
            "train_size": 96_000, "test_size": 2_000,
        },
        model={"width": 64, "hidden": 128},
        lr=1e-4,
        weight_decay=0.0,
        steps=15_000,
        batch=32,
        lengths={},
    ),
    pixels=Course(
        title="pixels",
        task={"name": "pixel_sequence", "size": 32, "train_size": 45_000, "test_size": 10_000},
        model={"width": 64, "hidden": 128},
        lr=1e-3,
        weight_decay=0.01,
        steps=10_500,
        batch=256,
        lengths={256: {"size": 16}},
    ),
)  # fmt: skip
"""The sizes of the paper."""
