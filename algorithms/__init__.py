"""What an agent does: strategies (the distributed part) and optimizers (the local part)."""

from typing import TYPE_CHECKING

from basinet.exports import lazy

if TYPE_CHECKING:
    from basinet.algorithms.optimizers import OPTIMIZERS
    from basinet.algorithms.strategies import STRATEGIES, Block, Strategy

__all__ = ["OPTIMIZERS", "STRATEGIES", "Block", "Strategy"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "basinet.algorithms.optimizers": ("OPTIMIZERS",),
        "basinet.algorithms.strategies": ("STRATEGIES", "Block", "Strategy"),
    },
)
