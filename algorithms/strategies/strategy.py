"""Interface of a strategy, the distributed part of an algorithm, and of the block it is written over."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import numpy as np
from scipy.sparse import csr_array
from torch import Tensor

from basinet.algorithms.optimizers import LocalOptimizer
from basinet.topologies.registry import Registry

__all__ = [
    "STRATEGIES",
    "Block",
    "Neighbors",
    "Participation",
    "Strategy",
    "require_doubly_stochastic",
    "require_symmetric",
]

_TOLERANCE = 1e-8


class Neighbors(Protocol):
    """The neighbours of each agent, in slots: in the order of the agents, with empty slots at the end."""

    weights: Tensor
    """Weight of the neighbour in each slot, [N, D]; 0 in empty slots."""

    own: Tensor
    """Weight of the agent itself, [N]."""

    heard: Tensor
    """Whether the slot holds a neighbour that the agent receives from, bool [N, D]."""


class Block(Protocol):
    """The agents that one process hosts, as a strategy sees them.

    A strategy is the same code in one process and in a hundred: all communication happens inside the verbs.
    """

    x: Tensor
    """The agents' parameters [N, P]."""

    optimizer: LocalOptimizer
    """The agents' optimizers."""

    num_agents: int
    """K, number of agents of a replica, over all processes."""

    step: int
    """Number of steps taken."""

    memory: dict[str, Tensor]
    """What the strategy remembers of each agent between steps, by name: tensors [N, ...]; empty at first."""

    def gradients(self) -> Tensor:
        """Draw each agent's batch and compute its gradient at x, [N, P].

        The result is valid until it is given to `adapt`, or until the next call: copy what is needed later. An
        optimizer that evaluates by itself decides what the gradient is; a derivative-free one returns coefficients [N,
        1], which only `adapt` can use.
        """

    def adapt(self, gradients: Tensor, active: Tensor | None = None) -> None:
        """Step each agent's optimizer from x with the given gradients [N, P]: x ← adapt(x, g).

        If `active`, bool [N], is given, the other agents keep x and their optimizer state.
        """

    def combine(self, x: Tensor, sent: int | None = None, *, truly: bool = False) -> None:
        """Mix rows with the neighbours' in place: x_k ← Σ_l W[k, l] x_l, for any [N, P] that is not a view.

        `sent` are the bytes of one row on the wire, by default those of its entries; personal parameters are not sent.
        Attackers do not falsify what is sent `truly`: numbers of the protocol itself.
        """

    def push(self, x: Tensor) -> None:
        """Mix rows in place with weights whose columns sum to one: x_k ← Σ_l C[k, l] x_l, for any [N, P].

        A strategy that uses it declares `traits = StrategyTraits(weights="both")`.
        """

    def together(self) -> AbstractContextManager[None]:
        """Send what is combined and pushed inside in one message instead of several, when the context ends.

        Until then these tensors keep their values, and must not be changed. What depends on the result of another
        combination needs a message of its own.
        """

    @property
    def neighbors(self) -> Neighbors:
        """The agents' neighbours, each in its own slot."""

    def exchange(self, messages: Tensor, sent: int | None = None) -> Tensor:
        """Send each neighbour a row, [N, D, ...], and receive one from each, [N, D, ...]; 0 in empty slots.

        `sent` are the bytes of one row on the wire, by default those of its entries; personal parameters are not sent.
        """

    def broadcast(self, x: Tensor) -> Iterable[tuple[slice, Tensor]]:
        """Send all neighbours the row x_k, and iterate over what each sends a few columns at a time.

        The items are pairs of columns and tensors [N, D, w], the same on every iteration. During the last iteration,
        columns of `x` already passed may be overwritten.
        """

    def full_gradients(self) -> Tensor:
        """Compute each agent's gradient over all of its data at x, [N, P]."""

    def layers(self, x: Tensor) -> list[Tensor]:
        """Split [N, P], laid out like the parameters, into the model's layers: views [N, *shape]."""

    def keys(self, purpose: str) -> Tensor:
        """Return one key per agent for random draws of this step, int64 [N]; see `basinet.algorithms.draws`."""

    def average(self, x: Tensor) -> None:
        """Replace each row in place by the mean over all agents of its replica, for any [N, P]."""

    def pool(self, gradients: Tensor) -> None:
        """Replace the gradients of this step in place by that of the union of a replica's batches.

        It is their mean; a weighted one if unequal numbers of labels count in the batches.
        """

    def happen(self) -> None:
        """Let the events of a step happen, of a strategy that is a `basinet.algorithms.strategies.EventDriven`."""


class Strategy(Protocol):
    """How agents use gradients and neighbours.

    A strategy holds only settings: what changes from step to step is kept in the block's memory, so that it is in
    checkpoints and one strategy can serve many runs. One that needs certain weights has a method `check(weights)` that
    raises a ValueError for others. One in whose steps only some agents take part has what `Participation` has, so that
    its time is that of these agents. Other needs are declared in an attribute `traits`, a `StrategyTraits`.
    """

    def step(self, block: Block) -> None:
        """Advance all agents of the block by one step."""


@runtime_checkable
class Participation(Protocol):
    """A strategy in whose steps only some agents take part."""

    @property
    def sent_share(self) -> float:
        """Share of the messages between all neighbours that is sent, and counted, on average."""

    def active(self, keys: Tensor) -> Tensor:
        """Draw which agents take part in a step.

        Args:
            keys: A key for each agent, of the purpose "activation" and the step, int64 of any shape.

        Returns:
            Whether each takes part, bool.
        """


STRATEGIES: Registry[Strategy] = Registry("STRATEGIES")
"""The strategies that an experiment can name."""


def require_symmetric(weights: csr_array) -> None:
    """Raise if a mixing matrix is not symmetric.

    Args:
        weights: Mixing matrix [K, K].

    Raises:
        ValueError: It is not symmetric.
    """
    if abs(weights - weights.T).max() > _TOLERANCE:
        raise ValueError("needs symmetric weights, and these are not; metropolis makes them, on an undirected graph")


def require_doubly_stochastic(weights: csr_array) -> None:
    """Raise if the columns of a mixing matrix do not sum to one.

    Args:
        weights: Mixing matrix [K, K].

    Raises:
        ValueError: A column does not sum to one.
    """
    sums = np.asarray(weights.sum(axis=0)).ravel()
    if abs(sums - 1).max() > _TOLERANCE:
        raise ValueError(
            f"needs weights whose columns sum to one, and column {abs(sums - 1).argmax()} sums to "
            f"{sums[abs(sums - 1).argmax()]:.4g}; metropolis makes them, on an undirected graph, and sinkhorn on others"
        )
