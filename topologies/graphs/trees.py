"""Trees, the connected graphs with the fewest edges: balanced trees and caterpillars."""

import networkx as nx
import numpy as np

from basinet.topologies.building import TOPOLOGIES, from_edges
from basinet.topologies.requirements import require_agents

__all__ = ["caterpillar", "tree"]


@TOPOLOGIES.register()
def tree(num_agents: int, *, branching: int = 2) -> nx.Graph:
    """A tree rooted at agent 0, each agent with ``branching`` children, filled level by level.

    Agent k > 0 is joined to agent ``(k - 1) // branching``, its parent. With two or more children each, every path is
    short, at most ``2 log2 K`` edges, but the branches at the root communicate only through it.

    Args:
        num_agents: Number of agents K, at least 1; the last level need not be full.
        branching: Number of children of an agent, at least 1; 1 gives a path, K - 1 a star.

    Returns:
        Graph on the nodes 0..K-1.

    Raises:
        ValueError: If ``branching`` is below one.

    Example:
        >>> sorted(tree(6).edges)
        [(0, 1), (0, 2), (1, 3), (1, 4), (2, 5)]
    """
    require_agents(num_agents, "tree")
    if branching < 1:
        raise ValueError(f"tree: branching is {branching}, but must be at least 1")
    below = np.arange(1, num_agents)
    return from_edges(num_agents, np.column_stack([(below - 1) // branching, below]))


@TOPOLOGIES.register()
def caterpillar(num_agents: int, *, spine: int | None = None) -> nx.Graph:
    """A path of agents, the spine, with the other agents attached as leaves, in turn.

    The agents 0..S-1 are the spine, and agent ``S + j`` is attached to agent ``j mod S``.

    Args:
        num_agents: Number of agents K, at least 1.
        spine: Number of agents S on the path, between 1 and K; half of them by default, rounded up. 1 gives a
            star, K a path.

    Returns:
        Graph on the nodes 0..K-1.

    Raises:
        ValueError: If ``spine`` is below one or above ``num_agents``.

    Example:
        >>> sorted(caterpillar(6).edges)
        [(0, 1), (0, 3), (1, 2), (1, 4), (2, 5)]
    """
    require_agents(num_agents, "caterpillar")
    length = (num_agents + 1) // 2 if spine is None else spine
    if not 1 <= length <= num_agents:
        raise ValueError(f"caterpillar: spine is {length}, but must lie between 1 and {num_agents}, all agents")
    agents = np.arange(1, num_agents)
    return from_edges(num_agents, np.column_stack([np.where(agents < length, agents - 1, agents % length), agents]))
