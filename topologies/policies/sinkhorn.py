"""Doubly stochastic weights for any graph, directed ones too, by the algorithm of Sinkhorn and Knopp."""

import networkx as nx
import numpy as np
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components

from basinet.topologies.mixing_matrix import POLICIES, neighborhoods, with_diagonal

__all__ = ["sinkhorn"]

ROUNDS = 10_000
TOLERANCE = 1e-12


@POLICIES.register()
def sinkhorn(graph: nx.Graph) -> csr_array:
    """Rows and columns both sum to one, so that all agents count the same even on a directed graph.

    ``W = diag(r) N diag(c)``, where N holds a one for every edge and for every agent itself. Rows and columns are
    divided by their sums in turn until both are one. Such an r and c exist where every edge lies on a directed cycle,
    as in any strongly connected graph. On an undirected graph W is symmetric.

    Args:
        graph: Graph or DiGraph.

    Returns:
        Mixing matrix [K, K], doubly stochastic.

    Raises:
        ValueError: If there are no such weights, or they are not found within 10,000 rounds, as on long paths.

    Example:
        >>> graph = nx.DiGraph([(0, 1), (1, 2), (2, 0), (0, 2)])
        >>> sinkhorn(graph).toarray().round(3)
        array([[0.382, 0.   , 0.618],
               [0.382, 0.618, 0.   ],
               [0.236, 0.382, 0.382]])

    References:
        R. Sinkhorn, P. Knopp: Concerning nonnegative matrices and doubly stochastic matrices, Pacific J. Math. 21
        (1967), doi:10.2140/pjm.1967.21.343. P. A. Knight, D. Ruiz: A fast algorithm for matrix balancing, IMA J. Numer.
        Anal. 33 (2013), doi:10.1093/imanum/drs019.
    """
    hears = neighborhoods(graph)
    _require_cycles(hears, graph)
    N = with_diagonal(hears, np.ones(len(graph)))
    c = np.ones(len(graph))
    for _ in range(ROUNDS):
        r = 1 / (N @ c)
        columns = c * (N.T @ r)
        if np.abs(columns - 1).max() <= TOLERANCE:
            break
        c = c / columns
    else:
        raise ValueError(
            f"the policy sinkhorn has column sums that are off by {np.abs(columns - 1).max():.1g} after {ROUNDS} "
            "rounds on this graph; it converges too slowly where the graph mixes slowly, so use another policy"
        )
    W = diags_array(r) @ hears @ diags_array(c)
    if not graph.is_directed():
        W = (W + W.T) / 2
    return with_diagonal(W.tocsr(), 1 - W.sum(axis=1))


def _require_cycles(hears: csr_array, graph: nx.Graph) -> None:
    _, component = connected_components(hears, directed=True, connection="strong")
    edges = hears.tocoo()
    if len(between := np.flatnonzero(component[edges.row] != component[edges.col])):
        agents = list(graph)
        receiver, sender = agents[edges.row[between[0]]], agents[edges.col[between[0]]]
        raise ValueError(
            f"the policy sinkhorn needs a directed cycle through every edge, but what agent {sender!r} sends to agent "
            f"{receiver!r} never returns; no doubly stochastic weights use this edge"
        )
