"""DCD-PSGD: consensus that sends compressed changes."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from basinet.algorithms.compression import Compression, CompressorName
from basinet.algorithms.strategies.strategy import STRATEGIES, Block
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["DCD"]


@STRATEGIES.register("dcd")
@dataclass(frozen=True)
class DCD(Compression):
    """Apply only the compressed part of a consensus step: DCD-PSGD.

    x ← x + Q(W x − x + adapt(x, g(x)) − x). Only Q(·) is sent, and all neighbours know x exactly. What Q leaves out is
    lost, so it should be accurate and unbiased: the compressor C scaled up (except for top_k, sign and low_rank, whose
    bias slows convergence). With few levels of qsgd or a small share of random_k it diverges. Without compression it is
    consensus.

    Args:
        compressor: See `basinet.algorithms.compression`; by default quantize.
        share: Share of the entries that top_k and random_k keep, in (0, 1].
        levels: Levels of qsgd and quantize.
        rank: Rank of low_rank.

    References:
        H. Tang, S. Gan, C. Zhang, T. Zhang, J. Liu: Communication compression for decentralized training, NeurIPS
        2018, arXiv:1803.06443.
    """

    compressor: CompressorName = "quantize"

    # A new neighbour would lack the copy.
    traits: ClassVar[StrategyTraits] = StrategyTraits(static=True, mixes_all=True, combines_x=False, tolerates="none")

    def step(self, block: Block) -> None:
        """Advance by one step."""
        mixed = block.memory.setdefault("mixed", block.x.clone())  # W x; all agents start from the same x
        x = block.x.clone()
        block.adapt(block.gradients())
        change, size = self.compress(mixed - x + (block.x - x), block.keys("compression"), block.layers)
        torch.add(x, change, alpha=self.unbiasing(block.x.shape[1]), out=block.x)
        mixed.copy_(block.x)
        block.combine(mixed, sent=size)
