"""EXTRA: consensus with a correction that removes the bias of heterogeneous data."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.sparse import csr_array

from basinet.algorithms.strategies.strategy import STRATEGIES, Block, require_symmetric
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["Extra"]


@STRATEGIES.register("extra")
@dataclass(frozen=True)
class Extra:
    """Consensus corrected by its past: x_{n+1} = x_n + W x_n − W̄ x_{n−1} + d_n − d_{n−1}, W̄ = (I + W) / 2.

    d_n = adapt(x_n, g(x_n)) − x_n is the optimizer's step, −μ g for SGD; the first step is x_1 = W x_0 + d_0.

    References:
        W. Shi, Q. Ling, G. Wu, W. Yin: EXTRA: an exact first-order algorithm for decentralized consensus optimization,
        SIAM J. Optim. 25 (2015), doi:10.1137/14096668X.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(static=True, combines_x=False, tolerates="symmetric")

    def check(self, weights: csr_array) -> None:
        """Raise if the correction is not exact with the given weights.

        Args:
            weights: Mixing matrix [K, K].
        """
        require_symmetric(weights)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        correction = block.memory.setdefault("correction", torch.zeros_like(block.x))  # x − W̄ x' − d'
        change = block.x.clone()
        block.combine(change)
        change.sub_(block.x)
        block.adapt(block.gradients())
        block.x.add_(change).add_(correction)
        correction.add_(change, alpha=0.5)
