"""Random geometric graphs: agents scattered over a square, joined to those nearby."""

import math

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from basinet.topologies.building import ATTEMPTS, TOPOLOGIES, first_connected
from basinet.topologies.requirements import require_agents, require_room

__all__ = ["random_geometric"]


@TOPOLOGIES.register()
def random_geometric(num_agents: int, *, radius: float | None = None, seed: int = 0) -> nx.Graph:
    """Agents at random positions in the unit square, joined if they are at most a radius apart.

    A model of wireless networks. It is connected with high probability once the area ``π radius^2`` of the disc around
    an agent exceeds ``ln K / K``. It is redrawn, up to 100 times, until it is connected.

    Args:
        num_agents: Number of agents K, at least 1.
        radius: How far an agent reaches, positive; ``√(2 ln K / (π K))`` by default, which gives an agent
            about 2 ln K neighbours.
        seed: Seed of the graph, a non-negative integer.

    Returns:
        Connected graph on the nodes 0..K-1, with the node attribute ``pos``: the position (x, y) of an agent.

    Raises:
        ValueError: If ``radius`` is not positive.

    Example:
        >>> graph = random_geometric(16)
        >>> nx.is_connected(graph), len(graph.nodes[0]["pos"])
        (True, 2)

    References:
        P. Gupta, P. R. Kumar: Critical power for asymptotic connectivity in wireless networks, Birkhäuser 1999,
        doi:10.1007/978-1-4612-1784-8_33.
    """
    from scipy.spatial import KDTree  # takes as long to import as networkx, and no other graph needs it

    require_agents(num_agents, "random_geometric")
    threshold = math.sqrt(math.log(num_agents) / (math.pi * num_agents))
    reach = math.sqrt(2) * threshold if radius is None else radius
    if radius is not None and not radius > 0:
        raise ValueError(f"random_geometric: radius is {radius}, but must be positive")
    # Wherever an agent is, at least a quarter of its disc lies inside the square.
    require_room(num_agents * (num_agents - 1) / 2 * min(1.0, math.pi * min(reach, 1.0) ** 2 / 4), "random_geometric")
    places = np.empty((num_agents, 2))

    def draw(word: int) -> NDArray[np.int64]:
        places[:] = np.random.default_rng(word).random((num_agents, 2))
        edges = KDTree(places).query_pairs(reach, output_type="ndarray")
        # Sorted, since building the graph takes longer in the tree's own order.
        return np.asarray(edges[np.lexsort(edges.T)])

    graph = first_connected(
        num_agents,
        draw,
        seed=seed,
        message=(
            f"random_geometric: none of {ATTEMPTS} graphs drawn with radius {reach:.3g} for {num_agents} agents was "
            f"connected; raise the radius above sqrt(ln K / (pi K)) = {threshold:.3g}"
        ),
    )
    nx.set_node_attributes(graph, dict(enumerate(map(tuple, places.tolist()))), "pos")
    return graph
