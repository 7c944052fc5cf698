"""Policies that need only the agents' degrees, and the one that uses the edges' own weights.

Row k of a mixing matrix W holds the weight that agent k gives to what it receives from each agent,
``x_k ← Σ_l W[k, l] x_l``. Rows are non-negative, sum to one, and are zero off the graph's edges and the
diagonal; rows and columns follow the graph's own node order. A directed edge (u, v) means that u sends to v,
so that W[v, u] is positive. N_k are the agents that k receives from, without k, and d_k is their number.
"""

import math

import networkx as nx
import numpy as np
from scipy.sparse import csr_array, diags_array

from basinet.topologies.mixing_matrix import POLICIES, TOLERANCE, edge_ends, neighborhoods, with_diagonal
from basinet.topologies.requirements import require_undirected

__all__ = ["laplacian", "lazy", "max_degree", "metropolis", "push", "uniform", "weights"]


@POLICIES.register()
def metropolis(graph: nx.Graph) -> csr_array:
    """Each edge is weighted by the larger degree of its two ends.

    ``W[k, l] = 1 / (1 + max(d_k, d_l))`` on the edges, and ``W[k, k] = 1 - Σ_l W[k, l]``, which is
    positive. W is symmetric, so that all agents count the same in the centroid.

    Args:
        graph: Undirected graph.

    Returns:
        Mixing matrix [K, K], symmetric.

    Raises:
        ValueError: If the graph is directed.

    Example:
        >>> metropolis(nx.path_graph(3)).toarray().round(3)
        array([[0.667, 0.333, 0.   ],
               [0.333, 0.333, 0.333],
               [0.   , 0.333, 0.667]])

    References:
        L. Xiao, S. Boyd, S.-J. Kim: Distributed average consensus with least-mean-square deviation, J. Parallel
        Distrib. Comput. 67 (2007), doi:10.1016/j.jpdc.2006.08.010.
    """
    W = neighborhoods(graph)
    require_undirected(graph, "metropolis")
    degree = np.diff(W.indptr)
    W.data = 1 / (1 + np.maximum(np.repeat(degree, degree), degree[W.indices]))
    return with_diagonal(W, 1 - W.sum(axis=1))


@POLICIES.register()
def lazy(graph: nx.Graph, *, keep: float = 0.5) -> csr_array:
    """Metropolis weights, mixed with the agent's own value: ``keep I + (1 - keep) W``.

    At one half all eigenvalues are non-negative, so that consensus tolerates larger step sizes, but the second one is
    only half as far below 1: agents agree half as fast, unless the smallest one was the bottleneck.

    Args:
        graph: Undirected graph.
        keep: Share that an agent keeps, in [0, 1); 0 gives the Metropolis weights.

    Returns:
        Mixing matrix [K, K], symmetric.

    Raises:
        ValueError: If ``keep`` is outside [0, 1).

    Example:
        >>> lazy(nx.path_graph(2)).toarray()
        array([[0.75, 0.25],
               [0.25, 0.75]])

    References:
        A. Olshevsky: Linear time average consensus and distributed optimization on fixed graphs, SIAM J. Control Optim.
        55 (2017), arXiv:1411.4186.
    """
    if not 0 <= keep < 1:
        raise ValueError(f"the policy lazy has keep {keep:g}, but it must lie in [0, 1)")
    require_undirected(graph, "lazy")
    W = (1 - keep) * metropolis(graph)
    return (W + diags_array(np.full(len(graph), keep))).tocsr()


@POLICIES.register()
def uniform(graph: nx.Graph) -> csr_array:
    """Each agent takes the plain average of itself and what it receives.

    ``W[k, l] = 1 / (1 + d_k)`` for l in N_k and for l = k. On an undirected graph, agent k counts with
    ``(1 + d_k) / Σ_l (1 + d_l)`` in the centroid.

    Args:
        graph: Graph or DiGraph.

    Returns:
        Mixing matrix [K, K].

    Example:
        >>> uniform(nx.path_graph(3)).toarray().round(3)
        array([[0.5  , 0.5  , 0.   ],
               [0.333, 0.333, 0.333],
               [0.   , 0.5  , 0.5  ]])

    References:
        A. H. Sayed: Adaptation, learning, and optimization over networks, Found. Trends Mach. Learn. 7 (2014),
        doi:10.1561/2200000051.
    """
    W = neighborhoods(graph)
    share = 1 / (1 + np.diff(W.indptr))
    return with_diagonal(diags_array(share) @ W, share)


@POLICIES.register()
def push(graph: nx.Graph) -> csr_array:
    """Each agent splits what it has evenly between itself and those that it sends to.

    ``W[k, l] = 1 / (1 + o_l)`` for l in N_k and for l = k, with o_l the number of agents that l sends to. The columns
    of W sum to one, not the rows: it is for strategies that need this, such as push-sum.

    Args:
        graph: Graph or DiGraph.

    Returns:
        Matrix [K, K] whose columns sum to one.

    Example:
        >>> push(nx.path_graph(3)).toarray().round(3)
        array([[0.5  , 0.333, 0.   ],
               [0.5  , 0.333, 0.5  ],
               [0.   , 0.333, 0.5  ]])

    References:
        D. Kempe, A. Dobra, J. Gehrke: Gossip-based computation of aggregate information, FOCS 2003,
        doi:10.1109/SFCS.2003.1238221.
    """
    W = neighborhoods(graph)
    share = 1 / (1 + np.asarray(W.sum(axis=0)).ravel())
    return with_diagonal(W @ diags_array(share), share)


