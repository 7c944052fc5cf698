"""A step of all agents by each engine against one plain step of one model on the samples of all."""

from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any

import torch

from basinet.sim.engines import ENGINES
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.tasks import Task
from tests.benchmarks import models, steps
from tests.benchmarks.harness import Row, in_turn

AGENTS = 16


def words(vocabulary: int, context: int, count: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    """Random sequences of words, and their next words."""
    tokens = torch.randint(vocabulary, (count, context + 1))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def language(vocabulary: int, context: int) -> Task:
    """A task of such sequences."""
    return Task(train=words(vocabulary, context), num_outputs=vocabulary, vocabulary=vocabulary, model="llama")


WORKS: dict[str, dict[str, Any]] = {
    "transformer 4×64, context 64, 256 words, batch 8": {
        "task": partial(words, 256, 64),
        "model": models.small_transformer,
    },
    "llama of 1,070,720 parameters, context 64, 257 words, batch 4": {
        "task": partial(language, 257, 64),
        "model": {"name": "llama", "size": "1m"},
        "batch_size": 4,
    },
    "transformer 2×16, context 16, 64 words, batch 8": {
        "task": partial(words, 64, 16),
        "model": models.tiny_transformer,
    },
    "LSTM 32, context 16, 64 words, batch 8": {"task": partial(words, 64, 16), "model": models.lstm},
    "GRU 32, context 16, 64 words, batch 8": {"task": partial(words, 64, 16), "model": models.gru},
    "residual upscaler of 88,752 parameters, batch 8 of 3×24×24": {
        "task": steps.patches,
        "model": "residual_upscaler",
    },
}

TARGETS = {
    "transformer 4×64, context 64, 256 words, batch 8": 1.3,
    "llama of 1,070,720 parameters, context 64, 257 words, batch 4": 1.15,
}
"""Largest ratios of the stacked engine."""


def rows() -> Iterator[Row]:
    """Measure the works, all engines of one in turn."""
    for work, keys in WORKS.items():
        blocks = {}
        for engine in ENGINES:
            try:
                blocks[engine] = steps.make_block(
                    **{"topology": {"name": "ring", "agents": AGENTS}, "batch_size": 8, **keys},
                    runtime={"engine": engine},
                )
            except (ValueError, ExperimentError):  # this engine cannot run it
                continue
        setup = blocks["loop"].setup
        base = steps.plain(setup, AGENTS * setup.config.batch_size, 1)
        times = in_turn(base, *(steps.advancing(block, 1) for block in blocks.values()), seconds=0.5)
        for place, (engine, block) in enumerate(blocks.items(), start=1):
            row = Row("engines", f"{AGENTS} agents, {work}: {engine}", base="one step of one model on all samples")
            row.target = ("<=", TARGETS[work]) if engine == "stacked" and work in TARGETS else None
            row.ratios = [each[place].cpu / each[0].cpu for each in times]
            row.ours_ms = median(1e3 * each[place].cpu for each in times)
            row.ours_wall_ms = median(1e3 * each[place].wall for each in times)
            row.base_ms = median(1e3 * each[0].cpu for each in times)
            row.more = {"parameters": block.x.shape[1]}
            yield row
