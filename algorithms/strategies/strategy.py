"""What a strategy is: the distributed part of an algorithm, written over the verbs of a block."""

from typing import Protocol

from torch import Tensor

__all__ = ["Block", "Strategy"]


class Block(Protocol):
    """The agents that one process hosts, as a strategy sees them.

    A strategy is the same code in one process and on a hundred: what has to travel, travels inside `combine`
    and `average`.
    """

    x: Tensor
    """The agents' parameters [N, P]."""

    step: int
    """How many steps have been taken."""

    memory: dict[str, Tensor]
    """What the strategy remembers of each agent between steps, by name: tensors [N, ...]; empty at first."""

    def gradients(self) -> Tensor:
        """Draw each agent's batch and compute its gradient at x, [N, P].

        It is good until it is given to `adapt`, or until the next call: keep a copy of what is needed later.
        """

    def adapt(self, gradients: Tensor) -> None:
        """Let each agent's optimizer step from x with the given gradients [N, P]: x ← adapt(x, g)."""

    def combine(self, x: Tensor) -> None:
        """Mix rows with the neighbours' in place: x_k ← Σ_l W[k, l] x_l, for any [N, P] that is no view."""

    def average(self, x: Tensor) -> None:
        """Replace each row in place by the mean over all agents of its replica, for any [N, P]."""


class Strategy(Protocol):
    """How agents use gradients and neighbours.

    A strategy holds settings alone: what changes from step to step is kept in the memory of the block, so that
    checkpoints hold it and one strategy can serve many runs.
    """

    def step(self, block: Block) -> None:
        """Advance all agents of the block by one step."""
