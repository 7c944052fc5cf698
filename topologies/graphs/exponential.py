"""The static exponential graph."""

import networkx as nx
import numpy as np

from basinet.topologies.building import TOPOLOGIES, from_edges
from basinet.topologies.requirements import require_agents

__all__ = ["exponential"]


@TOPOLOGIES.register()
def exponential(num_agents: int) -> nx.DiGraph:
    """Agent k sends to the agents 1, 2, 4, 8, ... places ahead: to ``k + 2^j`` (mod K).

    With about log2(K) neighbours per agent and uniform weights, the spectral gap is ``2 / (1 + ceil(log2 K))`` for even
    K, and larger for odd K.

    Args:
        num_agents: Number of agents K, at least 1.

    Returns:
        Directed graph on the nodes 0..K-1, whose own policy is `uniform`; the edge (u, v) means that u sends to v.

    Example:
        >>> sorted(exponential(8).successors(7))
        [0, 1, 3]

    References:
        B. Ying et al.: Exponential graph is provably efficient for decentralized deep training, NeurIPS 2021,
        arXiv:2110.13363.
    """
    require_agents(num_agents, "exponential")
    agents = np.arange(num_agents)
    hops = 2 ** np.arange((num_agents - 1).bit_length())
    receivers = np.add.outer(agents, hops).ravel() % num_agents
    edges = np.column_stack([np.repeat(agents, len(hops)), receivers])
    return from_edges(num_agents, edges, directed=True, policy="uniform")
