"""Interface of strategies whose agents act at events, each at its own time, and of what they may do there."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import Field

from basinet.algorithms.strategies.strategy import Block
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["Count", "EventDriven", "Events", "Row"]

Count = Annotated[int, Field(ge=1)]


class Row:
    """The parameters of an agent at some moment, or numbers like them: a row of P numbers that never changes.

    Attributes:
        agent: Which agent has computed it.
        number: How many rows this agent had computed before.
    """

    __slots__ = ("agent", "number")

    def __init__(self, agent: int, number: int) -> None:
        self.agent = agent
        self.number = number


class Events(Protocol):
    """The agents of a replica, as an event-driven strategy sees them.

    What happens is found without numbers: a row stands for numbers that are computed afterwards, so that keeping or
    sending it copies nothing.
    """

    agents: int
    """K."""

    x: list[Row]
    """The agents' parameters; an agent's next gradient is computed at those that it has when it starts."""

    finished: list[int]
    """How many gradients each agent has finished."""

    memory: dict[str, Any]
    """What a strategy remembers: rows and plain values, in lists, tuples and dicts."""

    heard: list[list[tuple[int, float]]]
    """For each agent k, the agents l that it hears, in order, and W[k, l]."""

    hearers: list[list[int]]
    """For each agent, those that hear it, in order."""

    def adapt(self, agent: int) -> Row:
        """Take an agent's optimizer step with the gradient that it has finished: adapt(x_k, g_k)."""

    def mix(self, agent: int, own: Row, others: Sequence[tuple[float, Row]]) -> Row:
        """Compute own + Σ_l w_l (x_l − own) on an agent."""

    def send(self, sender: int, receiver: int, message: object, *, newest: bool = False) -> None:
        """Send a message, which arrives when the network has carried it: as large as a row, or None, which is nothing.

        A link carries one after the other; if only the `newest` counts, it takes the place of one that still waits.
        """

    def choose(self, agent: int, count: int, turn: int = 0) -> int:
        """Draw a number below `count`, by the agent, the number of gradients that it has finished, and the turn."""

    def stale(self, versions: int) -> None:
        """Record the age of something used, in newer versions that were there."""


class EventDriven(ABC):
    """A strategy whose agents act at events.

    At one instant, first all gradients are finished, then messages arrive, then agents combine, then they start; within
    each, agents take turns in their order. With no delays and equal times this is a synchronous step. A step of a run
    is over at the instant in which K times as many gradients are finished in all.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(static=True, combines_x=False, mixes_all=True)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        block.happen()

    def links(self, heard: list[list[tuple[int, float]]]) -> Iterable[tuple[int, int]]:
        """Return the senders and receivers of what is sent, given whom each agent hears: by default, these."""
        return [(sender, receiver) for receiver, others in enumerate(heard) for sender, _ in others]

    def begin(self, events: Events) -> None:  # noqa: B027
        """Set up what is remembered."""

    @abstractmethod
    def finish(self, k: int, events: Events) -> None:
        """Act when an agent has finished a gradient."""

    def arrive(self, k: int, sender: int, message: Any, events: Events) -> None:  # noqa: B027
        """Act when a message arrives at an agent."""

    def lose(self, k: int, sender: int, message: Any, events: Events) -> None:  # noqa: B027
        """Act when a message that is not None is lost, at the time at which it would have arrived at an agent."""

    def combine(self, k: int, events: Events) -> bool:
        """Act after that, at an agent that does not compute; return whether it starts to compute a gradient now."""
        return True

    def parameters(self, k: int, events: Events) -> Row:
        """Return what is measured of an agent."""
        return events.x[k]
