"""The star around the best hub."""

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike

from basinet.topologies.building import from_edges
from basinet.topologies.designs.lone_messages import lone_messages
from basinet.topologies.networks import Network

__all__ = ["fastest_star"]


def fastest_star(network: Network, size: int, compute: ArrayLike = 0) -> nx.Graph:
    """The star around the agent from which the slowest message is fastest.

    Args:
        network: The network, in which at least one agent is linked to all others.
        size: Bytes of a message.
        compute: How long each agent computes before it sends, a number or [K], nanoseconds.

    Returns:
        Graph on the nodes 0..K-1.

    Raises:
        ValueError: If no agent is linked to all others.

    Example:
        >>> from basinet.topologies.networks import published
        >>> gaia = published(nx.empty_graph(11), table="gaia", complete=True)
        >>> gaia.names[max(fastest_star(gaia, 5_620_215).degree, key=lambda pair: pair[1])[0]]
        'Oregon'
    """
    takes = lone_messages(network, size, compute)
    np.fill_diagonal(takes, 0)
    hub = int(np.argmin(takes.max(axis=1)))
    if not np.isfinite(takes[hub]).all():
        raise ValueError("fastest_star: the network links no agent to all others")
    others = np.delete(np.arange(network.agents), hub)
    return from_edges(network.agents, np.column_stack([np.full_like(others, hub), others]))
