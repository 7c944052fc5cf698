"""Small worlds: ring lattices with a few random shortcuts."""

import networkx as nx

from basinet.topologies.building import ATTEMPTS, TOPOLOGIES, first_connected, from_edges
from basinet.topologies.requirements import require_agents, require_room, require_seed

__all__ = ["newman_watts", "watts_strogatz"]


@TOPOLOGIES.register()
def watts_strogatz(num_agents: int, *, neighbors: int = 4, probability: float = 0.1, seed: int = 0) -> nx.Graph:
    """A ring on which each agent is joined to those nearest to it, with some of the edges rewired at random.

    Each edge (k, k + j) is replaced, with the given probability, by (k, l) with l drawn at random. The graph is
    redrawn, up to 100 times, until it is connected.

    Args:
        num_agents: Number of agents K, above ``neighbors``.
        neighbors: Number of neighbours of each agent on the ring, half of them on each side; even, at least 2.
        probability: Probability that an edge is rewired, in [0, 1].
        seed: Seed of the graph, a non-negative integer.

    Returns:
        Connected graph on the nodes 0..K-1, with ``K neighbors / 2`` edges.

    Example:
        >>> watts_strogatz(16, probability=0.3).number_of_edges()
        32

    References:
        D. J. Watts, S. H. Strogatz: Collective dynamics of 'small-world' networks, Nature 393 (1998),
        doi:10.1038/30918.
    """
    _require_ring(num_agents, neighbors, probability, "watts_strogatz")
    return first_connected(
        num_agents,
        lambda word: list(nx.watts_strogatz_graph(num_agents, neighbors, probability, seed=word).edges),
        seed=seed,
        message=(
            f"watts_strogatz: none of {ATTEMPTS} graphs drawn with {neighbors} neighbors and probability "
            f"{probability:g} for {num_agents} agents was connected; raise the number of neighbors"
        ),
    )


@TOPOLOGIES.register()
def newman_watts(num_agents: int, *, neighbors: int = 4, probability: float = 0.1, seed: int = 0) -> nx.Graph:
    """A ring on which each agent is joined to those nearest to it, with random shortcuts added.

    For each edge (k, k + j), with the given probability, an edge (k, l) is added with l drawn at random. Since the ring
    stays intact, the graph is always connected.

    Args:
        num_agents: Number of agents K, above ``neighbors``.
        neighbors: Number of neighbours of each agent on the ring, half of them on each side; even, at least 2.
        probability: Probability that an edge gets a shortcut, in [0, 1].
        seed: Seed of the graph, a non-negative integer.

    Returns:
        Connected graph on the nodes 0..K-1.

    Example:
        >>> newman_watts(16, probability=0.3).number_of_edges()
        40

    References:
        M. E. J. Newman, D. J. Watts: Renormalization group analysis of the small-world network model, Phys. Lett. A 263
        (1999), doi:10.1016/S0375-9601(99)00757-4.
    """
    _require_ring(num_agents, neighbors, probability, "newman_watts")
    require_seed(seed)
    graph = nx.newman_watts_strogatz_graph(num_agents, neighbors, probability, seed=seed)
    return from_edges(num_agents, list(graph.edges))


def _require_ring(num_agents: int, neighbors: int, probability: float, family: str) -> None:
    require_agents(num_agents, family)
    if neighbors < 2 or neighbors % 2:
        raise ValueError(
            f"{family}: neighbors is {neighbors}, but must be even and at least 2, half of them on each side"
        )
    if num_agents <= neighbors:
        raise ValueError(
            f"{family}: num_agents is {num_agents}, but must be above {neighbors}, the number of neighbors"
        )
    if not 0 <= probability <= 1:
        raise ValueError(f"{family}: probability is {probability}, but must lie in [0, 1]")
    require_room(num_agents * neighbors / 2, family)
