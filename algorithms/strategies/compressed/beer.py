"""BEER: gradient tracking that sends compressed differences."""

from dataclasses import dataclass

import torch
from scipy.sparse import csr_array
from torch import Tensor

from basinet.algorithms.strategies.compressed.copies import PublicCopies
from basinet.algorithms.strategies.corrected.gradient_tracking import track
from basinet.algorithms.strategies.strategy import STRATEGIES, Block, require_doubly_stochastic

__all__ = ["BEER"]


@STRATEGIES.register("beer")
@dataclass(frozen=True)
class BEER(PublicCopies):
    """Track the mean gradient, with compressed differences of parameters and trackers.

    y ← y + γ (W ŷ − ŷ) + g_n − g_{n−1}, x ← adapt(x + γ (W x̂ − x̂), y), where y starts as g_0, and the copies are
    updated before use: x̂ ← x̂ + C(x − x̂), ŷ ← ŷ + C(y − ŷ). Only these two C(·) are sent. With full gradients and γ
    small enough, all agents converge to the minimum at a linear rate, whereas CHOCO-SGD stops at a bias. Without
    compression and with γ = 1 it is gradient tracking (DIGing). The paper starts both copies at zero: its first
    trackers are not sent before the second step, y_1 = g_1, whereas here ŷ = C(g_0) is already mixed into y_1.

    Args:
        compressor: See `basinet.algorithms.compression`.
        share: Share of the entries that top_k and random_k keep, in (0, 1].
        levels: Levels of qsgd and quantize.
        rank: Rank of low_rank.
        gamma: Consensus step γ, in (0, 1]: the coarser the compression, the smaller; 0.05 for random_k
            and low_rank.

    References:
        H. Zhao, B. Li, Z. Li, P. Richtárik, Y. Chi: BEER: fast O(1/T) rate for decentralized nonconvex optimization
        with communication compression, NeurIPS 2022, arXiv:2201.13320.
    """

    def check(self, weights: csr_array) -> None:
        """Raise if the trackers lose the mean with the given weights.

        Args:
            weights: Mixing matrix [K, K].
        """
        require_doubly_stochastic(weights)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        known = block.memory.setdefault("known", block.x.clone())
        known_trackers = block.memory.setdefault("known trackers", torch.zeros_like(block.x))

        def mix_both(y: Tensor) -> None:
            with block.together():
                trackers = self.tell(block, y, known_trackers, "compression of trackers")
                parameters = self.tell(block, block.x, known)
            self.move(y, *trackers)
            self.move(block.x, *parameters)

        block.adapt(track(block, block.gradients().clone(), mix_both))
