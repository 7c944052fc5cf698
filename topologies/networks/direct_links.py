"""Networks in which each link stands for itself: all alike, or described by the graph's own edges."""

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np

from basinet.topologies.mixing_matrix import edge_ends
from basinet.topologies.networks.assembling import NETWORKS, Access, agent_names, line_of, pairs_of, ports_of
from basinet.topologies.networks.network import Network
from basinet.topologies.networks.units import Quantity, nanoseconds, rate, share

__all__ = ["from_graph", "uniform_links"]


@NETWORKS.register("uniform")
def uniform_links(
    graph: nx.Graph,
    *,
    bandwidth: Quantity = "inf",
    latency: Quantity = "0 s",
    loss: Quantity = 0.0,
    access: Access = None,
    complete: bool = False,
) -> Network:
    """A network whose links are all alike.

    A message of M bytes takes latency + M / bandwidth, or longer if the agents' access is the bottleneck.

    Args:
        graph: Graph of the agents.
        bandwidth: Bandwidth of a link, such as ``10 Gb/s``; no limit by default.
        latency: One-way latency, such as ``50 us``; none by default.
        loss: Share of messages lost, such as 0.01 or ``1 %``.
        access: The agents' own connections; no limit by default.
        complete: Whether all pairs get a link, or only the graph's edges.

    Returns:
        The network.

    Raises:
        ValueError: If a setting is no such quantity.

    Example:
        >>> network = uniform_links(nx.cycle_graph(4), bandwidth="1 GB/s", latency="50 us")
        >>> network.delays(np.arange(8), 1_000_000).transfer
        array([1000000, 1000000, 1000000, 1000000, 1000000, 1000000, 1000000,
               1000000])
    """
    senders, receivers = pairs_of(graph, complete)
    speed, delay = line_of({"bandwidth": bandwidth, "latency": latency}, "uniform")
    try:
        lost = share(loss)
    except ValueError as error:
        raise ValueError(f"uniform: {error}") from None
    return Network(
        agents=len(graph),
        senders=senders,
        receivers=receivers,
        latency=np.full(senders.size, delay),
        bandwidth=np.full(senders.size, speed),
        loss=np.full(senders.size, lost) if lost else None,
        ports=ports_of(access, "uniform"),
        names=agent_names(graph),
    )


@NETWORKS.register("edges")
def from_graph(graph: nx.Graph, *, access: Access = None) -> Network:
    """A network described by the edges of the graph: their attributes ``bandwidth``, ``latency`` and ``loss``.

    An undirected edge stands for both directions. An edge without a bandwidth has no limit, and one without a loss
    loses nothing; a latency must be given.

    Args:
        graph: Graph of the agents, whose edges have the attributes ``latency`` (such as ``3 ms``), and perhaps
            ``bandwidth`` (such as ``1 Gb/s``) and ``loss`` (such as ``1 %``).
        access: The agents' own connections; no limit by default.

    Returns:
        The network.

    Raises:
        ValueError: If an edge has no latency, or an attribute is no such quantity.

    Example:
        >>> graph = nx.DiGraph([("a", "b", {"latency": "3 ms", "bandwidth": "1 GB/s"})])
        >>> network = from_graph(graph)
        >>> network.latency, network.bandwidth
        (array([3000000]), array([1.e+09]))
    """
    senders, receivers = edge_ends(graph)
    labels = list(graph)
    order = np.lexsort((senders, receivers))
    kept = order[senders[order] != receivers[order]]
    senders, receivers = senders[kept], receivers[kept]
    edges = [(labels[u], labels[v]) for u, v in zip(senders.tolist(), receivers.tolist(), strict=True)]
    loss = np.array([_attribute(graph, edge, "loss", share, 0.0) for edge in edges])
    return Network(
        agents=len(graph),
        senders=senders,
        receivers=receivers,
        latency=np.array([_attribute(graph, edge, "latency", nanoseconds, None) for edge in edges], dtype=np.int64),
        bandwidth=np.array([_attribute(graph, edge, "bandwidth", rate, np.inf) for edge in edges], dtype=np.float64),
        loss=loss if loss.any() else None,
        ports=ports_of(access, "edges"),
        names=agent_names(graph),
    )


def _attribute(
    graph: nx.Graph, edge: tuple[Any, Any], name: str, read: Callable[[Any], float], default: float | None
) -> float:
    """Read a quantity of an edge; raise if it is wrong, or missing and without a default."""
    given = graph.edges[edge].get(name)
    where = f"the edge of {edge[0]} and {edge[1]}"
    if given is None:
        if default is None:
            raise ValueError(f"{where} has no attribute {name!r}, such as '3 ms'")
        return default
    try:
        return read(given)
    except ValueError as error:
        raise ValueError(f"{where}: {name}: {error}") from None
