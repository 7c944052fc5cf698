"""Policies that trust some neighbours more: those with many neighbours, or with little noise."""

from collections.abc import Sequence

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from basinet.topologies.mixing_matrix import POLICIES, neighborhoods, with_diagonal
from basinet.topologies.requirements import agent_values

__all__ = ["relative_degree", "relative_variance"]


@POLICIES.register()
def relative_degree(graph: nx.Graph) -> csr_array:
    """Each agent weighs its neighbours' values and its own by their degrees plus one.

    ``W[k, l] = (1 + d_l) / Σ_m (1 + d_m)``, where l and m run over N_k and k itself. On an undirected graph,
    agent k counts in proportion to ``(1 + d_k) Σ_m (1 + d_m)`` in the centroid.

    Args:
        graph: Graph or DiGraph.

    Returns:
        Mixing matrix [K, K].

    Example:
        >>> relative_degree(nx.path_graph(3)).toarray().round(3)
        array([[0.4  , 0.6  , 0.   ],
               [0.286, 0.429, 0.286],
               [0.   , 0.6  , 0.4  ]])

    References:
        F. S. Cattivelli, A. H. Sayed: Diffusion LMS strategies for distributed estimation, IEEE TSP 58 (2010),
        doi:10.1109/TSP.2009.2033729.
    """
    hears = neighborhoods(graph)
    return _in_proportion(hears, 1 + hears.sum(axis=1))


@POLICIES.register()
def relative_variance(graph: nx.Graph, *, variance: str | Sequence[float] = "variance") -> csr_array:
    """Each agent weighs its neighbours' values and its own by their inverse noise variances.

    ``W[k, l] = σ_l^-2 / Σ_m σ_m^-2``, where l and m run over N_k and k itself.

    Args:
        graph: Graph or DiGraph.
        variance: Variance σ_k^2 of each agent's gradient noise, in the graph's node order, or the name of the node
            attribute that holds it; positive.

    Returns:
        Mixing matrix [K, K].

    Example:
        >>> relative_variance(nx.path_graph(2), variance=[1, 3]).toarray()
        array([[0.75, 0.25],
               [0.75, 0.25]])

    References:
        X. Zhao, A. H. Sayed: Performance limits for distributed estimation over LMS adaptive networks, IEEE TSP 60
        (2012), doi:10.1109/TSP.2012.2204985.
    """
    hears = neighborhoods(graph)
    return _in_proportion(hears, 1 / agent_values(graph, variance, "relative_variance", "variance"))


def _in_proportion(hears: csr_array, trust: NDArray[np.float64]) -> csr_array:
    shares = with_diagonal(hears, np.ones(hears.shape[0])) @ diags_array(trust)
    return (diags_array(1 / shares.sum(axis=1)) @ shares).tocsr()
