"""What messages take that have the network to themselves, by which designs choose their edges."""

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from basinet.topologies.networks import Network, transfer

__all__ = ["graph_of", "lone_messages"]


def lone_messages(network: Network, size: int, compute: ArrayLike = 0) -> NDArray[np.float64]:
    """Return how long after its sender began to compute a message arrives that is alone in the network.

    Args:
        network: The network.
        size: Bytes of a message.
        compute: How long each agent computes before it sends, a number or [K], nanoseconds.

    Returns:
        Nanoseconds by sender and receiver, the mean of both directions [K, K]; infinite where a link is missing.

    Example:
        >>> from basinet.topologies.networks import uniform_links
        >>> network = uniform_links(nx.path_graph(2), bandwidth="1 GB/s", latency="50 us")
        >>> lone_messages(network, 1_000_000, compute=[0, 4_000_000])
        array([[     inf, 3050000.],
               [3050000.,      inf]])
    """
    out, into, agents = network.senders, network.receivers, network.agents
    ports = network.ports.up, network.ports.down
    up, down = (np.broadcast_to(np.asarray(port, np.float64), agents) for port in ports)
    through = np.minimum(np.minimum(up[out], down[into]), network.bandwidth)
    takes = np.full((agents, agents), np.inf)
    before = np.broadcast_to(np.asarray(compute), agents)[out]
    takes[out, into] = before + network.latency + transfer(size, through)
    both: NDArray[np.float64] = (takes + takes.T) / 2
    return both


def graph_of(takes: NDArray[np.float64]) -> nx.Graph:
    """Return the graph of all pairs that are linked both ways.

    Args:
        takes: What messages take, as from `lone_messages` [K, K].

    Returns:
        Graph whose edges have the attribute ``weight``.
    """
    graph = nx.empty_graph(len(takes))
    ends = np.argwhere(np.triu(np.isfinite(takes), 1))
    graph.add_weighted_edges_from((int(u), int(v), takes[u, v]) for u, v in ends)
    return graph
