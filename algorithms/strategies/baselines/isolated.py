"""No cooperation: the control for every other strategy."""

from dataclasses import dataclass
from typing import ClassVar

from basinet.algorithms.strategies.strategy import STRATEGIES, Block
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["Isolated"]


@STRATEGIES.register("isolated")
@dataclass(frozen=True)
class Isolated:
    """Each agent trains alone on its own data: x_k ← adapt(x_k, g_k(x_k))."""

    traits: ClassVar[StrategyTraits] = StrategyTraits(uses_graph=False)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        block.adapt(block.gradients())
