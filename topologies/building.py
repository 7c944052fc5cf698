"""Build graphs from arrays of edges, and draw random ones until one is connected."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from basinet.topologies.registry import Registry
from basinet.topologies.requirements import require_room, require_seed

__all__ = ["ATTEMPTS", "TOPOLOGIES", "cliques", "first_connected", "from_edges", "shifted"]

ATTEMPTS = 100

TOPOLOGIES: Registry[nx.Graph] = Registry("TOPOLOGIES")
"""The graphs that an experiment can name."""


def from_edges(
    num_agents: int,
    edges: ArrayLike,
    *,
    directed: bool = False,
    weight: ArrayLike | None = None,
    policy: str | None = None,
) -> nx.Graph:
    """Build a graph from its edges.

    Args:
        num_agents: Number of agents K.
        edges: Pairs of agents [E, 2]; duplicates count once.
        directed: Whether the pair (u, v) means only that u sends to v.
        weight: Edge weights, a number or [E], stored in the attribute ``weight``; none by default.
        policy: The graph's own policy, stored in its attribute ``policy``; none by default.

    Returns:
        Graph on the nodes 0..K-1, or DiGraph if ``directed``.
    """
    pairs = _pairs(edges)
    require_room(len(pairs), "the graph")
    senders, receivers = pairs.T.tolist()
    with _collector_paused():
        graph = nx.empty_graph(num_agents, create_using=nx.DiGraph if directed else nx.Graph)
        if weight is None:
            graph.add_edges_from(zip(senders, receivers, strict=True))
        else:
            weights = np.broadcast_to(np.asarray(weight, dtype=np.float64), len(pairs)).tolist()
            graph.add_weighted_edges_from(zip(senders, receivers, weights, strict=True))
    if policy is not None:
        graph.graph["policy"] = policy
    return graph


def shifted(num_agents: int, shift: int, *, weight: float | None = None, policy: str | None = None) -> nx.DiGraph:
    """Build the graph on which each agent k sends only to ``k + shift`` (mod K).

    Args:
        num_agents: Number of agents K.
        shift: Distance to the receiver.
        weight: Weight of all edges, as for `from_edges`.
        policy: The graph's own policy, as for `from_edges`.

    Returns:
        DiGraph on the nodes 0..K-1.
    """
    agents = np.arange(num_agents)
    pairs = np.column_stack([agents, (agents + shift) % num_agents])
    return from_edges(num_agents, pairs, directed=True, weight=weight, policy=policy)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause garbage collection, which finds nothing in a graph under construction and takes longer than building it."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def cliques(starts: Sequence[int], sizes: Sequence[int], family: str) -> NDArray[np.int64]:
    """Return the edges of disjoint complete graphs.

    Args:
        starts: First agent of each clique.
        sizes: Number of agents of each clique.
        family: Name of the topology, for error messages.

    Returns:
        Pairs of agents [E, 2].
    """
    require_room(sum(size * (size - 1) / 2 for size in sizes), family)
    sides = zip(starts, sizes, strict=True)
    return np.concatenate([start + np.transpose(np.triu_indices(size, 1)) for start, size in sides])


def first_connected(
    num_agents: int,
    draw: Callable[[int], ArrayLike],
    *,
    seed: int,
    message: str,
    directed: bool = False,
    weight: float | None = None,
) -> nx.Graph:
    """Draw the edges of a graph until they connect all its agents.

    Args:
        num_agents: Number of agents K.
        draw: Maps a seed to pairs of agents [E, 2].
        seed: Seed of all draws, a non-negative integer.
        message: Error message if no draw is connected.
        directed: Whether the pair (u, v) means only that u sends to v; the graph is then strongly connected.
        weight: Weight of all edges, as for `from_edges`.

    Returns:
        Connected graph on the nodes 0..K-1.

    Raises:
        ValueError: If none of 100 draws is connected.
    """
    require_seed(seed)
    for word in np.random.SeedSequence(seed).generate_state(ATTEMPTS):
        edges = _pairs(draw(int(word)))
        joined = coo_array((np.ones(len(edges)), tuple(edges.T)), shape=(num_agents, num_agents)).tocsr()
        if connected_components(joined, directed=directed, connection="strong", return_labels=False) == 1:
            return from_edges(num_agents, edges, directed=directed, weight=weight)
    raise ValueError(message)


def _pairs(edges: ArrayLike) -> NDArray[np.int64]:
    return np.asarray(edges, dtype=np.int64).reshape(-1, 2)
