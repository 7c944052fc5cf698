"""Agents that pause at a given step."""

from dataclasses import dataclass

from torch import Tensor

from basinet.sim.faults.fault import FAULTS, AgentFault, Agents, States, Step, Steps, one_by_one

__all__ = ["Pauses"]


@FAULTS.register("pauses")
@dataclass(frozen=True, kw_only=True)
class Pauses(AgentFault):
    """Some agents are absent from a step on, for a while or for ever, once or again and again.

    Args:
        rejoin: What an agent that returns goes on from: its own parameters, or the weighted mean of its "neighbors"'.
        agents: Their numbers in the graph's order, from 0.
        at: The first step without them, from 0; with 0, they join later.
        steps: For how many steps; None for ever.
        every: After how many steps from `at` they are absent anew; None for once.
    """

    agents: Agents
    at: Step
    steps: Steps | None = None
    every: Steps | None = None

    def __post_init__(self) -> None:
        if self.every is not None and (self.steps is None or self.steps >= self.every):
            raise ValueError(f"every: got {self.every}; more than steps: {self.steps} is needed")

    def absences(self, keys: Tensor) -> States:
        """Return a function from the step to which agents are absent; see `AgentFault.absences`."""
        chosen = one_by_one(self.agents, keys)
        return lambda step: chosen & self._on(step)

    def _on(self, step: int) -> bool:
        """Return whether there is a pause in a step."""
        since = step - self.at
        if self.every is not None and since >= 0:
            since %= self.every
        return since >= 0 and (self.steps is None or since < self.steps)
