"""Complete clusters joined by bottlenecks: barbell, lollipop, and a ring of clusters."""

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from basinet.topologies.building import TOPOLOGIES, cliques, from_edges
from basinet.topologies.requirements import require_agents

__all__ = ["barbell", "clusters", "lollipop"]


@TOPOLOGIES.register()
def barbell(num_agents: int, *, bridge: int | None = None) -> nx.Graph:
    """Two complete clusters of the same size, joined by a path: the textbook slow mixer.

    The first cluster has the lowest numbers, then comes the path from its last agent to the first one of the
    second cluster.

    Args:
        num_agents: Number of agents K, at least 1.
        bridge: Number of agents on the path between the clusters; the rest of K must be even. By default 0 for even K,
            so that a single edge joins the clusters, and 1 for odd K.

    Returns:
        Graph on the nodes 0..K-1.

    Raises:
        ValueError: If ``bridge`` does not leave two clusters of the same size.

    Example:
        >>> sorted(barbell(7).edges)
        [(0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (4, 5), (4, 6), (5, 6)]
    """
    require_agents(num_agents, "barbell")
    between = num_agents % 2 if bridge is None else bridge
    if not 0 <= between <= num_agents or (num_agents - between) % 2:
        raise ValueError(
            f"barbell: bridge is {between}, but must leave an even number of the {num_agents} agents for two "
            "clusters of the same size"
        )
    size = (num_agents - between) // 2
    way = _line(max(size - 1, 0), min(size + between, num_agents - 1))
    return from_edges(num_agents, np.concatenate([cliques([0, size + between], [size, size], "barbell"), way]))


@TOPOLOGIES.register()
def lollipop(num_agents: int, *, tail: int | None = None) -> nx.Graph:
    """A complete cluster with a path attached: a random walk takes about K^3 steps from one end to the other.

    The cluster has the lowest numbers, and the path begins at its last agent.

    Args:
        num_agents: Number of agents K, at least 1.
        tail: Number of agents on the path, between 0 and K - 1; half of them by default, rounded down.

    Returns:
        Graph on the nodes 0..K-1.

    Raises:
        ValueError: If ``tail`` is negative or leaves no cluster.

    Example:
        >>> sorted(lollipop(5).edges)
        [(0, 1), (0, 2), (1, 2), (2, 3), (3, 4)]
    """
    require_agents(num_agents, "lollipop")
    length = num_agents // 2 if tail is None else tail
    if not 0 <= length < num_agents:
        raise ValueError(f"lollipop: tail is {length}, but must lie between 0 and {num_agents - 1}, all agents but one")
    size = num_agents - length
    return from_edges(num_agents, np.concatenate([cliques([0], [size], "lollipop"), _line(size - 1, num_agents - 1)]))


@TOPOLOGIES.register()
def clusters(num_agents: int, *, clusters: int = 4, bridges: int = 1) -> nx.Graph:
    """Complete clusters on a ring, each joined to the next by a few edges, such as data centres or offices.

    Agents are numbered cluster by cluster, and the sizes of the clusters differ by at most one. The i-th bridge from a
    cluster to the next joins the i-th of its last agents to the i-th of the next one's first. Two clusters are joined
    once, not twice.

    Args:
        num_agents: Number of agents K.
        clusters: Number of clusters, between 1 and K.
        bridges: Number of edges from each cluster to the next, between 1 and the size of the smallest.

    Returns:
        Graph on the nodes 0..K-1.

    Raises:
        ValueError: If there are fewer agents than clusters, or fewer in a cluster than bridges.

    Example:
        >>> graph = clusters(9, clusters=3)
        >>> sorted(graph[2]), sorted(graph[3])
        ([0, 1, 3], [2, 4, 5])
    """
    require_agents(num_agents, "clusters")
    if not 1 <= clusters <= num_agents:
        raise ValueError(f"clusters: clusters is {clusters}, but must lie between 1 and {num_agents}, one agent each")
    smallest = num_agents // clusters
    if not 1 <= bridges <= smallest:
        raise ValueError(
            f"clusters: bridges is {bridges}, but must lie between 1 and {smallest}, the agents of the smallest cluster"
        )
    bounds = np.arange(clusters + 1) * num_agents // clusters
    ends = bounds[1:] if clusters > 2 else bounds[1:-1]
    joints = [np.column_stack([ends - 1 - i, ends % num_agents + i]) for i in range(bridges)]
    inside = cliques(bounds[:-1].tolist(), np.diff(bounds).tolist(), "clusters")
    return from_edges(num_agents, np.concatenate([inside, *joints]))


def _line(first: int, last: int) -> NDArray[np.int64]:
    agents = np.arange(first, last)
    return np.column_stack([agents, agents + 1])
