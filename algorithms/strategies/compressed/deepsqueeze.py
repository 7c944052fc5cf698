"""DeepSqueeze: diffusion with compressed parameters and error feedback."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from basinet.algorithms.compression import Compression
from basinet.algorithms.strategies.strategy import STRATEGIES, Block
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["DeepSqueeze"]


@STRATEGIES.register("deepsqueeze")
@dataclass(frozen=True)
class DeepSqueeze(Compression):
    """Adapt, then mix compressed parameters plus what compression left out before (error feedback).

    x ← adapt(x, g(x)), v = x + δ, δ ← v − C(v), x ← x + γ (W C(v) − C(v)). Only C(v) is sent, and no agent keeps copies
    of others, so that the graph may change. Parameters are compressed, not differences: the compression error scales
    with them even when agents agree. Without compression and with γ = 1 it is diffusion (ATC).

    Args:
        compressor: See `basinet.algorithms.compression`.
        share: Share of the entries that top_k and random_k keep, in (0, 1].
        levels: Levels of qsgd and quantize.
        rank: Rank of low_rank.
        gamma: Consensus step, in (0, 1] (η in the paper): the coarser the compression, the smaller.

    References:
        H. Tang, X. Lian, S. Qiu, L. Yuan, C. Zhang, T. Zhang, J. Liu: DeepSqueeze: decentralization meets
        error-compensated compression, 2019, arXiv:1907.07346.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(mixes_all=True, combines_x=False)
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1

    def step(self, block: Block) -> None:
        """Advance by one step."""
        error = block.memory.setdefault("error", torch.zeros_like(block.x))
        block.adapt(block.gradients())
        error += block.x
        message, size = self.compress(error, block.keys("compression"), block.layers)
        error -= message
        mixed = message.clone()
        block.combine(mixed, sent=size)
        block.x.add_(mixed.sub_(message), alpha=self.gamma)
