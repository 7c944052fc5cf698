"""Scale-free graphs: a few agents have very many neighbours."""

import networkx as nx

from basinet.topologies.building import TOPOLOGIES, from_edges
from basinet.topologies.requirements import require_agents, require_room, require_seed

__all__ = ["barabasi_albert"]


@TOPOLOGIES.register()
def barabasi_albert(num_agents: int, *, links: int = 2, seed: int = 0) -> nx.Graph:
    """Preferential attachment: agents join one by one, and prefer neighbours that already have many.

    The first ``links + 1`` agents are a star; each later one is joined to ``links`` others, drawn with probabilities in
    proportion to their degrees. The share of agents with d neighbours falls as ``d^-3``, and the graph is always
    connected.

    Args:
        num_agents: Number of agents K, above ``links``.
        links: Number of agents that a newcomer is joined to, at least 1; 1 gives a tree.
        seed: Seed of the graph, a non-negative integer.

    Returns:
        Connected graph on the nodes 0..K-1, with ``links (K - links)`` edges.

    Raises:
        ValueError: If ``links`` is below one, or not below ``num_agents``.

    Example:
        >>> barabasi_albert(16).number_of_edges()
        28

    References:
        A.-L. Barabási, R. Albert: Emergence of scaling in random networks, Science 286 (1999),
        doi:10.1126/science.286.5439.509.
    """
    require_agents(num_agents, "barabasi_albert")
    require_seed(seed)
    if links < 1:
        raise ValueError(f"barabasi_albert: links is {links}, but must be at least 1")
    if num_agents <= links:
        raise ValueError(f"barabasi_albert: num_agents is {num_agents}, but must be above {links}, the number of links")
    require_room(links * (num_agents - links), "barabasi_albert")
    return from_edges(num_agents, list(nx.barabasi_albert_graph(num_agents, links, seed=seed).edges))
