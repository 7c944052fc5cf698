"""Diffusion: local step and mixing one after the other, each from the other's result."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from basinet.algorithms.strategies.strategy import STRATEGIES, Block

__all__ = ["Diffusion"]


@STRATEGIES.register("diffusion")
@dataclass(frozen=True)
class Diffusion:
    """Adapt then combine, or combine then adapt.

    ATC: x_k ← Σ_l W[k, l] adapt(x_l, g_l(x_l)).  CTA: φ_k = Σ_l W[k, l] x_l, x_k ← adapt(φ_k, g_k(φ_k)).
    Both are one recursion read at two points: x_ATC = W x_CTA on the same draws.

    Args:
        order: "atc" (adapt then combine) or "cta" (combine then adapt).
        rounds: Combinations per step: W^rounds instead of W, to control the consensus distance.

    References:
        J. Chen, A. H. Sayed: Diffusion adaptation strategies for distributed optimization and learning over
        networks, IEEE TSP 60 (2012), doi:10.1109/TSP.2012.2198470. A. H. Sayed: Adaptation, learning, and
        optimization over networks (2014), doi:10.1561/2200000051. L. Kong, T. Lin, A. Koloskova, M. Jaggi, S. U. Stich:
        Consensus control for decentralized deep learning, ICML 2021, arXiv:2102.04828.
    """

    order: Literal["atc", "cta"] = "atc"
    rounds: Annotated[int, Field(ge=1, le=1000)] = 1

    def step(self, block: Block) -> None:
        """Advance by one step."""
        if self.order == "cta":
            self._combine(block)
        block.adapt(block.gradients())
        if self.order == "atc":
            self._combine(block)

    def _combine(self, block: Block) -> None:
        for _ in range(self.rounds):
            block.combine(block.x)
