"""Graphs that are worth a look on a network: regular ones of its size, and those designed for it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import networkx as nx
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from basinet.topologies.designs import bounded_tree, fastest_ring, fastest_star, fastest_tree, lone_messages
from basinet.topologies.networks import Network

__all__ = ["Topology", "candidates"]

Topology: TypeAlias = Mapping[str, Any] | nx.Graph
"""A topology as an experiment describes it, or a graph."""

_FEW = 4
"""Neighbours of an agent of a random regular graph, if more are allowed."""
_CLUSTERED = 4.0
"""How much faster messages are inside clusters of agents, at least, than those between the farthest agents."""


def candidates(
    network: Network, size: int, compute: np.ndarray, *, most_neighbours: int | None = None
) -> dict[str, Callable[[], Topology]]:
    """List graphs for a network.

    Args:
        network: The network, which links all pairs.
        size: Bytes of a message.
        compute: How long each agent computes in a step, nanoseconds [K].
        most_neighbours: Most agents that an agent should send to in a step; no limit by default.

    Returns:
        Functions that make them, by name; they raise a ValueError where a graph of this size is impossible.
    """
    agents = network.agents
    limit = min(most_neighbours or agents - 1, agents - 1)
    degree = min(_FEW, limit)
    if agents * degree % 2:
        degree -= 1
    named: dict[str, dict[str, Any]] = {
        "ring": {},
        "torus": {},
        "hypercube": {},
        "exponential": {},
        "one_peer_exponential": {},
        "base_graph": {},
        "random_regular": {"degree": degree, "seed": 0},
        "complete": {},
    }
    if count := _clusters(lone_messages(network, size)):
        named["clusters"] = {"clusters": count}
    found: dict[str, Callable[[], Topology]] = {
        name: partial(dict, name=name, agents=agents, **settings) for name, settings in named.items()
    }
    design = network, size, compute
    return found | {
        "fastest_star": partial(fastest_star, *design),
        "fastest_tree": partial(fastest_tree, *design),
        "bounded_tree": partial(bounded_tree, *design, degree=max(2, min(3, limit))),
        "fastest_ring": partial(fastest_ring, *design),
    }


def _clusters(takes: np.ndarray) -> int | None:
    """Count the clusters of a network: agents that reach each other by links faster than others.

    Args:
        takes: What messages take [K, K].

    Returns:
        How many clusters the links make that are faster than the geometric mean of the fastest and the slowest; None if
        links are much alike, or the graph `clusters` would divide the agents otherwise.
    """
    between = takes[np.isfinite(takes)]
    if not between.size or between.max() < _CLUSTERED * max(1.0, between.min()):
        return None
    near = takes < np.sqrt(max(1.0, between.min()) * between.max())
    count, member = connected_components(csr_array(near), directed=False)
    agents = len(takes)
    bounds = np.arange(count + 1) * agents // count  # as `clusters` divides them
    return int(count) if 1 < count < agents and (member == np.repeat(range(count), np.diff(bounds))).all() else None
