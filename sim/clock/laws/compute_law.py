"""Interface of a law of compute time, and what laws with a mean share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from basinet.algorithms import draws
from basinet.topologies.networks.units import nanoseconds
from basinet.topologies.registry import Registry

__all__ = ["LAWS", "ComputeLaw", "Draw", "DrawnLaw", "Duration", "Independent"]

_AT_ONCE = 2**10
"""Approximate number of draws made in one call, over several steps: a call costs more than many draws."""

Draw = Callable[[int], Tensor]
"""Function of the step, from 0, to numbers for each agent, float64 [R, K]."""


def _with_unit(given: str) -> str:
    nanoseconds(given)
    return given


Duration = Annotated[str, BeforeValidator(_with_unit)]
"""A time with its unit, such as "20 ms"."""


class ComputeLaw(ABC):
    """How long agents take to compute a gradient."""

    @abstractmethod
    def sampler(self, keys: Tensor) -> Draw:
        """Return a function from the step to how long agents compute.

        Args:
            keys: Keys of the agents, int64 [R, K].

        Returns:
            The function, whose result is in nanoseconds. It does not depend on which steps were asked for before.
        """


@dataclass(frozen=True, kw_only=True)
class DrawnLaw(ComputeLaw):
    """A law that is a multiple of its mean, and of a factor for each agent.

    Args:
        mean: Mean time of a gradient, with its unit, such as 20 ms.
        factors: How many times longer each agent takes, in the graph's order; a shorter list is repeated, so that
            [1, 1, 1, 4] makes every fourth agent slow.
    """

    mean: Duration
    factors: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (1.0,)

    def sampler(self, keys: Tensor) -> Draw:
        """Return a function from the step to how long agents compute; see `ComputeLaw.sampler`."""
        times, rest = divmod(keys.shape[-1], len(self.factors))
        if rest:
            raise ValueError(
                f"factors: got {len(self.factors)} for {keys.shape[-1]} agents; their number must divide that of agents"
            )
        scale = torch.tensor(self.factors, dtype=torch.float64).repeat(times) * nanoseconds(self.mean)
        multiples = self.multiples(keys)
        return lambda step: multiples(step) * scale

    @abstractmethod
    def multiples(self, keys: Tensor) -> Draw:
        """Return a function from the step to multiples of the mean, which have the mean one.

        Args:
            keys: Keys of the agents, int64 [R, K].

        Returns:
            The function.
        """


@dataclass(frozen=True, kw_only=True)
class Independent(DrawnLaw):
    """A law from which each agent draws anew in each step.

    Args:
        mean: Mean time of a gradient, with its unit, such as 20 ms.
        factors: How many times longer each agent takes, in the graph's order; a shorter list is repeated.
    """

    def multiples(self, keys: Tensor) -> Draw:
        """Return a function from the step to multiples of the mean; see `DrawnLaw.multiples`."""
        count = max(1, _AT_ONCE // keys.numel())
        known: dict[int, Tensor] = {}

        def multiples(step: int) -> Tensor:
            number, place = divmod(step, count)
            if number not in known:
                steps = torch.arange(number * count, (number + 1) * count, device=keys.device)
                known.clear()
                known[number] = self.quantile(draws.uniform(draws.fold(keys, steps.view(-1, *(1,) * keys.dim())), ()))
            return known[number][place]

        return multiples

    @abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """Return the multiples of the mean below which a share of all draws is.

        Args:
            u: The shares, in [0, 1).

        Returns:
            The multiples.
        """


LAWS: Registry[ComputeLaw] = Registry("LAWS")
"""The laws of compute time that an experiment can name."""
