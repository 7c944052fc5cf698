"""Gradient tracking with local steps (K-GT): agents step alone along their estimate of the mean gradient."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from scipy.sparse import csr_array

from basinet.algorithms.strategies.strategy import STRATEGIES, Block, require_doubly_stochastic
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["LocalTracking"]


@STRATEGIES.register("k_gt")
@dataclass(frozen=True)
class LocalTracking:
    """Take τ corrected local steps, x ← adapt(x, g) + c, then combine, and correct by how others have moved.

    With d = x − x' an agent's move since the last combination: x ← W x, c ← c + (W d − d) / τ. The corrections sum to
    zero. Parameters and moves are both sent. This is K-GT with the server step η_s = 1, except for the start:
    corrections are zero at first, in the paper μ (g_k − ḡ) with the mean ḡ of all agents' gradients at x_0. (The
    correction includes the learning rate here, which is equivalent while that is constant.)

    Args:
        period: Steps τ between combinations.

    References:
        Y. Liu, T. Lin, A. Koloskova, S. U. Stich: Decentralized gradient tracking with local steps, Optim. Methods
        Softw. 2024, arXiv:2301.01313.
    """

    # Combining periodically would use only some graphs of a sequence.
    traits: ClassVar[StrategyTraits] = StrategyTraits(static=True, tolerates="symmetric")
    period: Annotated[int, Field(ge=1)] = 4

    def check(self, weights: csr_array) -> None:
        """Raise if the corrections lose their sum with the given weights.

        Args:
            weights: Mixing matrix [K, K].
        """
        require_doubly_stochastic(weights)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        before = block.memory.setdefault("before", block.x.clone())
        correction = block.memory.setdefault("correction", torch.zeros_like(block.x))
        block.adapt(block.gradients())
        block.x.add_(correction)
        if (block.step + 1) % self.period == 0:
            moved = block.x - before
            mixed = moved.clone()
            with block.together():
                block.combine(mixed)
                block.combine(block.x)
            correction.add_(mixed.sub_(moved), alpha=1 / self.period)
            before.copy_(block.x)
