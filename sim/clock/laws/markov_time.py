"""Compute time of agents that are slow for a while."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from basinet.algorithms import draws
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
        chain = _Chain(keys, self.share, 1 / self.spell / (1 - self.share))
        return lambda step: fast * torch.where(chain.at(step), self.slowdown, 1.0).double()


class _Chain:
    """The chain of each agent: its state is drawn anew with a probability p + r, else kept.

    A state is thus a function of its draws back to the last one that was anew, and of nothing before.

    Args:
        keys: Keys of the agents, int64 [R, K].
        share: Probability of the slow state.
        anew: p + r.
    """

    def __init__(self, keys: Tensor, share: float, anew: float) -> None:
        self._keys, self._slow, self._anew = keys, share * anew, anew
        self._known: tuple[int, Tensor] | None = None

    def at(self, step: int) -> Tensor:
        """Return who is slow in a step, bool [R, K]."""
        if self._known is None or self._known[0] != step - 1:
            before = torch.zeros_like(self._keys, dtype=torch.bool).flatten()
            left, keys, n = torch.arange(len(before)), self._keys.flatten(), step - 1
            while len(left):
                u = draws.uniform(draws.fold(keys[left], n), ())
                before[left] = u < self._slow
                left, n = left[u >= self._anew], n - 1
            self._known = step - 1, before.view_as(self._keys)
        u = draws.uniform(draws.fold(self._keys, step), ())
        self._known = step, torch.where(u < self._anew, u < self._slow, self._known[1])
        return self._known[1]
