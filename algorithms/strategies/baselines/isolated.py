"""No cooperation: the control against which every other strategy is read."""

from dataclasses import dataclass
from typing import ClassVar

from basinet.algorithms.strategies.strategy import STRATEGIES, Block

__all__ = ["Isolated"]


@STRATEGIES.register("isolated")
@dataclass(frozen=True)
class Isolated:
    """Each agent trains alone on its own data: x_k ← adapt(x_k, g_k(x_k))."""

    uses_graph: ClassVar[bool] = False

    def step(self, block: Block) -> None:
        """Advance by one step."""
        block.adapt(block.gradients())
