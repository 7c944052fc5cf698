"""Neighbours in slots: rows sent to each neighbour separately, instead of their weighted sum."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed as dist
from scipy.sparse import csr_array
from torch import Tensor

from basinet.sim.agents.placement import Placement, wire

__all__ = ["Neighbors"]


class Neighbors:
    """The neighbours of each agent, each in a slot of its own, and the exchange of rows with them.

    The slots of an agent are its neighbours in the order of the agents: those that it hears and those that hear it.
    Agents with fewer than D neighbours have empty slots at the end.

    Args:
        weights: Mixing matrix W [K, K]: agent k hears agent l where W[k, l] is not zero.
        placement: The rows of this worker.
        like: A tensor of the device and type of the weights.

    Attributes:
        weights: Weight that agent k gives to the neighbour in each slot, [N, D]; 0 where it hears nobody.
        own: Weight that it gives to itself, [N].
        heard: Whether it hears the neighbour in the slot, bool [N, D].
    """

    def __init__(self, weights: csr_array, placement: Placement, like: Tensor) -> None:
        self.placement = placement
        hears = weights.tocoo()
        off = (hears.row != hears.col) & (hears.data != 0)
        receiver, sender, value = hears.row[off].astype(np.int64), hears.col[off].astype(np.int64), hears.data[off]

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
        here = torch.from_numpy(placement.row_agents)
        self.weights = torch.from_numpy(table)[here].to(like)
        self.own = torch.from_numpy(weights.diagonal())[here].to(like)
        self.heard = self.weights != 0

        first = np.arange(placement.replicas)[:, None] * agents
        receiver, sender = (first + receiver).ravel(), (first + sender).ravel()
        target, source = np.tile(target, placement.replicas), np.tile(source, placement.replicas)
        by, of = placement.owner[receiver], placement.owner[sender]

        def places(rows: np.ndarray, slots: np.ndarray) -> tuple[Tensor, Tensor]:
            local = torch.from_numpy(placement.local(rows)), torch.from_numpy(slots)
            return local[0].to(like.device), local[1].to(like.device)

        self.local: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
        self.peers = []
        for other in range(placement.workers):
            sent, got = (by == other) & (of == placement.rank), (by == placement.rank) & (of == other)
            ends = places(sender[sent], source[sent]), places(receiver[got], target[got])
            if other == placement.rank:
                self.local = ends
            elif sent.any() or got.any():
                self.peers.append((other, *ends))

    def exchange(self, messages: Tensor) -> Tensor:
        """Send each neighbour a row and receive one from each.

        Args:
            messages: [N, D, ...], from agent k to the neighbour in each slot; may be expanded.

        Returns:
            [N, D, ...], received from the neighbour in each slot; 0 where an agent hears nobody.
        """
        width = messages.shape[2:]
        operations, arrived = [], []
        for rank, (rows, slots), (_, into) in self.peers:
            arrived.append(messages.new_empty(len(into), *width, device=wire(messages)))
            if len(rows):
                operations.append(dist.P2POp(dist.isend, messages[rows, slots].to(wire(messages)), rank))
            if len(into):
                operations.append(dist.P2POp(dist.irecv, arrived[-1], rank))
        travelling = dist.batch_isend_irecv(operations) if operations else []
        received = messages.new_zeros(len(self.heard), self.size, *width)
        (rows, slots), (into, at) = self.local
        received[into, at] = messages[rows, slots]
        for request in travelling:
            request.wait()
        for (_, _, (into, at)), got in zip(self.peers, arrived, strict=True):
            received[into, at] = got.to(messages.device)
        return received

    def broadcast(self, x: Tensor, piece: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Send all neighbours the same row, a few columns at a time.

        Args:
            x: [N, P]; columns already yielded may be overwritten.
            piece: Numbers that a worker holds at a time at most, though never less than one column.

        Yields:
            The columns, what each agent sends to the neighbour in each slot (a view, [N, D, w]), and what it receives
            from it ([N, D, w]; 0 where it hears nobody). All workers cut at the same columns.
        """
        rows = int(np.bincount(self.placement.owner).max())
        width = max(1, piece // (rows * max(1, self.size)))
        for start in range(0, x.shape[1], width):
            columns = slice(start, min(start + width, x.shape[1]))
            told = x[:, None, columns].expand(-1, self.size, -1)
            yield columns, told, self.exchange(told)
