"""The data flow of a strategy: which computations and messages its steps have, and what these wait for."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["DataFlow", "Edges", "Event", "Kind", "StepFlow", "Waits"]

Kind = Literal["compute", "exchange", "collective"]
Edges = Literal["graph", "reverse", "server"]

Waits = tuple[tuple[int, int], ...]
"""Events that have to end before, each as its place in its step, and how many steps ago that was."""


@dataclass(frozen=True)
class Event:
    """What takes time in a step, on all agents alike.

    Attributes:
        kind: "compute", passes of an agent's batch; "exchange", a message along each edge, which an agent has when all
            that it hears have arrived; "collective", a sum over all agents.
        waits: What an agent has to have before. Beside that, an agent computes one thing after the other.
        size: Bytes of a message, those of one agent's row.
        edges: Along which edges it travels: "graph", those of the mixing weights; "reverse", those of the weights whose
            columns sum to one; "server" for a collective.
        share: How many passes of a batch are computed.
    """

    kind: Kind
    waits: Waits
    size: int = 0
    edges: Edges | None = None
    share: float = 0.0


@dataclass(frozen=True)
class StepFlow:
    """The data flow of a step.

    Attributes:
        events: Its events, in the order in which the strategy calls them.
        result: What an agent's parameters at the end of the step wait for.
    """

    events: tuple[Event, ...]
    result: Waits


@dataclass(frozen=True)
class DataFlow:
    """The data flow of all steps: some first ones, then a cycle.

    Attributes:
        first: The first steps.
        cycle: The steps that repeat after them.
    """

    first: tuple[StepFlow, ...]
    cycle: tuple[StepFlow, ...]

    def at(self, step: int) -> StepFlow:
        """Return the data flow of a step, from 0."""
        later = step - len(self.first)
        return self.first[step] if later < 0 else self.cycle[later % len(self.cycle)]

    @property
    def reach(self) -> int:
        """How many steps ago the earliest event was that a step waits for."""
        steps = self.first + self.cycle
        waits = [waits for step in steps for waits in (step.result, *(event.waits for event in step.events))]
        return max((ago for some in waits for _, ago in some), default=0)
