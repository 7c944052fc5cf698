"""Trees on which messages are fast: the minimum spanning tree, and one whose agents have few neighbours."""

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike

from basinet.topologies.building import from_edges
from basinet.topologies.designs.lone_messages import graph_of, lone_messages
from basinet.topologies.networks import Network

__all__ = ["bounded_tree", "fastest_tree"]


def fastest_tree(network: Network, size: int, compute: ArrayLike = 0) -> nx.Graph:
    """The minimum spanning tree: of all trees, the one whose slowest message is fastest if messages do not interfere.

    Args:
        network: The network.
        size: Bytes of a message.
        compute: How long each agent computes before it sends, a number or [K], nanoseconds.

    Returns:
        Graph on the nodes 0..K-1.

    Raises:
        ValueError: If the network does not link all agents.

    Example:
        >>> from basinet.topologies.networks import published
        >>> gaia = published(nx.empty_graph(11), table="gaia", complete=True)
        >>> tree = fastest_tree(gaia, 5_620_215)
        >>> [gaia.names[k] for k in tree[gaia.names.index("Tokyo")]]
        ['Seoul']

    References:
        O. Marfoq, C. Xu, G. Neglia, R. Vidal: Throughput-optimal topology design for cross-silo federated learning,
        NeurIPS 2020, arXiv:2010.12229.
    """
    edges = nx.minimum_spanning_edges(graph_of(lone_messages(network, size, compute)), data=False)
    return _tree(network.agents, list(edges))


def bounded_tree(network: Network, size: int, compute: ArrayLike = 0, *, degree: int) -> nx.Graph:
    """A fast tree whose agents have few neighbours, for agents whose own connection is the bottleneck.

    It is grown from agent 0 by Prim's algorithm, which joins no further agent to one that has enough.

    Args:
        network: The network.
        size: Bytes of a message.
        compute: How long each agent computes before it sends, a number or [K], nanoseconds.
        degree: Most neighbours of an agent, at least 2.

    Returns:
        Graph on the nodes 0..K-1.

    Raises:
        ValueError: If the degree is below 2, or the network lacks links.

    Example:
        >>> from basinet.topologies.networks import uniform_links
        >>> sorted(bounded_tree(uniform_links(nx.complete_graph(4)), 1, degree=2).edges)
        [(0, 1), (0, 2), (1, 3)]

    References:
        O. Marfoq, C. Xu, G. Neglia, R. Vidal: Throughput-optimal topology design for cross-silo federated learning,
        NeurIPS 2020, arXiv:2010.12229, algorithm δ-PRIM.
    """
    if degree < 2:
        raise ValueError(f"bounded_tree: degree is {degree}, but must be at least 2")
    takes = lone_messages(network, size, compute)
    left, nearest = takes[0].copy(), np.zeros(network.agents, dtype=np.int64)
    inside, neighbours = np.zeros(network.agents, dtype=bool), np.zeros(network.agents, dtype=np.int64)
    inside[0] = True
    edges = []
    for _ in range(network.agents - 1):
        k = int(np.argmin(np.where(inside, np.inf, left)))
        if inside[k] or not np.isfinite(left[k]):
            break
        edges.append((int(nearest[k]), k))
        neighbours[[nearest[k], k]] += 1
        inside[k] = True
        open_to_more = np.flatnonzero(inside & (neighbours < degree))
        among = takes[open_to_more]
        left, nearest = among.min(axis=0), open_to_more[among.argmin(axis=0)]
    return _tree(network.agents, edges)


def _tree(agents: int, edges: list[tuple[int, int]]) -> nx.Graph:
    if len(edges) < agents - 1:
        raise ValueError("the network has no spanning tree of links both ways, but must link all agents")
    return from_edges(agents, np.sort(np.array(edges).reshape(-1, 2), axis=1))
