"""Diffusion: local step and mixing one after the other, so that each uses what the other has found."""

from dataclasses import dataclass
from typing import Literal

from basinet.algorithms.strategies.strategy import Block

__all__ = ["Diffusion"]


@dataclass(frozen=True)
class Diffusion:
    """Adapt then combine, or combine then adapt.

    ATC: x_k ← Σ_l W[k, l] adapt(x_l, g_l(x_l)).  CTA: φ_k = Σ_l W[k, l] x_l, x_k ← adapt(φ_k, g_k(φ_k)).
    Both are one recursion read at two points: x_ATC = W x_CTA on the same draws.

    Args:
        order: "atc" (adapt then combine) or "cta" (combine then adapt).

    References:
        J. Chen, A. H. Sayed: Diffusion adaptation strategies for distributed optimization and learning over
        networks, IEEE TSP 60 (2012), doi:10.1109/TSP.2012.2198470. A. H. Sayed: Adaptation, learning, and
        optimization over networks (2014), doi:10.1561/2200000051.
    """

    order: Literal["atc", "cta"] = "atc"

    def step(self, block: Block) -> None:
        """Advance by one step."""
        if self.order == "cta":
            block.combine(block.x)
        block.adapt(block.gradients())
        if self.order == "atc":
            block.combine(block.x)
