"""Agents that crash at random."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from basinet.algorithms import draws
from basinet.algorithms.two_states import TwoStates
from basinet.sim.faults.fault import FAULTS, AgentFault, States

__all__ = ["Crashes"]


@FAULTS.register("crashes")
@dataclass(frozen=True, kw_only=True)
class Crashes(AgentFault):
    """Each agent that takes part crashes with a probability p in a step, and returns after a while, or never.

    With a mean absence of 1 / r steps, a share p / (p + r) of the agents is absent, from the first step on.

    Args:
        rejoin: What an agent that returns goes on from: its own parameters, or the weighted mean of its "neighbors"'.
        probability: p, in [0, 1].
        spell: Mean number of steps for which an agent is absent, at least 1 / (1 − p), which is without memory,
            and at most 10,000; None for ever.
    """

    probability: Annotated[float, Field(ge=0, le=1)]
    spell: Annotated[float, Field(ge=1, le=1e4)] | None = None

    def __post_init__(self) -> None:
        if self.spell is not None and self.probability + 1 / self.spell > 1 + 1e-12:
            raise ValueError(
                f"spell: got {self.spell} with the probability {self.probability}; at least 1 / (1 − probability) is"
                " needed"
            )

    def absences(self, keys: Tensor) -> States:
        """Return a function from the step to which agents are absent; see `AgentFault.absences`."""
        p = self.probability
        if self.spell is None:
            u = draws.uniform(keys, ())
            crash = torch.full_like(u, torch.inf) if p == 0 else (torch.log1p(-u) / torch.tensor(-p).double().log1p())
            return lambda step: step >= crash.floor()
        anew = p + 1 / self.spell
        return TwoStates(keys, share=p / anew, anew=anew).at
