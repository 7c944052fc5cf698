"""Outages: what the faults of a run put out of order in each step, the same on every worker."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from basinet.algorithms import draws
from basinet.sim.faults.fault import AgentFault, Fault, LinkFault, Numbers, States
from basinet.sim.faults.link_delay import LinkDelay
from basinet.topologies.mixing_matrix import edges_of
from basinet.topologies.networks import Network

__all__ = ["Outage", "Outages", "loss_between", "replica_keys"]


@dataclass(frozen=True)
class Outage:
    """What is out of order in a step, along the edges of its mixing matrix by receivers, then senders.

    Attributes:
        lost: Which messages do not arrive, bool [R, E].
        unsent: Those of them that are not sent, since one of the two agents is absent, bool [R, E].
        missing: Weight of the messages that each agent lacks, [R, K].
        added: Weight that each agent gives to its own value instead, [R, K]: the same, so that its weights keep their
            sum; or, where weights sum to one over what an agent sends, that of what it does not send.
    """

    lost: NDArray[np.bool_]
    unsent: NDArray[np.bool_]
    missing: NDArray[np.float64]
    added: NDArray[np.float64]


@dataclass(frozen=True)
class _Links:
    """The edges of a mixing matrix, which of them fail, and how many steps messages take."""

    receivers: NDArray[np.int64]
    senders: NDArray[np.int64]
    weights: NDArray[np.float64]
    failures: list[States]
    delays: list[Numbers]


class Outages:
    """Finds what is out of order, by draws keyed by (seed, fault, replica, link or agent, step).

    Args:
        faults: The faults.
        sequences: The mixing matrices of a period, by kind of edge.
        network: The network, whose losses some faults follow; None if there is none.
        columns: The kinds whose weights sum to one over what an agent sends, and not over what it receives.
        agents: K.
        replicas: R.
        seed: The experiment's seed.

    Attributes:
        expected: Whether messages may be lost or agents be absent.
        of_links: Whether messages may be lost that were sent.
        longest: The most steps that a message may take.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        sequences: Mapping[str, Sequence[csr_array]],
        *,
        network: Network | None = None,
        columns: Collection[str] = (),
        agents: int,
        replicas: int = 1,
        seed: int = 0,
    ) -> None:
        self._sequences, self._columns, self._network = sequences, columns, network
        self._shape = replicas, agents
        every = [(fault, replica_keys(replicas, seed, number)) for number, fault in enumerate(faults)]
        self._of_links = [(fault, keys) for fault, keys in every if isinstance(fault, LinkFault)]
        self._of_agents = [
            (fault, fault.absences(draws.fold(keys, torch.arange(agents))))
            for fault, keys in every
            if isinstance(fault, AgentFault)
        ]
        self._late = [(fault, keys) for fault, keys in every if isinstance(fault, LinkDelay)]
        self.longest = sum(fault.steps for fault, _ in self._late)
        self.of_links = bool(self._of_links)
        self.expected = bool(self._of_links or self._of_agents)
        self._links: dict[tuple[str, int], _Links] = {}
        self._last: dict[str, tuple[int, Outage | None]] = {}

    def absent(self, step: int) -> NDArray[np.bool_] | None:
        """Find who is absent in a step.

        Args:
            step: The step.

        Returns:
            bool [R, K]; None if there are no such faults.
        """
        if not self._of_agents:
            return None
        away: NDArray[np.bool_] = np.logical_or.reduce([absences(step).numpy() for _, absences in self._of_agents])
        return away

    def welcomed(self, step: int) -> NDArray[np.bool_] | None:
        """Find who returns with a step, to go on from the parameters of its neighbours.

        Args:
            step: The step.

        Returns:
            bool [R, K]; None if nobody does.
        """
        away = [
            absences(step - 1).numpy()
            for fault, absences in self._of_agents
            if step > 0 and fault.rejoin == "neighbors"
        ]
        if not away:
            return None
        found: NDArray[np.bool_] = np.logical_or.reduce(away) & ~np.asarray(self.absent(step))
        return found if found.any() else None

    def messages_to(self, who: NDArray[np.bool_], kind: str, step: int) -> NDArray[np.int64]:
        """Count the messages that some agents hear in a step.

        Args:
            who: The agents, bool [R, K].
            kind: The kind of edge.
            step: The step.

        Returns:
            int64 [R].
        """
        heard = who[:, self._at(kind, step).receivers]
        if (outage := self.at(kind, step)) is not None:
            heard = heard & ~outage.lost
        found: NDArray[np.int64] = heard.sum(1)
        return found

    def at(self, kind: str, step: int) -> Outage | None:
        """Find what is out of order in a step.

        Args:
            kind: The kind of edge.
            step: The step.

        Returns:
            The outage; None if nothing is.
        """
        if not self.expected:
            return None
        if self._last.get(kind, (-1, None))[0] != step:
            self._last[kind] = step, self._find(kind, step)
        return self._last[kind][1]

    def delays(self, kind: str, step: int) -> NDArray[np.int64]:
        """Find how many steps messages take that are sent in a step.

        Args:
            kind: The kind of edge.
            step: The step.

        Returns:
            int64 [R, E].
        """
        links = self._at(kind, step)
        found = np.zeros((self._shape[0], len(links.receivers)), np.int64)
        for delay in links.delays:
            found += delay(step).numpy()
        return found

    def _find(self, kind: str, step: int) -> Outage | None:
        links = self._at(kind, step)
        lost, unsent = np.zeros((2, self._shape[0], len(links.receivers)), dtype=bool)
        for fails in links.failures:
            lost |= fails(step).numpy()
        absent = self.absent(step)
        if absent is not None:
            unsent = absent[:, links.receivers] | absent[:, links.senders]
            lost |= unsent
        if not lost.any():
            return None
        missing = self._sums(lost, links.receivers, links.weights)
        rows = kind not in self._columns
        added = missing if rows else self._sums(unsent, links.senders, links.weights)
        return Outage(lost, unsent, missing, added)

    def _sums(self, chosen: NDArray[np.bool_], ends: NDArray[np.int64], weights: NDArray[np.float64]) -> np.ndarray:
        """Sum the weights of chosen edges [R, E] by one of their ends, [R, K]."""
        total = np.zeros(self._shape)
        replicas, edges = chosen.nonzero()
        np.add.at(total, (replicas, ends[edges]), weights[edges])
        return total

    def _at(self, kind: str, step: int) -> _Links:
        sequence = self._sequences[kind]
        phase = step % len(sequence)
        if (kind, phase) not in self._links:
            self._links[kind, phase] = self._describe(sequence[phase])
        return self._links[kind, phase]

    def _describe(self, weights: csr_array) -> _Links:
        """Prepare what is drawn for the edges of a mixing matrix."""
        receivers, senders, values = edges_of(weights)
        ends = torch.from_numpy(receivers), torch.from_numpy(senders)
        failures = []
        for fault, keys in self._of_links:
            first, second = (torch.minimum(*ends), torch.maximum(*ends)) if fault.symmetric else ends
            bound = fault.on(loss_between(self._network, senders, receivers, both_ways=fault.symmetric))
            failures.append(bound.failures(draws.fold(draws.fold(keys, first), second)))
        delays = [fault.delays(draws.fold(draws.fold(keys, ends[0]), ends[1])) for fault, keys in self._late]
        return _Links(receivers, senders, values, failures, delays)


def loss_between(
    network: Network | None, senders: NDArray[np.int64], receivers: NDArray[np.int64], *, both_ways: bool
) -> Tensor:
    """Return the share of messages that a network loses on links.

    Args:
        network: The network; None loses none.
        senders: Who sends [E].
        receivers: To whom [E].
        both_ways: Whether the larger loss of both directions counts.

    Returns:
        Shares, float64 [E].
    """
    if network is None:
        return torch.zeros(len(senders), dtype=torch.float64)
    loss = network.loss_between(senders, receivers)
    if both_ways:
        loss = np.maximum(loss, network.loss_between(receivers, senders))
    return torch.from_numpy(loss)


def replica_keys(replicas: int, seed: int, number: int) -> Tensor:
    """Derive the keys of a fault in each replica.

    Args:
        replicas: R.
        seed: The experiment's seed.
        number: The fault's place among those of the run.

    Returns:
        int64 [R, 1].
    """
    return draws.fold(torch.full((replicas, 1), draws.key(seed, "fault", number)), torch.arange(replicas)[:, None])
