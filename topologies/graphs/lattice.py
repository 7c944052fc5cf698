"""Lattices of any dimension: grid, torus and hypercube."""

import math
from collections.abc import Sequence

import networkx as nx
import numpy as np

from basinet.topologies.building import TOPOLOGIES
from basinet.topologies.requirements import require_agents

__all__ = ["grid", "hypercube", "torus"]


@TOPOLOGIES.register()
def grid(num_agents: int, *, shape: Sequence[int] | None = None) -> nx.Graph:
    """Agents at the points of a box, each joined to the next one along every axis.

    Args:
        num_agents: Number of agents K, at least 1.
        shape: Sides of the box, one per dimension, with product K. By default the most square
            two-dimensional box, ``(a, K / a)`` with a the largest divisor of K up to its square root:
            4 x 4 for 16 agents, but a path for a prime number of them.

    Returns:
        Graph on the nodes 0..K-1, numbered row by row (the last coordinate runs fastest).

    Example:
        >>> sorted(grid(6).edges)
        [(0, 1), (0, 3), (1, 2), (1, 4), (2, 5), (3, 4), (4, 5)]
    """
    return _lattice(_checked_shape(num_agents, shape, "grid"), periodic=False)


@TOPOLOGIES.register()
def torus(num_agents: int, *, shape: Sequence[int] | None = None) -> nx.Graph:
    """A grid whose opposite faces are joined, so that every agent sees the same surroundings.

    It is the Cartesian product of rings, and the eigenvalues of its Laplacian are all sums of one
    eigenvalue of each ring. A side of 2 gives one edge, not two, between the agents along it.

    Args:
        num_agents: Number of agents K, at least 1.
        shape: Sides of the torus, one per dimension, with product K. By default the most square
            two-dimensional shape, as for `grid`: a ring for a prime number of agents.

    Returns:
        Graph on the nodes 0..K-1, numbered row by row (the last coordinate runs fastest).

    Example:
        >>> sorted(torus(9)[0])
        [1, 2, 3, 6]
    """
    return _lattice(_checked_shape(num_agents, shape, "torus"), periodic=True)


@TOPOLOGIES.register()
def hypercube(num_agents: int) -> nx.Graph:
    """Corners of the cube of dimension log2(K): agents are joined if their numbers differ in one bit.

    With Metropolis weights its spectral gap is ``2 / (1 + log2 K)``, with only log2(K) neighbours per agent.

    Args:
        num_agents: Number of agents K, a power of two.

    Returns:
        Graph on the nodes 0..K-1.

    Raises:
        ValueError: If ``num_agents`` is not a power of two.

    Example:
        >>> sorted(hypercube(8)[0])
        [1, 2, 4]
    """
    require_agents(num_agents, "hypercube")
    dimension = num_agents.bit_length() - 1
    if num_agents != 2**dimension:
        raise ValueError(
            f"hypercube: num_agents is {num_agents}, but must be a power of two, "
            f"such as {2**dimension} or {2 ** (dimension + 1)}"
        )
    return _lattice([2] * dimension, periodic=False)


def _lattice(shape: Sequence[int], *, periodic: bool) -> nx.Graph:
    # Built from one array of positions, since networkx's own lattices take seconds for 10^5 agents.
    places = np.arange(math.prod(shape)).reshape(shape)
    graph = nx.empty_graph(places.size)
    for axis, side in enumerate(shape):
        linked = range(side if periodic and side > 2 else side - 1)
        ahead = np.roll(places, -1, axis=axis)
        here, there = (array.take(linked, axis=axis).ravel().tolist() for array in (places, ahead))
        graph.add_edges_from(zip(here, there, strict=True))
    return graph


def _checked_shape(num_agents: int, shape: Sequence[int] | None, family: str) -> Sequence[int]:
    require_agents(num_agents, family)
    if shape is None:
        side = next(a for a in range(math.isqrt(num_agents), 0, -1) if num_agents % a == 0)
        return (side, num_agents // side)
    if any(side < 1 for side in shape) or math.prod(shape) != num_agents:
        raise ValueError(
            f"{family}: shape is {list(shape)}, but its sides must be positive with the product "
            f"{num_agents}, the number of agents"
        )
    return shape
