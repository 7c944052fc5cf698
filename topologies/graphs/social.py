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
        Graph on the nodes 0..33, with the node attributes ``name`` and ``club``, the side that a member took, and the
        edge attribute ``weight``, the number of settings in which the two met.

    Example:
        >>> graph = karate(None)
        >>> graph.number_of_edges(), graph.nodes[33]["club"]
        (78, 'Officer')

    References:
        W. W. Zachary: An information flow model for conflict and fission in small groups, J. Anthropol. Res. 33 (1977),
        doi:10.1086/jar.33.4.3629752.
    """
    return _observed(num_agents, nx.karate_club_graph, "karate")


@TOPOLOGIES.register()
def davis(num_agents: int | None) -> nx.Graph:
    """Southern women: 18 women and 14 events, joined by attendance; a bipartite graph.

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
        A. Davis, B. B. Gardner, M. R. Gardner: Deep South: a social anthropological study of caste and class, 1941.
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
        J. F. Padgett, C. K. Ansell: Robust action and the rise of the Medici, 1400–1434, Am. J. Sociol. 98 (1993),
        doi:10.1086/230190.
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
