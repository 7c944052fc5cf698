"""Compute time of agents that are slow for a while."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from basinet.algorithms.two_states import TwoStates
from basinet.sim.clock.laws.compute_law import LAWS, Draw, DrawnLaw

__all__ = ["Markov"]


@LAWS.register("markov")
@dataclass(frozen=True, kw_only=True)
class Markov(DrawnLaw):
    """A Markov chain of two speeds, in its stationary state from the first step on.

    A slow agent becomes fast with the probability r = 1 / spell, a fast one slow with p = r · share / (1 − share); how
    slow it is n steps apart is correlated by (1 − p − r)ⁿ.

    Args:
        mean: Mean time of a gradient, with its unit, such as 20 ms.
        factors: How many times longer each agent takes, in the graph's order; a shorter list is repeated.
        slowdown: How many times longer than a fast agent a slow one takes.
        share: Share of the steps in which an agent is slow.
        spell: Mean number of steps for which it stays so, at least 1 / (1 − share), which is without memory.
    """

    slowdown: Annotated[float, Field(gt=1)] = 4.0
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    spell: Annotated[float, Field(ge=1)] = 20.0

    def __post_init__(self) -> None:
        if self.spell * (1 - self.share) < 1 - 1e-12:
            raise ValueError(
                f"spell: got {self.spell}; at least 1 / (1 − share) = {1 / (1 - self.share):.4g} is needed"
            )

    def multiples(self, keys: Tensor) -> Draw:
        """Return a function from the step to multiples of the mean; see `DrawnLaw.multiples`."""
        fast = 1 / (1 + (self.slowdown - 1) * self.share)
        chain = TwoStates(keys, share=self.share, anew=1 / self.spell / (1 - self.share))
        return lambda step: fast * torch.where(chain.at(step), self.slowdown, 1.0).double()
