"""What a strategy is: the distributed part of an algorithm, written over the verbs of a block."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from scipy.sparse import csr_array
from torch import Tensor

from basinet.algorithms.optimizers import LocalOptimizer
from basinet.topologies.registry import Registry

__all__ = ["STRATEGIES", "Block", "Neighbors", "Strategy", "require_doubly_stochastic", "require_symmetric"]

_TOLERANCE = 1e-8


class Neighbors(Protocol):
    """The neighbours of each agent, in slots: in the order of the agents, with empty slots at the end."""

    weights: Tensor
    """Weight that an agent gives to the neighbour in each slot, [N, D]; 0 where it hears nobody there."""

    own: Tensor
    """Weight that it gives to itself, [N]."""

    heard: Tensor
    """Whether it hears the neighbour in the slot, bool [N, D]."""


class Block(Protocol):
    """The agents that one process hosts, as a strategy sees them.

    A strategy is the same code in one process and on a hundred: what has to travel, travels inside `combine`
    and `average`.
    """

    x: Tensor
    """The agents' parameters [N, P]."""

    optimizer: LocalOptimizer
    """The agents' optimizers."""

    num_agents: int
    """K, how many agents a replica has, here and elsewhere."""

    step: int
    """How many steps have been taken."""

    memory: dict[str, Tensor]
    """What the strategy remembers of each agent between steps, by name: tensors [N, ...]; empty at first."""

    def gradients(self) -> Tensor:
        """Draw each agent's batch and compute its gradient at x, [N, P].

        It is good until it is given to `adapt`, or until the next call: keep a copy of what is needed later. An
        optimizer that evaluates by itself has its own idea of the gradient; a derivative-free one finds coefficients
        [N, 1], with which nothing but `adapt` can compute.
        """

    def adapt(self, gradients: Tensor, active: Tensor | None = None) -> None:
        """Let each agent's optimizer step from x with the given gradients [N, P]: x ← adapt(x, g).

        Where `active`, bool [N], is given, the others keep x and what their optimizer remembers.
        """

    def combine(self, x: Tensor, sent: int | None = None, *, truly: bool = False) -> None:
        """Mix rows with the neighbours' in place: x_k ← Σ_l W[k, l] x_l, for any [N, P] that is no view.

        `sent` are the bytes of one row on the wire, by default those of its numbers; personal parameters are not sent.
        What is said `truly`, attackers do not falsify: numbers of the protocol itself.
        """

    def push(self, x: Tensor) -> None:
        """Mix rows in place with weights whose columns sum to one: x_k ← Σ_l C[k, l] x_l, for any [N, P].

        A strategy that uses it says `traits = StrategyTraits(weights="both")`.
        """

    @property
    def neighbors(self) -> Neighbors:
        """The agents' neighbours one by one, each in a slot of its own."""

    def exchange(self, messages: Tensor, sent: int | None = None) -> Tensor:
        """Send each neighbour a row, [N, D, ...], and get one from each, [N, D, ...]; 0 where an agent hears nobody.

        `sent` are the bytes of one row on the wire, by default those of its numbers; personal parameters are not sent.
        """

    def broadcast(self, x: Tensor) -> Iterable[tuple[slice, Tensor]]:
        """Send all neighbours the row x_k, and iterate over what comes from each a few columns at a time.

        That is pairs of columns and of tensors [N, D, w]; they are the same as often as one goes through them. Columns
        of `x` that have been gone through may be overwritten, the last time.
        """

    def full_gradients(self) -> Tensor:
        """Compute each agent's gradient over all of its data at x, [N, P]."""

    def layers(self, x: Tensor) -> list[Tensor]:
        """Take [N, P], laid out like the parameters, apart into the model's layers: views [N, *shape]."""

    def keys(self, purpose: str) -> Tensor:
        """Return one key an agent for random draws of this step, int64 [N]; see `basinet.algorithms.draws`."""

    def average(self, x: Tensor) -> None:
        """Replace each row in place by the mean over all agents of its replica, for any [N, P]."""


class Strategy(Protocol):
    """How agents use gradients and neighbours.

    A strategy holds settings alone: what changes from step to step is kept in the memory of the block, so that
    checkpoints hold it and one strategy can serve many runs. One that needs weights of some kind has a method
    `check(weights)` that raises a ValueError for others. What else it needs it says in an attribute `traits`, which are
    `StrategyTraits`.
    """

    def step(self, block: Block) -> None:
        """Advance all agents of the block by one step."""


STRATEGIES: Registry[Strategy] = Registry()
"""The strategies that an experiment can name."""


def require_symmetric(weights: csr_array) -> None:
    """Raise if a mixing matrix is not symmetric.

    Args:
        weights: Mixing matrix [K, K].

    Raises:
        ValueError: It is not.
    """
    if abs(weights - weights.T).max() > _TOLERANCE:
        raise ValueError("needs symmetric weights, and these are not; metropolis makes them, on an undirected graph")


def require_doubly_stochastic(weights: csr_array) -> None:
    """Raise if the columns of a mixing matrix do not sum to one.

    Args:
        weights: Mixing matrix [K, K].

    Raises:
        ValueError: They do not.
    """
    sums = np.asarray(weights.sum(axis=0)).ravel()
    if abs(sums - 1).max() > _TOLERANCE:
        raise ValueError(
            f"needs weights whose columns sum to one, and column {abs(sums - 1).argmax()} sums to "
            f"{sums[abs(sums - 1).argmax()]:.4g}; metropolis makes them, on an undirected graph, and sinkhorn on others"
        )
