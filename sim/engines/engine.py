"""What an engine is: how the agents' forward and backward passes are executed."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from basinet.sim.agents.state import StackedState
from basinet.sim.tasks.task import Batch, Task

__all__ = ["Engine", "EngineKind"]


class Engine(Protocol):
    """Computes losses and gradients of all agents of a block."""

    name: str
    needs_keys: bool
    grain: int
    """Agents can be divided among threads in multiples of so many; 0 if they cannot."""

    def gradients(self, batch: Batch, keys: Tensor) -> Tensor:
        """Write each agent's gradient into the state, and return the losses [N]."""

    def losses(self, batch: Batch, keys: Tensor) -> Tensor:
        """Return the losses [N] alone: the same forward pass, of which no activations are kept."""


EngineKind = Callable[[nn.Module, Task, StackedState, Tensor], Engine]
