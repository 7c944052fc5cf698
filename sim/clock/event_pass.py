"""The events of a replica's asynchronous agents, in order, and what is to be computed at them."""

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any

from basinet.algorithms import draws
from basinet.algorithms.strategies import EventDriven, Row
from basinet.sim.clock.message_lines import MessageLines
from basinet.sim.clock.row_operations import Adapt, Gradient, Mix, Operation, Step
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.faults.message_losses import MessageLosses

__all__ = ["EventPass"]

_FINISH, _ENTER, _ARRIVE = range(3)
"""What happens first at one instant; then agents combine, then they start."""

_IN_VAIN = 100_000
"""Messages that may be lost without that a gradient is finished."""

Heard = list[list[tuple[int, float]]]


class EventPass:
    """The agents of a replica, from event to event: see `basinet.algorithms.strategies.Events`.

    It knows times, and who computes what from what, but no numbers: times do not depend on these.

    Args:
        strategy: What agents do at events.
        heard: For each agent, those that it hears, in order, and their weights.
        lines: Carry the messages.
        compute: What a gradient of all agents takes, given its number: nanoseconds, [K].
        key: Key of the replica's draws.
        losses: Which messages are lost.

    Attributes:
        now: The time in nanoseconds.
        sent: Messages sent so far that are as large as a row.
        lost: Those of them that were lost.
        computed: Nanoseconds that each agent has computed.
        travelled: Nanoseconds that each has waited, without computing, while the message that it waited for travelled,
            and what that answers.
        waited: Nanoseconds that each has waited for other agents otherwise.
        ages: How many things were used so far, the sum of their ages, and the largest; see `stale`.
    """

    def __init__(
        self,
        strategy: EventDriven,
        heard: Heard,
        lines: MessageLines,
        compute: Callable[[int], Sequence[int]],
        key: int,
        losses: MessageLosses | None = None,
    ) -> None:
        self._strategy = strategy
        self._lines = lines
        self._compute = compute
        self._key = key
        self._losses = losses if losses is not None and losses.expected else None
        self.agents = len(heard)
        self.heard = heard
        self.hearers: list[list[int]] = [[] for _ in heard]
        for receiver, others in enumerate(heard):
            for sender, _ in others:
                self.hearers[sender].append(receiver)
        self.memory: dict[str, Any] = {}
        self.finished = [0] * self.agents
        self.now = self.sent = self.lost = self._lost_in_vain = 0
        self.computed, self.travelled, self.waited = ([0] * self.agents for _ in range(3))
        self.ages = (0, 0, 0)
        self._made = [0] * self.agents
        self.x = [self._row(k) for k in range(self.agents)]
        self._operations: list[Operation] = []
        self._points = list(self.x)
        self._heap: list[tuple[int, int, int, int, Any]] = []
        self._count = 0
        self._idle_since: list[int | None] = [0] * self.agents
        self._combines: dict[int, int] = {}
        self._sending: set[int] = set()
        self._wakes: dict[int, int] = {}
        self._cause = 0  # how long the message has travelled that is being answered
        strategy.begin(self)
        for k in range(self.agents):
            self._start(k)

    def _row(self, agent: int) -> Row:
        self._made[agent] += 1
        return Row(agent, self._made[agent] - 1)

    def _push(self, phase: int, agent: int, what: Any = None, later: int = 0) -> None:
        self._count += 1
        heappush(self._heap, (self.now + later, phase, agent, self._count, what))

    def step(self, finished: int) -> list[Operation]:
        """Go on to the instant in which so many gradients are finished in all, with all that happens in it.

        Args:
            finished: The number of gradients.

        Returns:
            What is computed meanwhile, in an order in which it can be.

        Raises:
            ExperimentError: All agents wait, and nothing is on its way.
        """
        done = sum(self.finished)
        while done < finished:
            if not self._heap:
                raise ExperimentError(f"strategy: after {done} gradients all agents wait, and no message is on its way")
            self.now = self._heap[0][0]
            done += self._instant()
        operations, self._operations = self._operations, []
        return operations

    def _instant(self) -> int:
        """Let all happen that happens now; return how many gradients are finished."""
        done, starts = 0, []
        while True:
            if self._heap and self._heap[0][0] == self.now:
                _, phase, k, _, what = heappop(self._heap)
                if phase == _FINISH:
                    done += 1
                    self._finish(k)
                elif what is None:  # a line is free
                    self._sending.add(k)
                elif phase == _ENTER:
                    self._enter(k, *what)
                else:
                    self._arrive(k, *what)
            elif self._combines:
                k = min(self._combines)
                if self._combine(k, self._combines.pop(k)):
                    starts.append(k)
            else:
                break
            if self._sending:
                for sender in sorted(self._sending):
                    self._leave(sender)
                self._sending.clear()
        for k in starts:
            self._start(k)
        return done

    def _finish(self, k: int) -> None:
        self.finished[k] += 1
        self._lost_in_vain = 0
        self._idle_since[k] = self.now
        self._strategy.finish(k, self)
        self._ask(k, 0)

    def _enter(self, k: int, sender: int, travelled: int, message: object) -> None:
        """Let a message in, when those that came before are."""
        wait = self._lines.enter(k, self.now)
        self._push(_ARRIVE, k, (sender, travelled + wait, message), wait)

    def _arrive(self, k: int, sender: int, travelled: int, message: object) -> None:
        self._cause = travelled
        if message is not None and sender != k and self._losses is not None and self._losses.lost(sender, k):
            self._lose(k, sender, message)
        else:
            self._strategy.arrive(k, sender, message, self)
        self._cause = 0
        self._ask(k, travelled)

    def _lose(self, k: int, sender: int, message: object) -> None:
        self.lost += 1
        self._lost_in_vain += 1
        if self._lost_in_vain > _IN_VAIN:
            raise ExperimentError(
                f"faults: {_IN_VAIN:,} messages are lost one after another, and no gradient is finished meanwhile"
            )
        self._strategy.lose(k, sender, message, self)

    def _ask(self, k: int, travelled: int) -> None:
        """Let an agent that does not compute combine at this instant, once."""
        if self._idle_since[k] is not None:
            self._combines.setdefault(k, travelled)

    def _combine(self, k: int, travelled: int) -> bool:
        """Let an agent combine; return whether it starts."""
        since = self._idle_since[k]
        if since is None or not self._strategy.combine(k, self):
            return False
        travelled = min(travelled, self.now - since)
        self.travelled[k] += travelled
        self.waited[k] += self.now - since - travelled
        return True

    def _start(self, k: int) -> None:
        self._idle_since[k] = None
        self._points[k] = self.x[k]
        takes = max(1, self._compute(self.finished[k])[k])
        self.computed[k] += takes
        self._push(_FINISH, k, later=takes)

    def _leave(self, sender: int) -> None:
        """Let messages of an agent leave, and come back when a line is free for the next."""
        for receiver, (cause, message), takes in self._lines.leave(sender, self.now):
            self.sent += 1
            phase = _ENTER if self._lines.queues(receiver) else _ARRIVE
            self._push(phase, receiver, (sender, cause + takes, message), takes)
        free = self._lines.free(sender)
        if free is not None and self._wakes.get(sender) != free:
            self._wakes[sender] = free
            self._push(_ARRIVE, sender, None, free - self.now)

    def adapt(self, agent: int) -> Row:
        """Take an agent's optimizer step; see `Events.adapt`."""
        x, point, batch = self.x[agent], self._points[agent], self.finished[agent] - 1
        if x is point:
            result = self._row(agent)
            self._operations.append(Step(result, x, batch))
            return result
        gradient, result = self._row(agent), self._row(agent)
        self._operations += [Gradient(gradient, point, batch), Adapt(result, x, gradient)]
        return result

    def mix(self, agent: int, own: Row, others: Sequence[tuple[float, Row]]) -> Row:
        """Combine rows; see `Events.mix`."""
        result = self._row(agent)
        weights, rows = tuple(weight for weight, _ in others), tuple(row for _, row in others)
        self._operations.append(Mix(result, own, weights, rows))
        return result

    def send(self, sender: int, receiver: int, message: object, *, newest: bool = False) -> None:
        """Send a message; see `Events.send`."""
        if sender == receiver or self._lines.instant:
            self.sent += message is not None and sender != receiver
            self._push(_ARRIVE, receiver, (sender, self._cause, message))
        elif message is None:
            takes = self._lines.latency(sender, receiver)
            self._push(_ARRIVE, receiver, (sender, self._cause + takes, None), takes)
        else:
            self._lines.put(sender, receiver, (self._cause, message), newest=newest)
            self._sending.add(sender)

    def choose(self, agent: int, count: int, turn: int = 0) -> int:
        """Draw a number; see `Events.choose`."""
        return draws.key(self._key, "choice", agent, self.finished[agent], *[turn] * (turn > 0)) % count

    def stale(self, versions: int) -> None:
        """Record the age of something used; see `Events.stale`."""
        count, total, largest = self.ages
        self.ages = count + 1, total + versions, max(largest, versions)

    def parameters(self) -> list[Row]:
        """Return what is measured of the agents."""
        return [self._strategy.parameters(k, self) for k in range(self.agents)]

    def live(self) -> list[Row]:
        """Return the rows that are still needed, by agent and number."""
        computing = [point for point, idle in zip(self._points, self._idle_since, strict=True) if idle is None]
        held = (self.x, computing, self.parameters(), self.memory, self._lines.waiting, [e[4] for e in self._heap])
        return sorted(set(_rows_in(held)), key=lambda row: (row.agent, row.number))


def _rows_in(held: Any) -> Iterator[Row]:
    """Find the rows in nested lists, tuples and dicts."""
    parts = [held]
    while parts:
        part = parts.pop()
        if isinstance(part, Row):
            yield part
        elif isinstance(part, list | tuple):
            parts.extend(part)
        elif isinstance(part, dict):
            parts.extend(part.values())
