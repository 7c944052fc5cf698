"""LEAD: exact diffusion that sends compressed differences."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from scipy.sparse import csr_array

from basinet.algorithms.strategies.compressed.copies import PublicCopies
from basinet.algorithms.strategies.strategy import STRATEGIES, Block, require_symmetric

__all__ = ["LEAD"]


@STRATEGIES.register("lead")
@dataclass(frozen=True)
class LEAD(PublicCopies):
    """Adapt and correct, with corrections computed from compressed differences.

    ψ = adapt(x, g(x)), q = Q(ψ + d − h), ŷ = h + q, h ← h + α q, d ← d + γ/2 (W ŷ − ŷ), x ← ψ + d. Only q is sent. Q is
    unbiased, E Q(v) = v: it is the compressor C scaled up, and α scales it down again, α Q = C. (Corrections accumulate
    errors: with top_k, sign or low_rank they diverge where the loss is flat, so these are not allowed.) With full
    gradients all agents converge to the minimum at a linear rate. Without compression and with γ = 1 it is exact
    diffusion. The paper begins with a step that each agent takes alone, as in NIDS, then continues as here; this one
    begins at the common start, with h = x_0 and d = 0. (d is −μ times the dual variable of the paper, as long as the
    learning rate μ does not change.)

    Args:
        compressor: "none", "random_k", "qsgd" or "quantize"; see `basinet.algorithms.compression`.
        share: Share of the entries that random_k keeps, in (0, 1].
        levels: Levels of qsgd and quantize.
        rank: Not used.
        gamma: Consensus step γ, in (0, 1]: 1 suits quantize with two or more levels; qsgd and random_k need less, and
            diverge where the loss is flat if they are coarse.

    References:
        X. Liu, Y. Li, R. Wang, J. Tang, M. Yan: Linear convergent decentralized optimization with compression, ICLR
        2021, arXiv:2007.00232.
    """

    compressor: Literal["none", "random_k", "qsgd", "quantize"] = "quantize"
    levels: Annotated[int, Field(ge=1)] = 4
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0

    def check(self, weights: csr_array) -> None:
        """Raise if the correction is not exact with the given weights.

        Args:
            weights: Mixing matrix [K, K].
        """
        require_symmetric(weights)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        known = block.memory.setdefault("known", block.x.clone())
        correction = block.memory.setdefault("correction", torch.zeros_like(block.x))
        block.adapt(block.gradients())
        factor = self.unbiasing(block.x.shape[1])
        told, mixed = self.tell(block, block.x + correction, known, factor=factor)
        correction.add_(mixed.sub_(told), alpha=self.gamma / 2)
        block.x.add_(correction)
