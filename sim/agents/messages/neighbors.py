"""Neighbours in slots: rows sent to each neighbour separately, instead of their weighted sum."""

from collections.abc import Iterator
from copy import copy

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from basinet.sim.agents.messages.boundary import Boundary, crossing, in_replicas
from basinet.sim.agents.messages.wire import Routes, Wire
from basinet.sim.agents.placement import Placement
from basinet.sim.faults.outages import Outage
from basinet.topologies.mixing_matrix import edges_of

__all__ = ["Neighbors"]


class Neighbors:
    """The neighbours of each agent, each in a slot of its own, and the exchange of rows with them.

    The slots of an agent are its neighbours in the order of the agents: those that it hears and those that hear it.
    Agents with fewer than D neighbours have empty slots at the end.

    Args:
        weights: Mixing matrix W [K, K]: agent k hears agent l where W[k, l] is not zero.
        placement: The rows of this worker.
        like: A tensor of the device and type of the weights.
        wire: Carries rows to other workers.

    Attributes:
        weights: Weight that agent k gives to the neighbour in each slot, [N, D]; 0 where it hears nobody.
        own: Weight that it gives to itself, [N].
        heard: Whether it hears the neighbour in the slot, bool [N, D].
    """

    def __init__(self, weights: csr_array, placement: Placement, like: Tensor, wire: Wire) -> None:
        self._wire = wire
        self._lost: Tensor | None = None
        self._most_rows = int(np.bincount(placement.owner).max())
        receiver, sender, value = edges_of(weights)

        # The slot of a neighbour is its place among the agent's sorted neighbours.
        agents = placement.agents
        pairs = np.unique(np.concatenate([receiver * agents + sender, sender * agents + receiver]))
        starts = np.searchsorted(pairs, np.arange(agents) * agents)
        self.size = int(np.diff(np.append(starts, len(pairs))).max(initial=0))

        def slot(agent: np.ndarray, neighbor: np.ndarray) -> np.ndarray:
            return np.asarray(np.searchsorted(pairs, agent * agents + neighbor) - starts[agent])

        target, source = slot(receiver, sender), slot(sender, receiver)
        table = np.zeros((agents, self.size))
        table[receiver, target] = value
        self._edges = receiver, target
        self._placement = placement
        here = torch.from_numpy(placement.row_agents)
        self.weights = torch.from_numpy(table)[here].to(like)
        self.own = torch.from_numpy(weights.diagonal())[here].to(like)
        self.heard = self.weights != 0

        receiver, sender = in_replicas(receiver, placement), in_replicas(sender, placement)
        target, source = np.tile(target, placement.replicas), np.tile(source, placement.replicas)
        by, of = placement.owner[receiver] == placement.rank, placement.owner[sender] == placement.rank
        stays, leaves, arrives = by & of, of & ~by, np.flatnonzero(by & ~of)
        arrives = arrives[np.argsort(placement.owner[sender[arrives]], kind="stable")]

        def index(places: np.ndarray) -> Tensor:
            return torch.from_numpy(places).to(like.device)

        def in_slots(rows: np.ndarray, slots: np.ndarray) -> np.ndarray:
            return np.asarray(placement.local(rows) * self.size + slots)

        self._own_rows = index(placement.local(sender[stays]))
        self._own_told = index(in_slots(sender[stays], source[stays]))
        self._own_heard = index(in_slots(receiver[stays], target[stays]))
        self._others_heard = index(in_slots(receiver[arrives], target[arrives]))
        told, owners = in_slots(sender[leaves], source[leaves]), placement.owner
        self._routes = crossing(owners[receiver[leaves]], told, owners[sender[arrives]], like.device)
        self._boundary = Boundary(receiver, sender, placement, like.device)
        self._others_rows = index(self._boundary.places(sender[arrives]))

    @property
    def routes(self) -> Routes:
        """The routes of rows that all neighbours are told alike."""
        return self._boundary.routes

    def without(self, outage: Outage) -> "Neighbors":
        """Return the neighbours where some messages do not arrive; what travels between workers is the same.

        Args:
            outage: The messages.

        Returns:
            Neighbours of which an agent hears fewer.
        """
        found = copy(self)
        found._lost = self.in_slots(outage.lost)
        found.heard = self.heard & ~found._lost
        found.weights = self.weights.where(found.heard, 0)
        added = outage.added[self._placement.row_replicas, self._placement.row_agents]
        found.own = self.own + torch.from_numpy(added).to(self.own)
        return found

    def in_slots(self, chosen: np.ndarray) -> Tensor:
        """Find the slots of some messages where they are received.

        Args:
            chosen: The messages, bool [R, E], by receivers, then senders.

        Returns:
            bool [N, D].
        """
        p = self._placement
        slots = np.zeros((p.replicas, p.agents, self.size), dtype=bool)
        slots[:, self._edges[0], self._edges[1]] = chosen
        return torch.from_numpy(slots[p.row_replicas, p.row_agents]).to(self.heard.device)

    def exchange(self, messages: Tensor) -> Tensor:
        """Send each neighbour a row and receive one from each.

        Args:
            messages: [N, D, ...], from agent k to the neighbour in each slot; may be expanded.

        Returns:
            [N, D, ...], received from the neighbour in each slot; 0 where an agent hears nobody.
        """
        told = messages.reshape(len(messages) * self.size, messages.shape[2:].numel())
        flight = self._wire.send([(self._routes, told)])
        heard = torch.zeros_like(told)
        heard[self._own_heard] = told[self._own_told]
        heard[self._others_heard] = flight.fetch()[0]
        received = heard.view(messages.shape)
        if self._lost is not None:
            received[self._lost] = 0
        return received

    def others(self, x: Tensor) -> Tensor:
        """Send the neighbours on other workers the same row, and receive theirs.

        Args:
            x: [N, P].

        Returns:
            The rows that `broadcast` needs beside those that live here, [H, P].
        """
        return self._wire.send([(self.routes, x)]).fetch()[0].clone()

    def broadcast(self, x: Tensor, others: Tensor, piece: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Pass on the rows that all neighbours are told alike, a few columns at a time.

        Args:
            x: [N, P]; columns already yielded may be overwritten.
            others: The rows of other workers, from `others`.
            piece: Numbers that a worker holds at a time at most, though never less than one column.

        Yields:
            The columns, what each agent sends to the neighbour in each slot (a view, [N, D, w]), and what it receives
            from it ([N, D, w]; 0 where it hears nobody). All workers cut at the same columns.
        """
        width = max(1, piece // (self._most_rows * max(1, self.size)))
        for start in range(0, x.shape[1], width):
            columns = slice(start, min(start + width, x.shape[1]))
            told = x[:, None, columns].expand(-1, self.size, -1)
            heard = x.new_zeros(len(x) * self.size, told.shape[2])
            heard[self._own_heard] = x[self._own_rows, columns]
            heard[self._others_heard] = others[self._others_rows, columns]
            if self._lost is not None:
                heard[self._lost.flatten()] = 0
            yield columns, told, heard.view(told.shape)
