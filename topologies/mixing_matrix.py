"""Checks of graphs and mixing matrices, and the neighbourhoods they are based on."""

from collections.abc import Hashable, Iterable, Sequence
from itertools import chain
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, diags_array, issparse
from scipy.sparse.csgraph import connected_components

from basinet.topologies.registry import Registry

__all__ = ["POLICIES", "check_graph", "check_mixing_matrix", "edges_of", "neighborhoods"]

TOLERANCE = 1e-8

POLICIES: Registry[csr_array] = Registry("POLICIES")
"""The combination policies that an experiment can name."""


def edges_of(W: csr_array) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Find the edges along which agents send: agent l sends to agent k where W[k, l] is not zero.

    Args:
        W: Mixing matrix [K, K].

    Returns:
        Receivers k, senders l and weights W[k, l], without those of an agent's own row, by receivers, then senders.

    Example:
        >>> [values.tolist() for values in edges_of(csr_array([[0.5, 0.5], [0.0, 1.0]]))]
        [[0], [1], [0.5]]
    """
    entries = (W if W.has_sorted_indices else W.sorted_indices()).tocoo()
    sent = (entries.row != entries.col) & (entries.data != 0)
    return entries.row[sent].astype(np.int64), entries.col[sent].astype(np.int64), entries.data[sent]


def neighborhoods(graph: nx.Graph) -> csr_array:
    """Who hears whom: entry [k, l] is one if agent l sends to agent k, and zero elsewhere.

    Rows and columns follow the graph's own node order. A directed edge (u, v) means that u sends to v; an
    undirected edge, that both send. Self-loops and edge attributes are left out.

    Args:
        graph: Graph or DiGraph with any labels. It need not be connected.

    Returns:
        Matrix of zeros and ones [K, K], float64, with an empty diagonal.

    Example:
        >>> neighborhoods(nx.DiGraph([("a", "b")])).toarray()
        array([[0., 0.],
               [1., 0.]])
    """
    senders, receivers = edge_ends(graph)
    between = senders != receivers
    hears = (np.ones(np.count_nonzero(between)), (receivers[between], senders[between]))
    return csr_array(hears, shape=(len(graph), len(graph)))


def edge_ends(graph: nx.Graph) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return both ends of every edge, as positions in the graph's node order, in the order of ``graph.adjacency()``.

    Args:
        graph: Graph or DiGraph with any labels.

    Returns:
        Senders and receivers; an undirected edge appears twice, once in each direction, and a self-loop once.

    Raises:
        TypeError: If ``graph`` is not a networkx graph.
        ValueError: If it is a multigraph or has no nodes.
    """
    if not isinstance(graph, nx.Graph):
        raise TypeError(f"the graph is a {type(graph).__name__}, but must be a networkx Graph or DiGraph")
    if graph.is_multigraph():
        simple = "DiGraph" if graph.is_directed() else "Graph"
        raise ValueError(
            f"the graph is a {type(graph).__name__}, but must have at most one edge between two agents; "
            f"convert it with networkx.{simple}(graph)"
        )
    if not graph:
        raise ValueError("the graph has no nodes, but must have at least one agent")
    agents = list(graph)
    receivers = [neighbors for _, neighbors in graph.adjacency()]
    starts = np.cumsum([0, *map(len, receivers)])
    labels: Iterable[Any] = chain.from_iterable(receivers)
    if agents != list(range(len(agents))):
        labels = map({agent: k for k, agent in enumerate(agents)}.__getitem__, labels)
    return np.repeat(np.arange(len(agents)), np.diff(starts)), np.fromiter(labels, np.int64, starts[-1])


def with_diagonal(W: csr_array, diagonal: NDArray[np.float64]) -> csr_array:
    """Add the agents' own weights to a matrix that has none.

    Args:
        W: Weights between agents [K, K], with an empty diagonal.
        diagonal: The weights that agents give to their own values [K].

    Returns:
        Mixing matrix [K, K].
    """
    return (W + diags_array(diagonal)).tocsr()


