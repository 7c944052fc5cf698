"""Messages that are sent at times of their own, and the lines that carry one of them after another."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from basinet.topologies.networks import Network
from basinet.topologies.networks.units import transfer

__all__ = ["Leaving", "MessageLines"]


class Leaving(NamedTuple):
    """A message that leaves: what is sent to whom, and after how many nanoseconds it arrives."""

    receiver: int
    message: tuple[int, object]
    takes: int


class MessageLines:
    """Carries messages, while later ones wait.

    A link carries one message at a time, and the access of an agent, if it is limited, those that leave together, and
    in the other direction one after another. What leaves together shares what the network shares; other messages that
    leave at other times do not slow it down.

    Args:
        network: The network; None for one that takes no time.
        pairs: Senders and receivers.
        size: Bytes of a message.

    Attributes:
        instant: Whether messages take no time.
        waiting: The messages that wait, by sender and receiver.

    Raises:
        MissingLink: The network has no link between a sender and a receiver.
    """

    def __init__(self, network: Network | None, pairs: Iterable[tuple[int, int]], size: int) -> None:
        self._network = network
        self.instant = network is None
        self._size = size
        self._links: dict[tuple[int, int], int] = {}
        self._together = False
        if network is not None:
            order = sorted(set(pairs), key=lambda pair: (pair[1], pair[0]))  # that of the links
            ends = np.array(order, dtype=np.int64).reshape(-1, 2)
            self._links = dict(zip(order, network.links_between(ends[:, 0], ends[:, 1]).tolist(), strict=True))
            self._together = bool(np.isfinite(np.asarray(network.ports.up)).any())
            down = np.broadcast_to(np.asarray(network.ports.down, np.float64), network.agents)
            self._intake: list[int] = transfer(np.full(network.agents, size), down).tolist()
            self._entered = [0] * network.agents
        self._delays: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        self.waiting: dict[int, dict[int, list[tuple[int, object]]]] = {}
        self._busy: dict[tuple[int, int | None], int] = {}

    def put(self, sender: int, receiver: int, message: tuple[int, object], *, newest: bool) -> None:
        """Let a message wait until its line is free; if only the newest counts, in the place of those that wait."""
        waiting = self.waiting.setdefault(sender, {}).setdefault(receiver, [])
        waiting[:] = [message] if newest else [*waiting, message]

    def _line(self, sender: int, receiver: int) -> tuple[int, int | None]:
        return sender, None if self._together else receiver

    def free(self, sender: int) -> int | None:
        """Return when the first line is free for which a message of an agent waits; None if none waits."""
        waiting = self.waiting.get(sender)
        return min(self._busy.get(self._line(sender, receiver), 0) for receiver in waiting) if waiting else None

    def leave(self, sender: int, now: int) -> list[Leaving]:
        """Let the messages leave whose lines are free.

        Args:
            sender: Whose.
            now: The time in nanoseconds.

        Returns:
            The messages.
        """
        waiting = self.waiting.get(sender, {})
        receivers = sorted(r for r in waiting if self._busy.get(self._line(sender, r), 0) <= now)
        found = []
        for receiver, (latency, occupies) in zip(receivers, self._takes(sender, receivers), strict=True):
            line = self._line(sender, receiver)
            self._busy[line] = max(self._busy.get(line, 0), now + occupies)
            found.append(Leaving(receiver, waiting[receiver].pop(0), latency + occupies))
            if not waiting[receiver]:
                del waiting[receiver]
        return found

    def _takes(self, sender: int, receivers: list[int]) -> list[tuple[int, int]]:
        """Return latency and transfer of messages that leave together."""
        assert self._network is not None
        links = tuple(self._links[sender, receiver] for receiver in receivers)
        if links not in self._delays:
            delays = self._network.delays(np.array(links, dtype=np.int64), self._size)
            self._delays[links] = list(zip(delays.latency.tolist(), delays.transfer.tolist(), strict=True))
        return self._delays[links]

    def queues(self, receiver: int) -> bool:
        """Return whether an agent's access lets messages in one after another."""
        return bool(self._intake[receiver])

    def enter(self, receiver: int, now: int) -> int:
        """Let a message in that would have arrived now; return how much longer it takes, after those before it."""
        done = max(now, self._entered[receiver] + self._intake[receiver])
        self._entered[receiver] = done
        return done - now

    def latency(self, sender: int, receiver: int) -> int:
        """Return how long an empty message takes, in nanoseconds."""
        assert self._network is not None
        return int(self._network.latency[self._links[sender, receiver]])
