"""Interface of the faults of a simulated network."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from basinet.topologies.registry import Registry

__all__ = [
    "FAULTS",
    "AgentFault",
    "Agents",
    "Fault",
    "LinkFault",
    "Numbers",
    "States",
    "Step",
    "Steps",
    "one_by_one",
]

Agents = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]
"""Numbers of agents in the graph's order, from 0."""

Step = Annotated[int, Field(ge=0, lt=2**31)]
"""The number of a step, from 0."""

Steps = Annotated[int, Field(ge=1, lt=2**31)]
"""A number of steps."""

States = Callable[[int], Tensor]
"""Function of the step, from 0, to what is out of order: a bool tensor. It does not depend on earlier calls."""

Numbers = Callable[[int], Tensor]
"""Function of the step, from 0, to numbers, int64, which does not depend on earlier calls either."""


class Fault:
    """Something that goes wrong in the simulated network."""


@dataclass(frozen=True, kw_only=True)
class LinkFault(Fault, ABC):
    """Links that fail for single steps: what is sent along them in such a step does not arrive.

    Args:
        symmetric: Whether a link fails in both directions at once, so that both of its agents know.
    """

    symmetric: bool = True

    def on(self, loss: Tensor) -> Self:
        """Return the fault on some links.

        Args:
            loss: The shares of messages that the network loses on them, float64 [E]; if the fault is symmetric, the
                larger one of both directions.

        Returns:
            The fault, which most often does not depend on them.
        """
        return self

    @abstractmethod
    def failures(self, keys: Tensor) -> States:
        """Return a function from the step to which links fail.

        Args:
            keys: Keys of the links, int64 [R, E]; both directions of a link have the same if the fault is symmetric.

        Returns:
            The function, whose results are [R, E].
        """


@dataclass(frozen=True, kw_only=True)
class AgentFault(Fault, ABC):
    """Agents that are absent for some steps: they neither compute, nor send or hear anything, and keep what they have.

    Args:
        rejoin: What an agent that returns goes on from: its own parameters, or the weighted mean of its "neighbors"'.
    """

    rejoin: Literal["own", "neighbors"] = "own"

    @abstractmethod
    def absences(self, keys: Tensor) -> States:
        """Return a function from the step to which agents are absent.

        Args:
            keys: Keys of the agents, int64 [R, K].

        Returns:
            The function, whose results are [R, K].
        """


def one_by_one(agents: Sequence[int], keys: Tensor) -> Tensor:
    """Find agents that are named by their numbers.

    Args:
        agents: The numbers.
        keys: Keys of all agents, int64 [R, K].

    Returns:
        Whether each is among them, bool [R, K].

    Raises:
        ValueError: There is no agent of such a number.
    """
    count = keys.shape[-1]
    if max(agents) >= count:
        raise ValueError(f"agents: got {max(agents)}; allowed are the numbers of agents, 0 to {count - 1}")
    return torch.isin(torch.arange(count), torch.tensor(agents)).expand(keys.shape)


FAULTS: Registry[Fault] = Registry("FAULTS")
"""The faults that an experiment can name."""
