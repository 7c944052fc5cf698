"""The Metropolis-Hastings policy, for agents that are to count as one likes."""

from collections.abc import Sequence

import networkx as nx
import numpy as np
from scipy.sparse import csr_array

from basinet.topologies.mixing_matrix import POLICIES, neighborhoods, with_diagonal
from basinet.topologies.requirements import agent_values, require_undirected

__all__ = ["hastings"]


@POLICIES.register()
def hastings(graph: nx.Graph, *, perron: str | Sequence[float] | None = None) -> csr_array:
    """Weights whose Perron vector pi is the one that is wanted: in proportion to the agents' data, say.

    ``W[k, l] = min(1 / (1 + d_k), pi_l / (pi_k (1 + d_l)))`` on the edges, and what is left on the diagonal. Then
    ``pi_k W[k, l] = pi_l W[l, k]``, so that agent k counts with pi_k in the centroid.

    Args:
        graph: Undirected graph.
        perron: How much each agent is to count, in the graph's node order, or the name of the node attribute that
            says it; positive numbers of any sum. By default all count the same: the Metropolis weights.

    Returns:
        Mixing matrix [K, K], reversible.

    Example:
        >>> hastings(nx.path_graph(2), perron=[3, 1]).toarray().round(3)
        array([[0.833, 0.167],
               [0.5  , 0.5  ]])

    References:
        Hastings, Monte Carlo sampling methods using Markov chains and their applications,
        https://doi.org/10.1093/biomet/57.1.97, 1970;
        Zhao and Sayed, Performance Limits for Distributed Estimation Over LMS Adaptive Networks,
        https://doi.org/10.1109/TSP.2012.2204985, 2012
    """
    W = neighborhoods(graph)
    require_undirected(graph, "hastings")
    pi = np.ones(len(graph)) if perron is None else agent_values(graph, perron, "hastings", "perron")
    degree = np.diff(W.indptr)
    k, l = np.repeat(np.arange(len(graph)), degree), W.indices  # noqa: E741
    W.data = np.minimum(1 / (1 + degree[k]), pi[l] / (pi[k] * (1 + degree[l])))
    return with_diagonal(W, 1 - W.sum(axis=1))
