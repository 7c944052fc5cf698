"""The directed ring with the highest throughput."""

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from basinet.topologies.building import from_edges
from basinet.topologies.designs.lone_messages import graph_of, lone_messages
from basinet.topologies.networks import Network

__all__ = ["fastest_ring"]

_GAIN = 1e-9
"""Share of a tour that is not worth a change: rounding."""


def fastest_ring(network: Network, size: int, compute: ArrayLike = 0, *, improved: bool = True) -> nx.DiGraph:
    """A directed ring of nearly the highest throughput: a short tour, by the algorithm of Christofides.

    Of an agent on a directed ring, nobody waits but the next, so that a round takes the mean over the ring of what
    computing and sending takes. If delays obey the triangle inequality, the tour takes at most 3/2 of the shortest.

    Args:
        network: The network, which links all pairs.
        size: Bytes of a message.
        compute: How long each agent computes before it sends, a number or [K], nanoseconds.
        improved: Whether pairs of edges are exchanged while that makes the tour shorter (2-opt).

    Returns:
        Directed graph on the nodes 0..K-1, whose own policy is `uniform`.

    Raises:
        ValueError: If a pair has no link.

    Example:
        >>> from basinet.topologies.networks import published
        >>> gaia = published(nx.empty_graph(11), table="gaia", complete=True)
        >>> [gaia.names[k] for k, _ in nx.find_cycle(fastest_ring(gaia, 5_620_215), 5)][:4]
        ['Tokyo', 'Oregon', 'California', 'Virginia']

    References:
        O. Marfoq, C. Xu, G. Neglia, R. Vidal: Throughput-optimal topology design for cross-silo federated learning,
        NeurIPS 2020, arXiv:2010.12229, whose rings are not improved.
    """
    agents = network.agents
    tour = np.arange(agents)
    if agents > 3:
        takes = lone_messages(network, size, compute)
        pairs = graph_of(takes)
        if pairs.number_of_edges() < agents * (agents - 1) // 2:
            raise ValueError("fastest_ring: the network does not link all pairs, but must for a tour to be found")
        tour = np.array(nx.approximation.christofides(pairs)[:-1])
        tour = _shortened(tour, takes) if improved else tour
    edges = np.column_stack([tour, np.roll(tour, -1)])[: agents if agents > 1 else 0]
    return from_edges(agents, edges, directed=True, policy="uniform")


def _shortened(tour: NDArray[np.int64], takes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Exchange the pair of edges that gains most, as long as one does."""
    while True:
        after = np.roll(tour, -1)
        edges = takes[tour, after]
        gains = np.triu(edges[:, None] + edges - takes[np.ix_(tour, tour)] - takes[np.ix_(after, after)], 2)
        i, j = np.unravel_index(np.argmax(gains), gains.shape)
        if gains[i, j] <= _GAIN * edges.sum():
            return tour
        tour = np.concatenate([tour[: i + 1], tour[i + 1 : j + 1][::-1], tour[j + 1 :]])
