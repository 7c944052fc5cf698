"""A fabric: hosts and switches joined by lines, over which agents reach each other along shortest routes."""

from dataclasses import dataclass
from typing import Literal

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from basinet.topologies.networks.assembling import Access, Hosts, pairs_of, places_of, ports_of
from basinet.topologies.networks.network import Network
from basinet.topologies.networks.routes import Routes

__all__ = ["Contention", "Fabric"]

Numbers = NDArray[np.int64]

Contention = Literal["fair", "queue", "hops", "none"]
"""How messages share lines: max-min fair, stored and forwarded, each with capacity / hops, or not at all."""

_AT_ONCE = 20_000
"""Pairs whose routes are followed together."""
_HOP = 1 << 10
"""Latencies are compared in 1/1024 ns, of which each hop costs one."""


@dataclass(frozen=True, eq=False)
class Fabric:
    """Hosts and switches, and the directed lines between them.

    Attributes:
        names: Names of the hosts, which are the first nodes; switches follow.
        nodes: Number of hosts and switches.
        senders: Node at which each line begins [M].
        receivers: Node at which it ends [M].
        latency: Nanoseconds [M].
        capacity: Bytes per second [M].
        loss: Share lost on each line [M].
        overhead: Nanoseconds that each path takes besides.
    """

    names: tuple[str, ...]
    nodes: int
    senders: Numbers
    receivers: Numbers
    latency: Numbers
    capacity: NDArray[np.float64]
    loss: NDArray[np.float64] | None = None
    overhead: int = 0

    def routes(self, senders: Numbers, receivers: Numbers) -> Routes:
        """Return the routes of least latency, of these those with fewest hops.

        Where several are as short, the sum of the two nodes' numbers chooses among the lines into each node, which
        spreads pairs over parallel routes, the same on every machine.

        Args:
            senders: Nodes from which messages leave [n].
            receivers: Nodes at which they arrive [n].

        Returns:
            Routes of the n pairs.

        Raises:
            ValueError: If there is no route.
        """
        order = np.argsort(self.receivers, kind="stable")
        tails, weights = self.senders[order], self.latency[order] * _HOP + 1
        begins = np.searchsorted(self.receivers[order], np.arange(self.nodes + 1))
        steps = self._steps()
        sources, rows = np.unique(senders, return_inverse=True)
        far = dijkstra(steps, indices=sources) if sources.size else np.empty((0, self.nodes))
        if (cut := ~np.isfinite(far[rows, receivers])).any():
            pair = int(np.argmax(cut))
            raise ValueError(f"no route leads from {self.show(senders[pair])} to {self.show(receivers[pair])}")
        parts = []
        for first in range(0, len(senders), _AT_ONCE):
            chunk = slice(first, first + _AT_ONCE)
            at, row, turn = receivers[chunk].copy(), rows[chunk], senders[chunk] + receivers[chunk]
            layers = []
            while (going := np.flatnonzero(at != senders[chunk])).size:
                here = at[going]
                count = begins[here + 1] - begins[here]
                whose = np.repeat(np.arange(going.size), count)
                lines = (
                    np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(begins[here], count)
                )
                shortest = far[row[going][whose], tails[lines]] + weights[lines] == far[row[going], here][whose]
                whose, lines = whose[shortest], lines[shortest]
                ties = np.bincount(whose, minlength=going.size)
                chosen = lines[np.cumsum(ties) - ties + turn[going] % ties]
                layer = np.full(at.size, -1)
                layer[going] = order[chosen]
                layers.append(layer)
                at[going] = tails[chosen]
            parts.append(Routes.of_layers(layers[::-1] or [np.full(at.size, -1)], self.latency, self.capacity))
        hops = np.concatenate([[0], *(part.hops for part in parts)])
        lines = np.concatenate([np.empty(0, np.int64), *(part.lines for part in parts)])
        return Routes(np.cumsum(hops), lines, self.latency, self.capacity)

    def _steps(self) -> csr_array:
        """Return the weight of the best line between each two nodes [nodes, nodes]."""
        weights = self.latency * _HOP + 1
        best = np.lexsort((weights, self.receivers, self.senders))
        _, first = np.unique(self.senders[best] * self.nodes + self.receivers[best], return_index=True)
        lines = best[first]
        ends = self.senders[lines], self.receivers[lines]
        return csr_array((weights[lines].astype(np.float64), ends), shape=(self.nodes, self.nodes))

    def show(self, node: int) -> str:
        """Return the name of a node.

        Args:
            node: Its number.

        Returns:
            The name of a host, or the number of a switch.
        """
        return self.names[node] if node < len(self.names) else f"switch {node}"

    def network(
        self,
        graph: nx.Graph,
        *,
        what: str,
        contention: Contention,
        hosts: Hosts = None,
        access: Access = None,
        complete: bool = False,
    ) -> Network:
        """Return the network of agents that sit on hosts.

        Args:
            graph: Graph of the agents.
            what: Name of the network, for messages.
            contention: How messages share lines.
            hosts: The host of each agent, by name or number; by default those of the agents' names, or in order.
            access: The hosts' own connections; no limit by default.
            complete: Whether all pairs get a link, or only the graph's edges.

        Returns:
            The network.
        """
        places = places_of(graph, self.names, hosts, what)
        senders, receivers = pairs_of(graph, complete)
        routes = self.routes(places[senders], places[receivers])
        bandwidth = routes.narrowest()
        kept = np.repeat(np.arange(senders.size), routes.hops)
        arrives = np.ones(senders.size)
        if self.loss is not None:
            np.multiply.at(arrives, kept, 1 - self.loss[routes.lines])
        return Network(
            agents=len(graph),
            senders=senders,
            receivers=receivers,
            latency=routes.sums(self.latency) + self.overhead,
            bandwidth=bandwidth / routes.hops if contention == "hops" else bandwidth,
            loss=None if self.loss is None else 1 - arrives,
            ports=ports_of(access, what),
            routes=routes if contention in ("fair", "queue") else None,
            congestion="queue" if contention == "queue" else "fair",
            names=tuple(self.names[place] for place in places),
        )
