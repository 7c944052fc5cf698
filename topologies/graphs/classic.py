"""Textbook graphs: ring, path, star, wheel and complete graph."""

import networkx as nx

from basinet.topologies.building import TOPOLOGIES
from basinet.topologies.requirements import require_agents, require_room

__all__ = ["complete", "path", "ring", "star", "wheel"]


@TOPOLOGIES.register()
def ring(num_agents: int) -> nx.Graph:
    """Agents on a circle: agent k is joined to k - 1 and k + 1 (mod K).

    With Metropolis weights its eigenvalues are ``(1 + 2 cos(2π j / K)) / 3`` from three agents on, so the
    spectral gap shrinks as ``4 π^2 / (3 K^2)``.

    Args:
        num_agents: Number of agents K, at least 1.

    Returns:
        Graph on the nodes 0..K-1.

    Example:
        >>> sorted(ring(4).edges)
        [(0, 1), (0, 3), (1, 2), (2, 3)]
    """
    require_agents(num_agents, "ring")
    graph = nx.cycle_graph(num_agents)
    # networkx gives the cycle of one node a self-loop.
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    return graph


@TOPOLOGIES.register()
def path(num_agents: int) -> nx.Graph:
    """Agents on a line: agent k is joined to k - 1 and k + 1, the two ends to one neighbour only.

    Args:
        num_agents: Number of agents K, at least 1.

    Returns:
        Graph on the nodes 0..K-1.

    Example:
        >>> sorted(path(4).edges)
        [(0, 1), (1, 2), (2, 3)]
    """
    require_agents(num_agents, "path")
    return nx.path_graph(num_agents)


@TOPOLOGIES.register()
def star(num_agents: int) -> nx.Graph:
    """Agent 0 in the middle, joined to every other agent; there are no other edges.

    Args:
        num_agents: Number of agents K, the hub included, at least 1.

    Returns:
        Graph on the nodes 0..K-1.

    Example:
        >>> sorted(star(4).edges)
        [(0, 1), (0, 2), (0, 3)]
    """
    require_agents(num_agents, "star")
    return nx.star_graph(num_agents - 1)


@TOPOLOGIES.register()
def wheel(num_agents: int) -> nx.Graph:
    """A ring with a hub: agent 0 in the middle, joined to every other agent, the others on a ring.

    From four agents on, its Laplacian has the eigenvalues 0, K, and ``3 - 2 cos(2π j / (K - 1))`` for
    0 < j < K - 1.

    Args:
        num_agents: Number of agents K, the hub included, at least 1.

    Returns:
        Graph on the nodes 0..K-1.

    Example:
        >>> sorted(wheel(5).edges)
        [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 4), (2, 3), (3, 4)]
    """
    require_agents(num_agents, "wheel")
    return nx.wheel_graph(num_agents)


@TOPOLOGIES.register()
def complete(num_agents: int) -> nx.Graph:
    """Every agent is joined to every other: with Metropolis weights, one combine averages exactly.

    Args:
        num_agents: Number of agents K, at least 1.

    Returns:
        Graph on the nodes 0..K-1.

    Example:
        >>> complete(4).number_of_edges()
        6
    """
    require_agents(num_agents, "complete")
    require_room(num_agents * (num_agents - 1) / 2, "complete")
    return nx.complete_graph(num_agents)
