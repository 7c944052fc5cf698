"""CHOCO-SGD: diffusion that sends compressed differences."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from basinet.algorithms.compression import Compression
from basinet.algorithms.strategies.strategy import Block

__all__ = ["ChocoSGD"]


@dataclass(frozen=True)
class ChocoSGD(Compression):
    """Adapt, send what has changed in few bytes, and move towards what the neighbours have told.

    x ← adapt(x, g(x)), x̂ ← x̂ + C(x − x̂), x ← x + γ (W x̂ − x̂). x̂ is what the neighbours know of an agent; only C(·)
    travels, and what it leaves out stays in the difference. Without compression and with γ = 1 it is diffusion (ATC).

    Args:
        compressor: See `basinet.algorithms.compression`.
        share: Share of the numbers that top_k and random_k keep, in (0, 1].
        levels: Levels of qsgd.
        gamma: Consensus step γ, in (0, 1]: the coarser the compression, the smaller.

    References:
        A. Koloskova, S. U. Stich, M. Jaggi: Decentralized stochastic optimization and gossip algorithms with compressed
        communication, ICML 2019, arXiv:1902.00340. A. Koloskova, T. Lin, S. U. Stich, M. Jaggi: Decentralized deep
        learning with arbitrary communication compression, ICLR 2020, arXiv:1907.09356.
    """

    mixes_all: ClassVar[bool] = True
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.3

    def step(self, block: Block) -> None:
        """Advance by one step."""
        known = block.memory.setdefault("known", torch.zeros_like(block.x))
        block.adapt(block.gradients())
        change, size = self.compress(block.x - known, block.keys("compression"))
        known += change
        mixed = known.clone()
        block.combine(mixed, sent=size)
        block.x.add_(mixed.sub_(known), alpha=self.gamma)
