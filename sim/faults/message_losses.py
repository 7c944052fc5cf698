"""Which messages are lost that agents send at times of their own."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from basinet.algorithms import draws
from basinet.sim.faults.fault import Fault, LinkFault
from basinet.sim.faults.outages import loss_between, replica_keys
from basinet.topologies.networks import Network

__all__ = ["MessageLosses"]

_MANY = 100
"""Numbers of messages that are worth looking through, to forget those that all links have passed."""


class MessageLosses:
    """Loses messages one by one, by draws keyed by (seed, fault, replica, link, number of the message on it).

    What a fault of links says of a step is taken for the message of that number; each direction is a link of its own.

    Args:
        faults: The faults, of which those of links matter.
        pairs: Senders and receivers of the links.
        network: The network whose losses a fault may take over.
        replica: The replica's number.
        seed: The experiment's seed.

    Attributes:
        expected: Whether messages may be lost.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        pairs: Iterable[tuple[int, int]],
        *,
        network: Network | None = None,
        replica: int = 0,
        seed: int = 0,
    ) -> None:
        links = sorted(set(pairs))
        senders, receivers = torch.tensor(links, dtype=torch.int64).reshape(-1, 2).unbind(1)
        self._places = {link: place for place, link in enumerate(links)}
        self._failures = []
        for number, fault in enumerate(faults):
            if isinstance(fault, LinkFault):
                keys = replica_keys(replica + 1, seed, number)[replica:]
                loss = loss_between(network, senders.numpy(), receivers.numpy(), both_ways=fault.symmetric)
                self._failures.append(fault.on(loss).failures(draws.fold(draws.fold(keys, receivers), senders)))
        self.expected = bool(self._failures)
        self._counts = [0] * len(links)
        self._known: dict[int, list[bool]] = {}
        self._needed = 0

    def lost(self, sender: int, receiver: int) -> bool:
        """Return whether the next message from an agent to another is lost.

        Args:
            sender: Who sends it.
            receiver: Whom it would reach.
        """
        place = self._places[sender, receiver]
        number = self._counts[place]
        if number not in self._known:
            fails = [failures(number).numpy()[0] for failures in self._failures]
            self._known[number] = np.logical_or.reduce(fails).tolist()
            if len(self._known) > 2 * self._needed + _MANY:
                least = min(self._counts)
                self._known = {n: lost for n, lost in self._known.items() if n >= least}
                self._needed = len(self._known)
        self._counts[place] += 1
        return self._known[number][place]
