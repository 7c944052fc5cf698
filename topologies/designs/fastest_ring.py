"""The directed ring with the highest throughput."""

from itertools import pairwise

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike

from basinet.topologies.building import from_edges
from basinet.topologies.designs.lone_messages import graph_of, lone_messages
from basinet.topologies.networks import Network

__all__ = ["fastest_ring"]


def fastest_ring(network: Network, size: int, compute: ArrayLike = 0) -> nx.DiGraph:
    """A directed ring of nearly the highest throughput: a short tour, by the algorithm of Christofides.

    Of an agent on a directed ring, nobody waits but the next, so that a round takes the mean over the ring of what
    computing and sending takes. If delays obey the triangle inequality, the tour takes at most 3/2 of the shortest.

    Args:
        network: The network, which links all pairs.
        size: Bytes of a message.
        compute: How long each agent computes before it sends, a number or [K], nanoseconds.

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
        NeurIPS 2020, arXiv:2010.12229.
    """
    agents = network.agents
    if agents > 3:
        pairs = graph_of(lone_messages(network, size, compute))
        if pairs.number_of_edges() < agents * (agents - 1) // 2:
            raise ValueError("fastest_ring: the network does not link all pairs, but must for a tour to be found")
        tour = [*pairwise(nx.approximation.christofides(pairs))]
    else:
        tour = [(k, (k + 1) % agents) for k in range(agents) if agents > 1]
    return from_edges(agents, np.array(tour), directed=True, policy="uniform")
