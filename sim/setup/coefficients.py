"""Which strategies work with derivative-free optimizers: those that do not compute with gradients."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from basinet.algorithms.optimizers import LocalOptimizer
from basinet.algorithms.strategies import Strategy

__all__ = ["check_strategy"]

_STEPS = 16
"""Steps of a rehearsal: some strategies act differently at intervals."""


_NONE = "it computes with gradients, and a derivative-free optimizer has none"


class _Coefficients(Tensor):
    """A tensor that does not support any computation."""

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        raise ValueError(_NONE)


@dataclass
class _OneNeighbor:
    """The neighbours of two agents: each has the other."""

    weights: Tensor
    own: Tensor
    heard: Tensor


class _DryRunBlock:
    """A block of two agents that only has the strategies' operations, and tracks the use of coefficients.

    Args:
        optimizer: The agents' optimizers.
        in_common: Whether the agents' coefficients refer to the same directions for all parameters.
    """

    def __init__(self, optimizer: LocalOptimizer, *, in_common: bool) -> None:
        self.optimizer = optimizer
        self.in_common = in_common
        self.x = torch.zeros(2, 4)
        self.num_agents = 2
        self.step = 0
        self.memory: dict[str, Tensor] = {}
        self.coefficients: Tensor | None = None
        self.neighbors = _OneNeighbor(torch.full((2, 1), 0.5), torch.full((2,), 0.5), torch.ones(2, 1).bool())

    def gradients(self) -> Tensor:
        self.coefficients = torch.zeros(2, 1).as_subclass(_Coefficients)
        return self.coefficients

    def adapt(self, gradients: Tensor, active: Tensor | None = None) -> None:
        if gradients is not self.coefficients:
            raise ValueError("it adapts with something other than what gradients() returned last")

    def combine(self, x: Tensor, sent: int | None = None, *, truly: bool = False) -> None:
        if x is self.coefficients and not self.in_common:
            raise ValueError(
                "it mixes the agents' coefficients, which is only right if all draw the same directions and no"
                " parameters are personal"
            )

    average = push = pool = combine

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def exchange(self, messages: Tensor, sent: int | None = None) -> Tensor:
        return messages.flip(0)

    def broadcast(self, x: Tensor) -> list[tuple[slice, Tensor]]:
        return [(slice(0, x.shape[1]), x.flip(0)[:, None])]

    def layers(self, x: Tensor) -> list[Tensor]:
        return [x.view(len(x), 2, 2)]

    def full_gradients(self) -> Tensor:
        raise ValueError(_NONE)

    def happen(self) -> None:
        raise ValueError(_NONE)

    def keys(self, purpose: str) -> Tensor:
        return torch.arange(2)


def check_strategy(strategy: Strategy, optimizer: LocalOptimizer, *, in_common: bool) -> None:
    """Raise if a strategy computes with gradients.

    A derivative-free optimizer computes one coefficient per agent, for a direction that only the optimizer knows. A
    strategy can pass it to `adapt`. If all agents draw the same directions, it can also average or combine the
    coefficients, which is equivalent to averaging the gradients, at one number per message.

    Args:
        strategy: It takes some steps in a rehearsal.
        optimizer: The agents' optimizers.
        in_common: Whether all agents draw the same directions, and share all parameters.

    Raises:
        ValueError: It uses them in another way; the message says how.
    """
    block = _DryRunBlock(optimizer, in_common=in_common)
    while block.step < _STEPS:
        strategy.step(block)
        block.step += 1
