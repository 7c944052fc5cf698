"""The Metropolis-Hastings policy, for a prescribed Perron vector."""

from collections.abc import Sequence

import networkx as nx
import numpy as np
from scipy.sparse import csr_array

from basinet.topologies.mixing_matrix import POLICIES, neighborhoods, with_diagonal
from basinet.topologies.requirements import agent_values, require_undirected

__all__ = ["hastings"]


@POLICIES.register()
def hastings(graph: nx.Graph, *, perron: str | Sequence[float] | None = None) -> csr_array:
    """Weights with a prescribed Perron vector π, for example in proportion to the agents' data.

    ``W[k, l] = min(1 / (1 + d_k), π_l / (π_k (1 + d_l)))`` on the edges, and what is left on the diagonal. Then
    ``π_k W[k, l] = π_l W[l, k]``, so that agent k counts with π_k in the centroid.

    Args:
        graph: Undirected graph.
        perron: Weight of each agent in the centroid, in the graph's node order, or the name of the node attribute that
            holds it; positive numbers of any sum. By default all count the same: the Metropolis weights.

    Returns:
        Mixing matrix [K, K], reversible.

    Example:
        >>> hastings(nx.path_graph(2), perron=[3, 1]).toarray().round(3)
        array([[0.833, 0.167],
               [0.5  , 0.5  ]])

    References:
        W. K. Hastings: Monte Carlo sampling methods using Markov chains and their applications, Biometrika 57 (1970),
        doi:10.1093/biomet/57.1.97. X. Zhao, A. H. Sayed: Performance limits for distributed estimation over LMS
        adaptive networks, IEEE TSP 60 (2012), doi:10.1109/TSP.2012.2204985.
    """
    W = neighborhoods(graph)
    require_undirected(graph, "hastings")
    pi = np.ones(len(graph)) if perron is None else agent_values(graph, perron, "hastings", "perron")
    degree = np.diff(W.indptr)
    k, l = np.repeat(np.arange(len(graph)), degree), W.indices  # noqa: E741
    W.data = np.minimum(1 / (1 + degree[k]), pi[l] / (pi[k] * (1 + degree[l])))
    return with_diagonal(W, 1 - W.sum(axis=1))
