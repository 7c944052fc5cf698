"""Social networks that sociologists observed: the members are the agents."""

from collections.abc import Callable

import networkx as nx

from basinet.topologies.building import TOPOLOGIES

__all__ = ["davis", "florentine", "karate"]


@TOPOLOGIES.register()
def karate(num_agents: int | None) -> nx.Graph:
    """Zachary's karate club: 34 members, joined where they met outside the club, which then split in two.

    Args:
        num_agents: 34, or None.

    Returns:
        Graph on the nodes 0..33, with the node attributes ``name`` and ``club``, the side that a member took, and
        the edge attribute ``weight``, in how many settings the two met.

    Example:
        >>> graph = karate(None)
        >>> graph.number_of_edges(), graph.nodes[33]["club"]
        (78, 'Officer')

    References:
        Zachary, An Information Flow Model for Conflict and Fission in Small Groups,
        https://doi.org/10.1086/jar.33.4.3629752, 1977
    """
    return _observed(num_agents, nx.karate_club_graph, "karate")


@TOPOLOGIES.register()
def davis(num_agents: int | None) -> nx.Graph:
    """Southern women: 18 women, joined to those of 14 events that they attended; a bipartite graph.

    Args:
        num_agents: 32, or None.

    Returns:
        Graph on the nodes 0..31, the women first, with the node attributes ``name`` and ``bipartite``, 0 for a
        woman and 1 for an event.

    Example:
        >>> graph = davis(None)
        >>> graph.number_of_edges(), graph.nodes[0]["name"]
        (89, 'Evelyn Jefferson')

    References:
        Davis, Gardner and Gardner, Deep South: A Social Anthropological Study of Caste and Class, 1941
    """
    return _observed(num_agents, nx.davis_southern_women_graph, "davis")


@TOPOLOGIES.register()
def florentine(num_agents: int | None) -> nx.Graph:
    """Florentine families of the 15th century: 15 of them, joined by marriage; the Medici are in the middle.

    Args:
        num_agents: 15, or None.

    Returns:
        Graph on the nodes 0..14, with the node attribute ``name``.

    Example:
        >>> graph = florentine(None)
        >>> max(graph, key=graph.degree), graph.nodes[1]["name"]
        (1, 'Medici')

    References:
        Padgett and Ansell, Robust Action and the Rise of the Medici, 1400-1434,
        https://doi.org/10.1086/230190, 1993
    """
    return _observed(num_agents, nx.florentine_families_graph, "florentine")


def _observed(num_agents: int | None, load: Callable[[], nx.Graph], family: str) -> nx.Graph:
    graph = load()
    if num_agents not in (None, len(graph)):
        raise ValueError(
            f"{family}: num_agents is {num_agents}, but this network has {len(graph)} agents; give {len(graph)} or "
            "leave the number out"
        )
    return nx.convert_node_labels_to_integers(graph, label_attribute="name")