def check_graph(graph: nx.Graph) -> None:
    """Raise if a graph is not connected, so that its agents could never agree.

    Args:
        graph: Graph or DiGraph with any labels. It must be connected; if directed, strongly connected.

    Example:
        >>> check_graph(nx.empty_graph(2))
        Traceback (most recent call last):
        ...
        ValueError: the graph has 2 connected components, but must have one: agent 1 is cut off from agent 0
    """
    hears = neighborhoods(graph)
    kind = "strongly connected" if graph.is_directed() else "connected"
    _require_connected(hears, "graph", list(graph), kind)


def check_mixing_matrix(
    W: ArrayLike | csr_array, graph: nx.Graph | None = None, *, connected: bool = True
) -> csr_array:
    """Return a mixing matrix in the form that Basinet works with; raise if it does not mix.

    The convention is ``x_k ← Σ_l W[k, l] x_l``: row k holds the weights agent k gives to what it
    receives, so that it is non-negative and sums to one (within 1e-8). By default the agents must form one
    strongly connected component of W.

    Args:
        W: Mixing matrix [K, K], dense or sparse.
        graph: Graph whose edges (and self-loops) W may use, in the graph's node order. By default any
            edge is allowed.
        connected: Whether the agents have to form one strongly connected component; those of one step of a
            sequence need not.

    Returns:
        The same matrix as a csr_array of float64 without stored zeros.

    Raises:
        ValueError: If W is not a row-stochastic matrix, or uses an edge that the graph does not have.

    Example:
        >>> check_mixing_matrix([[0.5, 0.5], [0.2, 0.7]])
        Traceback (most recent call last):
        ...
        ValueError: row 1 of the mixing matrix sums to 0.9, but must sum to 1
    """
    # A copy, since the stored zeros are dropped below.
    matrix = csr_array(W if issparse(W) else np.asarray(W, dtype=np.float64), dtype=np.float64, copy=True)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ValueError(f"the mixing matrix has shape {matrix.shape}, but must be square, [K, K], and not empty")
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if len(invalid := np.flatnonzero(~(np.isfinite(matrix.data) & (matrix.data >= 0)))):
        entries = matrix.tocoo()
        row, column = entries.row[invalid[0]], entries.col[invalid[0]]
        raise ValueError(
            f"entry [{row}, {column}] of the mixing matrix is {entries.data[invalid[0]]:g}, but must be "
            "finite and not negative"
        )
    row_sums = matrix.sum(axis=1)
    if len(wrong := np.flatnonzero(np.abs(row_sums - 1) > TOLERANCE)):
        column_stochastic = np.allclose(matrix.sum(axis=0), 1, rtol=0, atol=TOLERANCE)
        raise ValueError(
            f"row {wrong[0]} of the mixing matrix sums to {row_sums[wrong[0]]:.10g}, but must sum to 1"
            + ("; its columns do, so transpose it" if column_stochastic else "")
        )
    if graph is not None:
        _require_support(matrix, graph)
    agents = list(range(matrix.shape[0]) if graph is None else graph)
    if not connected:
        return matrix
    _require_connected(matrix, "mixing matrix", agents, "strongly connected")
    return matrix


def _require_support(W: csr_array, graph: nx.Graph) -> None:
    allowed = neighborhoods(graph) + diags_array(np.ones(len(graph)))
    if W.shape != allowed.shape:
        raise ValueError(
            f"the mixing matrix has shape {W.shape}, but the graph has {len(graph)} agents, so it must be "
            f"{list(allowed.shape)}"
        )
    outside = (W - W * allowed).tocoo()
    outside.eliminate_zeros()
    if outside.nnz:
        row, column = outside.row[0], outside.col[0]
        agents = list(graph)
        raise ValueError(
            f"entry [{row}, {column}] of the mixing matrix is {outside.data[0]:g}, but the graph has no edge "
            f"on which agent {agents[column]!r} sends to agent {agents[row]!r}, so it must be 0"
        )


def _require_connected(hears: csr_array, name: str, agents: Sequence[Hashable], kind: str) -> None:
    # An undirected graph is strongly connected exactly if it is connected.
    count, component = connected_components(hears, directed=True, connection="strong")
    if count > 1:
        inside = component == np.argmax(np.bincount(component))
        cut_off, other = agents[int(np.argmin(inside))], agents[int(np.argmax(inside))]
        raise ValueError(
            f"the {name} has {count} {kind} components, but must have one: agent {cut_off!r} is cut off from "
            f"agent {other!r}" + (" in at least one direction" if kind == "strongly connected" else "")
        )