@POLICIES.register()
def laplacian(graph: nx.Graph, *, step: float | None = None) -> csr_array:
    """Every edge has the same weight: ``W = I - step L`` with the graph's Laplacian L.

    On a directed graph the diagonal of L holds the numbers d_k of agents that k receives from. Where every
    agent sends to as many as it receives from, as on any undirected graph, all agents count the same in the
    centroid.

    Args:
        graph: Graph or DiGraph.
        step: Weight of an edge, in (0, 1 / d_max]; ``1 / (1 + d_max)`` by default. At 1 / d_max the
            best connected agents keep nothing of their own, and on a bipartite regular graph (an even
            ring, say) W then swaps the two sides forever instead of averaging.

    Returns:
        Mixing matrix [K, K], symmetric for an undirected graph.

    Raises:
        ValueError: If ``step`` is outside (0, 1 / d_max].

    Example:
        >>> laplacian(nx.path_graph(3), step=0.25).toarray()
        array([[0.75, 0.25, 0.  ],
               [0.25, 0.5 , 0.25],
               [0.  , 0.25, 0.75]])

    References:
        R. Olfati-Saber, J. A. Fax, R. M. Murray: Consensus and cooperation in networked multi-agent systems, Proc. IEEE
        95 (2007), doi:10.1109/JPROC.2006.887293.
    """
    hears = neighborhoods(graph)
    degree = np.diff(hears.indptr)
    largest = int(degree.max())
    if step is None:
        step = 1 / (1 + largest)
    elif not (0 < step < math.inf and step * largest <= 1):
        raise ValueError(
            f"the policy laplacian has step {step:g}, but on this graph it must lie in "
            f"(0, 1/{max(largest, 1)}], one over the largest number of neighbours"
        )
    return with_diagonal(step * hears, 1 - step * degree)


@POLICIES.register()
def max_degree(graph: nx.Graph) -> csr_array:
    """Every edge has the weight 1 / K, which requires no knowledge of the graph: ``W = I - L / K``.

    No agent can have more than K - 1 neighbours, hence the name. It mixes slowly on any sparse graph.

    Args:
        graph: Graph or DiGraph, as for `laplacian`.

    Returns:
        Mixing matrix [K, K], symmetric for an undirected graph.

    Example:
        >>> max_degree(nx.path_graph(4)).toarray()[1]
        array([0.25, 0.5 , 0.25, 0.  ])

    References:
        L. Xiao, S. Boyd: Fast linear iterations for distributed averaging, Syst. Control Lett. 53 (2004),
        doi:10.1016/j.sysconle.2004.02.022.
    """
    return laplacian(graph, step=1 / len(graph))


@POLICIES.register()
def weights(graph: nx.Graph) -> csr_array:
    """The edges' own weights, from their attribute ``weight``.

    The weight of the edge (u, v) is W[v, u]; of an undirected edge, W[u, v] as well. The weight of a
    self-loop is W[k, k]; an agent without one keeps what its neighbours' weights leave of 1.

    Args:
        graph: Graph or DiGraph whose edges all have a ``weight``.

    Returns:
        Mixing matrix [K, K].

    Raises:
        ValueError: If an edge has no weight, a negative or an infinite one, or if the weights that an agent gives
            cannot be completed to a sum of one.

    Example:
        >>> graph = nx.DiGraph()
        >>> graph.add_weighted_edges_from([(0, 1, 0.25), (1, 0, 0.5)])
        >>> weights(graph).toarray()
        array([[0.5 , 0.5 ],
               [0.25, 0.75]])
    """
    senders, receivers = edge_ends(graph)
    given = [edge.get("weight") for _, neighbors in graph.adjacency() for edge in neighbors.values()]
    known = [isinstance(weight, (int, float, np.number)) and 0 <= weight < math.inf for weight in given]
    if not all(known):
        first, agents = known.index(False), list(graph)
        raise ValueError(
            f"the policy weights finds the weight {given[first]} on the edge from {agents[senders[first]]!r} to "
            f"{agents[receivers[first]]!r}, but needs a number that is finite and not negative on every edge"
        )
    weight = np.array(given, dtype=np.float64)
    between = senders != receivers
    W = csr_array((weight[between], (receivers[between], senders[between])), shape=(len(graph), len(graph)))
    received = W.sum(axis=1)
    kept = np.maximum(1 - received, 0)
    kept[senders[~between]] = weight[~between]
    if len(wrong := np.flatnonzero(np.abs(received + kept - 1) > TOLERANCE)):
        k = wrong[0]
        raise ValueError(
            f"the policy weights finds that agent {list(graph)[k]!r} gives weights with the sum "
            f"{received[k] + kept[k]:.10g}, but must find 1, or at most 1 where there is no self-loop"
        )
    return with_diagonal(W, kept)
