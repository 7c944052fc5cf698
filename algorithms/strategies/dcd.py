"""DCD-PSGD: consensus that sends compressed changes."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from basinet.algorithms.compression import Compression
from basinet.algorithms.strategies.strategy import Block

__all__ = ["DCD"]


@dataclass(frozen=True)
class DCD(Compression):
    """Make only those changes of a step of consensus that are sent: DCD-PSGD.

    x ← x + C(W x − x + adapt(x, g(x)) − x). Only C(·) travels, and all neighbours know x itself; what C leaves out is
    not done. Without compression it is consensus.

    Args:
        compressor: See `basinet.algorithms.compression`.
        share: Share of the numbers that top_k and random_k keep, in (0, 1].
        levels: Levels of qsgd and quantize.
        rank: Rank of low_rank.

    References:
        H. Tang, S. Gan, C. Zhang, T. Zhang, J. Liu: Communication compression for decentralized training, NeurIPS
        2018, arXiv:1803.06443.
    """

    static: ClassVar[bool] = True  # a new neighbour would not have the copy

    def step(self, block: Block) -> None:
        """Advance by one step."""
        mixed = block.memory.setdefault("mixed", block.x.clone())  # W x; all agents start alike
        x = block.x.clone()
        block.adapt(block.gradients())
        change, size = self.compress(mixed - x + (block.x - x), block.keys("compression"), block.layers)
        torch.add(x, change, out=block.x)
        mixed.copy_(block.x)
        block.combine(mixed, sent=size)
