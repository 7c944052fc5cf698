"""The interface of engines, which execute the agents' forward and backward passes."""

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
    """Agents can be divided among threads in multiples of this number; 0 if they cannot."""

    def gradients(self, batch: Batch, keys: Tensor) -> Tensor:
        """Write each agent's gradient into the state.

        Args:
            batch: A nest of tensors [N, B, ...].
            keys: One key per agent for the draws inside the model, int64 [N].

        Returns:
            Losses [N].
        """

    def losses(self, batch: Batch, keys: Tensor) -> Tensor:
        """Compute each agent's loss only: like `gradients`, without keeping activations."""


EngineKind = Callable[[nn.Module, Task, StackedState], Engine]
