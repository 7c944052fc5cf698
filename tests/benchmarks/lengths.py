"""A training step of S³Attention and of softmax attention against the length of the sequences."""

from collections.abc import Iterator
from statistics import median

import torch
from torch import nn

from basinet.sim.models import S3Classifier, Transformer
from tests.benchmarks.harness import Row, Step, Time, in_turn

BATCH, VOCABULARY, CLASSES = 4, 16, 10
SHORT, LONG = 256, 4096
COMPARED = {1024: None, 3072: (">=", 4.0), LONG: None}
"""Lengths at which the two are compared; the published speed is 4.0 times that of softmax attention at 3k tokens."""


def rows() -> Iterator[Row]:
    """Measure what 16 times the length costs, and both models against each other."""
    models = {"S³Attention": s3attention, "softmax attention": transformer}
    targets = {"S³Attention": ("<=", 25.0), "softmax attention": (">=", 60.0)}
    for name, make in models.items():
        times = in_turn(training(make(LONG), LONG), training(make(SHORT), SHORT), repeats=3)
        yield _row(f"{name}: step on {LONG} tokens", f"on {SHORT} tokens", targets[name], times)
    for length, target in COMPARED.items():
        times = in_turn(*(training(make(length), length) for make in (transformer, s3attention)), repeats=3)
        yield _row(f"softmax attention: step on {length} tokens", "S³Attention", target, times)


def s3attention(length: int) -> nn.Module:
    """Two layers of the published sizes."""
    return S3Classifier((length,), CLASSES, VOCABULARY, None, 0)


def transformer(length: int) -> nn.Module:
    """Two layers of the same sizes."""
    return Transformer((length,), CLASSES, VOCABULARY, None)


def training(model: nn.Module, length: int) -> Step:
    """Return the forward and backward pass of a batch."""
    tokens, classes = torch.randint(VOCABULARY, (BATCH, length)), torch.arange(BATCH)

    def step() -> None:
        model.zero_grad()
        nn.functional.cross_entropy(model(tokens), classes).backward()

    return step


def _row(work: str, base: str, target: tuple[str, float] | None, times: list[tuple[Time, ...]]) -> Row:
    row = Row("lengths", f"2×64, batch {BATCH}, {work}", target, base=base)
    row.ratios = [ours.cpu / other.cpu for ours, other in times]
    row.ours_ms, row.base_ms = (1e3 * median(each[place].cpu for each in times) for place in range(2))
    row.ours_wall_ms = 1e3 * median(ours.wall for ours, _ in times)
    return row
