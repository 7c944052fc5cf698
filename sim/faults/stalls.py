"""Agents that stall for some seconds."""

from dataclasses import dataclass

import torch
from torch import Tensor

from basinet.sim.clock.laws.compute_law import Draw, Duration
from basinet.sim.faults.fault import FAULTS, Agents, Fault, Step, Steps, one_by_one
from basinet.topologies.networks.units import nanoseconds

__all__ = ["Stalls"]


@FAULTS.register("stalls")
@dataclass(frozen=True, kw_only=True)
class Stalls(Fault):
    """Some agents take longer for a gradient, once or again and again: only simulated time knows it.

    Where all compute equally long, everyone is later by as much from the step on in which it hears of it.

    Args:
        agents: Their numbers in the graph's order, from 0.
        at: In which step, from 0; for agents that act at events, in which of their gradients.
        time: How much longer, with its unit, such as 2 s.
        every: After how many steps from `at` they stall anew; None for once.
    """

    agents: Agents
    at: Step
    time: Duration
    every: Steps | None = None

    def added(self, keys: Tensor) -> Draw:
        """Return a function from the step to how much longer agents compute.

        Args:
            keys: Keys of the agents, int64 [R, K].

        Returns:
            The function, whose results are nanoseconds, float64 [R, K].
        """
        longer = one_by_one(self.agents, keys).double() * nanoseconds(self.time)

        def times(step: int) -> Tensor:
            since = step - self.at
            stalls = since == 0 if self.every is None else since >= 0 and since % self.every == 0
            return longer if stalls else torch.zeros_like(longer)

        return times
