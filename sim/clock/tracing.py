"""Tracing of a strategy: what its agents compute and send, and what each of that depends on."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from basinet.sim.agents.block import Block
from basinet.sim.clock.data_flow import Edges, Kind
from basinet.sim.clock.tensor_sources import Sources, numbers_in

__all__ = ["TracedBlock", "TracedEvent"]


@dataclass(frozen=True)
class TracedEvent:
    """An event as it happened; see `basinet.sim.clock.data_flow.Event`. `waits` are numbers of events, as bits."""

    kind: Kind
    waits: int
    size: int = 0
    edges: Edges | None = None
    share: float = 0.0


class TracedBlock:
    """A block that keeps record of what its agents compute and send, and of what each of that depends on.

    Args:
        block: The block, which takes the steps.
        sweep: Passes of a batch in a gradient over all of an agent's data.

    Attributes:
        events: All events.
        step_of: The step of each.
        starts: Number of the first event of each step, and of the step to come.
        results: The events that the parameters depend on at the end of each step, as bits.
    """

    def __init__(self, block: Block, sweep: float) -> None:
        self.block = block
        self._sweep = sweep
        self._sources = Sources()
        self._computed = 0
        self._optimizer = 0
        self._messages: list[tuple[Edges, Tensor, Callable[[], None]]] | None = None
        self.events: list[TracedEvent] = []
        self.step_of: list[int] = []
        self.starts = [0]
        self.results: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.block, name)

    def advance(self, steps: int) -> None:
        """Take steps.

        Args:
            steps: Their number.
        """
        for _ in range(steps):
            with self._sources:
                self.block.strategy.step(self)
            self.results.append(self._sources.latest(self._sources.of(self.block.x)))
            self.block.step += 1
            self.starts.append(len(self.events))

    def _record(
        self,
        kind: Kind,
        sources: int,
        size: int = 0,
        edges: Edges | None = None,
        share: float = 0.0,
    ) -> int:
        """Record an event that needs what depends on `sources`; return its bit."""
        own = self._computed if kind == "compute" else 0  # an agent computes one thing after the other
        before = sources | own
        waits = self._sources.latest(before) & ~own
        for number in numbers_in(before):
            before |= self._sources.before[number]
        self._sources.before.append(before)
        bit = 1 << len(self.events)
        if kind == "compute":
            self._computed = bit
        self.events.append(TracedEvent(kind, waits, size, edges, share))
        self.step_of.append(self.block.step)
        return bit

    def _compute(self, verb: Callable[[], Tensor], share: float | None = None) -> Tensor:
        sources = self._sources.of(self.block.x) | (self._optimizer if self.block.optimizer.evaluates else 0)
        before = self.block.oracle.passes
        with self._sources.ignoring():
            result = verb()
        passes = self.block.oracle.passes - before
        self._sources.set(result, self._record("compute", sources, share=float(passes) if share is None else share))
        return result

    def gradients(self) -> Tensor:
        """Compute as the block does."""
        return self._compute(self.block.gradients)

    def full_gradients(self) -> Tensor:
        """Compute as the block does."""
        return self._compute(self.block.full_gradients, self._sweep)

    def adapt(self, gradients: Tensor, active: Tensor | None = None) -> None:
        """Step as the block does; what that takes counts as a part of the pass before."""
        sources = self._sources.latest(self._sources.of(self.block.x, gradients, active) | self._optimizer)
        with self._sources.ignoring():
            self.block.adapt(gradients, active)
        self._sources.set(self.block.x, sources)
        self._optimizer = sources

    @contextmanager
    def together(self) -> Iterator[None]:
        """Send what is combined and pushed inside in one message along each kind of edge."""
        if self._messages is not None:
            yield
            return
        messages: list[tuple[Edges, Tensor, Callable[[], None]]] = []
        self._messages = messages
        try:
            yield
        finally:
            self._messages = None
        sources = self._sources.of(*(x for _, x, _ in messages))
        sizes: dict[Edges, int] = {}
        with self._sources.ignoring(), self.block.together():
            for kind, _, verb in messages:
                sizes[kind] = sizes.get(kind, 0) + self._sent(kind, verb)[1]
        events = {kind: self._record("exchange", sources, size, kind) for kind, size in sizes.items()}
        for kind, x, _ in messages:
            self._set(x, events[kind])

    def combine(self, x: Tensor, sent: int | None = None, *, truly: bool = False) -> None:
        """Mix rows as the block does, at the end of `together`."""
        self._mix("graph", x, partial(self.block.combine, x, sent, truly=truly))

    def push(self, x: Tensor) -> None:
        """Mix rows as the block does, at the end of `together`."""
        self._mix("reverse", x, partial(self.block.push, x))

    def _mix(self, kind: Edges, x: Tensor, verb: Callable[[], None]) -> None:
        with self.together():
            assert self._messages is not None
            self._messages.append((kind, x, verb))

    def exchange(self, messages: Tensor, sent: int | None = None) -> Tensor:
        """Exchange rows as the block does."""
        sources = self._sources.of(messages)
        with self._sources.ignoring():
            received: Tensor
            received, size = self._sent("graph", partial(self.block.exchange, messages, sent))
        self._sources.set(received, self._record("exchange", sources, size, "graph"))
        return received

    def broadcast(self, x: Tensor) -> Iterable[tuple[slice, Tensor]]:
        """Send rows as the block does."""
        with self._sources.ignoring():
            heard, size = self._sent("graph", partial(self.block.broadcast, x))
        return _Heard(heard, self._sources, self._record("exchange", self._sources.of(x), size, "graph"))

    def average(self, x: Tensor) -> None:
        """Average rows as the block does."""
        self._sum(x, partial(self.block.average, x))

    def pool(self, gradients: Tensor) -> None:
        """Pool gradients as the block does."""
        self._sum(gradients, partial(self.block.pool, gradients))

    def _sum(self, x: Tensor, verb: Callable[[], None]) -> None:
        sources = self._sources.of(x)
        with self._sources.ignoring():
            size = self._sent("server", verb)[1]
        self._set(x, self._record("collective", sources, size, "server"))

    def _sent(self, kind: Edges, verb: Callable[[], Any]) -> tuple[Any, int]:
        """Call an operation; return its result and the bytes of a row that it sends."""
        sent = self.block.channel.row_bytes
        before = sent[kind]
        result = verb()
        return result, sent[kind] - before

    def _set(self, x: Tensor, event: int) -> None:
        """Say that rows, and what follows the parameters, have come with a message."""
        self._sources.set(x, event)
        if x is self.block.x and self.block.setup.config.optimizer_state == "mix":
            self._optimizer = event


class _Heard:
    """What a broadcast brings, whenever it is read."""

    def __init__(self, heard: Iterable[tuple[slice, Tensor]], sources: Sources, event: int) -> None:
        self._heard, self._sources, self._event = heard, sources, event

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        for columns, rows in self._heard:
            self._sources.set(rows, self._event)
            yield columns, rows
