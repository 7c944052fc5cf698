"""Public copies: what agents keep of their neighbours under compression, and how they update it."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from basinet.algorithms.compression import Compression
from basinet.algorithms.strategies.strategy import Block
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["PublicCopies"]


@dataclass(frozen=True)
class PublicCopies(Compression):
    """Base class of strategies whose agents keep copies x̂ of their neighbours and send compressed changes.

    All agents start from the same parameters, so that the copies are exact at first. Papers that start them at zero
    (CHOCO-SGD, BEER) describe the same run for x_0 = 0, otherwise with x − x_0 instead of x.

    Args:
        compressor: See `basinet.algorithms.compression`.
        share: Share of the entries that top_k and random_k keep, in (0, 1].
        levels: Levels of qsgd and quantize.
        rank: Rank of low_rank.
        gamma: Consensus step γ, in (0, 1]: the coarser the compression, the smaller; 0.1 for random_k
            and low_rank.
    """

    gamma: Annotated[float, Field(gt=0, le=1)] = 0.3

    # A new neighbour would lack the copies.
    traits: ClassVar[StrategyTraits] = StrategyTraits(static=True, mixes_all=True, combines_x=False, tolerates="none")

    def tell(
        self, block: Block, x: Tensor, known: Tensor, purpose: str = "compression", factor: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Send the neighbours the compressed change, x̂ ← x̂ + C(x − x̂).

        Args:
            block: The agents.
            x: Their current values, [N, P].
            known: x̂, what their neighbours know of it, [N, P]; updated in place.
            purpose: Purpose of the compressor's random draws.
            factor: Weight c of the change in what is mixed.

        Returns:
            y = x̂ + c C(x − x̂) and W y, [N, P] each; for c = 1, y is the new x̂.
        """
        change, size = self.compress(x - known, block.keys(purpose), block.layers)
        told = known.add(change, alpha=factor)
        known += change
        mixed = told.clone()
        block.combine(mixed, sent=size)
        return told, mixed

    def mix(self, block: Block, x: Tensor, known: Tensor) -> None:
        """Update the copies, then move x towards the neighbours', x ← x + γ (W x̂ − x̂).

        Args:
            block: The agents.
            x: [N, P], changed in place.
            known: x̂, what their neighbours know of it, [N, P]; updated in place.
        """
        self.move(x, *self.tell(block, x, known))

    def move(self, x: Tensor, told: Tensor, mixed: Tensor) -> None:
        """Move x towards the neighbours' copies, x ← x + γ (W x̂ − x̂).

        Args:
            x: [N, P], changed in place.
            told: x̂, [N, P].
            mixed: W x̂, [N, P].
        """
        x.add_(mixed.sub_(told), alpha=self.gamma)
