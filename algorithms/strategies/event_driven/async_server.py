"""Asynchronous training by way of a server, with a buffer, local steps, and a bound on how far agents are apart."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from pydantic import Field

from basinet.algorithms.strategies.event_driven.events import Count, EventDriven, Events, Row
from basinet.algorithms.strategies.strategy import STRATEGIES
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["AsyncServer"]


@STRATEGIES.register("async_server")
@dataclass(frozen=True)
class AsyncServer(EventDriven):
    """An asynchronous parameter server: agents change the server's model by what their own local steps change.

    Agent k reads the server's model z, takes `period` local steps from it, x ← adapt(x, g_k(x)), and sends the change
    Δ_k = x − z, with z as it was read. When `buffer` changes have arrived: z ← z + (rate / K) Σ Δ. Who has sent a
    change gets z at once, and goes on. So K changes move z as far as their mean, which is what a step of `centralized`
    or `local_sgd` does. With a buffer and a period of 1 and SGD this is asynchronous SGD, of the learning rate μ / K at
    the rate 1; with a longer buffer it is FedBuff, which takes their mean at the rate K / buffer; and with a buffer for
    K and the bound 0 it is local SGD. What is measured is z. The server is where some agent is, whose own messages to
    it take no time.

    It minimises Σ_k r_k J_k, with r_k the rate at which agent k sends changes: fast agents count more unless they wait.

    Args:
        buffer: How many changes are added at once.
        period: Local steps between a reading and the next.
        rate: Factor on the changes.
        bound: How many changes an agent may have sent more than the slowest: those ahead wait. None for no bound.
        host: The agent whose place in the network the server has, by its number.

    References:
        J. Nguyen et al.: Federated learning with buffered asynchronous aggregation, AISTATS 2022, arXiv:2106.06639.
        A. Agarwal, J. Duchi: Distributed delayed stochastic optimization, NIPS 2011, arXiv:1104.5525. Q. Ho et al.:
        More effective distributed ML via a stale synchronous parallel parameter server, NIPS 2013 (the bound).
    """

    traits: ClassVar[StrategyTraits] = replace(EventDriven.traits, uses_graph=False, tolerates="none")
    buffer: Count = 1
    period: Count = 1
    rate: Annotated[float, Field(gt=0)] = 1.0
    bound: Annotated[int, Field(ge=0)] | None = None
    host: Annotated[int, Field(ge=0)] = 0

    def links(self, heard: list[list[tuple[int, float]]]) -> Iterable[tuple[int, int]]:
        """Return the links between the server's place and all others."""
        if self.host >= len(heard):
            raise ValueError(f"host: got {self.host}; allowed are the numbers of agents, 0 to {len(heard) - 1}")
        others = [k for k in range(len(heard)) if k != self.host]
        return [(k, self.host) for k in others] + [(self.host, k) for k in others]

    def begin(self, events: Events) -> None:
        """Let all agents have read the server's model, which is theirs."""
        agents = range(events.agents)
        events.memory |= {"model": events.x[self.host], "version": 0, "buffer": [], "held": []}
        events.memory |= {"read": [(events.x[k], 0) for k in agents], "reads": [True for _ in agents]}
        events.memory["sent"] = [0 for _ in agents]

    def finish(self, k: int, events: Events) -> None:
        """x_k ← adapt(x_k, g_k(x_k)); send the change after the last local step."""
        events.x[k] = events.adapt(k)
        if events.finished[k] % self.period == 0:
            events.memory["reads"][k] = False
            events.send(k, self.host, (*events.memory["read"][k], events.x[k]))

    def arrive(self, k: int, sender: int, message: tuple[Any, ...], events: Events) -> None:
        """Take a change at the server, or its model at an agent."""
        memory = events.memory
        if len(message) == 2:
            events.x[k], memory["read"][k], memory["reads"][k] = message[0], message, True
            return
        read, version, x = message
        events.stale(memory["version"] - version)
        memory["buffer"].append((read, x))
        memory["sent"][sender] += 1
        if len(memory["buffer"]) == self.buffer:
            self._apply(events)
        memory["held"].append(sender)
        least = min(memory["sent"])
        for other in [*memory["held"]]:
            if self.bound is None or memory["sent"][other] <= least + self.bound:
                memory["held"].remove(other)
                events.send(self.host, other, (memory["model"], memory["version"]))

    def _apply(self, events: Events) -> None:
        """Let the changes count: z ← z + (rate / K) Σ Δ."""
        memory, share = events.memory, self.rate / events.agents
        changes = [part for read, x in memory["buffer"] for part in ((share, x), (-share, read))]
        memory["model"] = events.mix(self.host, memory["model"], changes)
        memory["version"] += 1
        memory["buffer"] = []

    def combine(self, k: int, events: Events) -> bool:
        """Compute if the model has been read."""
        reads: bool = events.memory["reads"][k]
        return reads

    def parameters(self, k: int, events: Events) -> Row:
        """Return the server's model."""
        row: Row = events.memory["model"]
        return row
