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
from basinet.topologies.networks.units import show_time

__all__ = ["Contention", "Fabric"]

Numbers = NDArray[np.int64]

Contention = Literal["fair", "queue", "hops", "none"]
"""How messages share lines: max-min fair, stored and forwarded, each with capacity / hops, or not at all."""

_AT_ONCE = 20_000
"""Pairs whose routes are followed together."""
_HOP = 1 << 10
"""Latencies are compared in 1/1024 ns, of which each hop costs one."""
_SLOWEST = 10**11


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

    def __post_init__(self) -> None:
        """Raise if a line is so slow that floating point would not tell routes apart."""
        if self.latency.size and self.latency.max() > _SLOWEST:
            raise ValueError(
                f"a line has a latency of {show_time(self.latency.max())}, but must have at most {show_time(_SLOWEST)}"
            )

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
        sources, rows = np.unique(senders, return_inverse=True)
        far = dijkstra(self._steps(), indices=sources) if sources.size else np.empty((0, self.nodes))
        if (cut := ~np.isfinite(far[rows, receivers])).any():
            pair = int(np.argmax(cut))
            raise ValueError(f"no route leads from {self.show(senders[pair])} to {self.show(receivers[pair])}")
        parts = [
            self._followed(senders[chunk], receivers[chunk], far, rows[chunk])
            for chunk in (slice(first, first + _AT_ONCE) for first in range(0, max(len(senders), 1), _AT_ONCE))
        ]
        hops = np.concatenate([[0], *(part.hops for part in parts)])
        return Routes(np.cumsum(hops), np.concatenate([part.lines for part in parts]), self.latency, self.capacity)

    def _followed(self, senders: Numbers, receivers: Numbers, far: NDArray[np.float64], rows: Numbers) -> Routes:
        """Follow routes back from their receivers.

        Args:
            senders: Nodes from which messages leave [n].
            receivers: Nodes at which they arrive [n].
            far: Distances from some nodes to all [S, nodes].
            rows: The rows of ``far`` that belong to the senders [n].

        Returns:
            Their routes.
        """
        order = np.argsort(self.receivers, kind="stable")
        tails, weights = self.senders[order], self._weights()[order]
        begins = np.searchsorted(self.receivers[order], np.arange(self.nodes + 1))
        at, layers = receivers.copy(), [np.full(receivers.size, -1)]
        while (going := np.flatnonzero(at != senders)).size:
            here, row = at[going], rows[going]
            count = begins[here + 1] - begins[here]
            whose = np.repeat(np.arange(going.size), count)
            lines = np.arange(whose.size) + np.repeat(begins[here] - (np.cumsum(count) - count), count)
            shortest = far[row[whose], tails[lines]] + weights[lines] == far[row, here][whose]
            whose, lines = whose[shortest], lines[shortest]
            ties = np.bincount(whose, minlength=going.size)
            chosen = lines[np.cumsum(ties) - ties + (senders + receivers)[going] % ties]
            layer = np.full(at.size, -1)
            layer[going] = order[chosen]
            layers.append(layer)
            at[going] = tails[chosen]
        return Routes.of_layers(layers[::-1], self.latency, self.capacity)

    def _weights(self) -> Numbers:
        """Return what routes add up: latency, and one for each hop."""
        return self.latency * _HOP + 1

    def _steps(self) -> csr_array:
        """Return the weight of the best line between each two nodes [nodes, nodes]."""
        weights = self._weights()
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
