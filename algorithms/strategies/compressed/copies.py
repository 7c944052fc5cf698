"""Public copies: what compressed strategies keep of each other, and how they bring it up to date."""

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
    """What is shared by strategies whose agents keep copies x̂ of their neighbours and send compressed changes.

    All agents start alike, so that copies of the parameters are right at first. Papers that start them at zero
    (CHOCO-SGD, BEER) describe the same run where x_0 = 0, and with x − x_0 in the place of x elsewhere.

    Args:
        compressor: See `basinet.algorithms.compression`.
        share: Share of the numbers that top_k and random_k keep, in (0, 1].
        levels: Levels of qsgd and quantize.
        rank: Rank of low_rank.
        gamma: Consensus step γ, in (0, 1]: the coarser the compression, the smaller; 0.1 for random_k
            and low_rank.
    """

    gamma: Annotated[float, Field(gt=0, le=1)] = 0.3

    # A new neighbour would not have the copies.
    traits: ClassVar[StrategyTraits] = StrategyTraits(static=True, mixes_all=True, combines_x=False)

    def pull(self, block: Block, x: Tensor, known: Tensor, purpose: str = "compression", factor: float = 1.0) -> Tensor:
        """Tell the neighbours in few bytes what has changed, x̂ ← x̂ + C(x − x̂), and compare with theirs.

        Args:
            block: The agents.
            x: What they have now, [N, P].
            known: x̂, what their neighbours know of it, [N, P]; brought up to date.
            purpose: Purpose of the compressor's random draws.
            factor: Weight c of the change in what is compared.

        Returns:
            W y − y with y = x̂ + c C(x − x̂), [N, P]; for c = 1 it is W x̂ − x̂ with the new x̂.
        """
        change, size = self.compress(x - known, block.keys(purpose), block.layers)
        told = known.add(change, alpha=factor)
        known += change
        mixed = told.clone()
        block.combine(mixed, sent=size)
        return mixed.sub_(told)

    def mix(self, block: Block, x: Tensor, known: Tensor, purpose: str = "compression") -> None:
        """Move x towards what the neighbours have told, x ← x + γ (W x̂ − x̂), after telling them.

        Args:
            block: The agents.
            x: [N, P], changed in place.
            known: x̂, what their neighbours know of it, [N, P]; brought up to date.
            purpose: Purpose of the compressor's random draws.
        """
        x.add_(self.pull(block, x, known, purpose), alpha=self.gamma)
