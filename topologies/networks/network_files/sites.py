"""Networks of which every pair of sites has been measured."""

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from basinet.topologies.networks.assembling import Access, Hosts, pairs_of, places_of, ports_of
from basinet.topologies.networks.network import Network

__all__ = ["network_of_sites"]


def network_of_sites(
    graph: nx.Graph,
    what: str,
    names: tuple[str, ...],
    latency: NDArray[np.int64],
    bandwidth: NDArray[np.float64],
    *,
    loss: NDArray[np.float64] | None = None,
    hosts: Hosts = None,
    access: Access = None,
    complete: bool = False,
) -> Network:
    """Return the network of agents at sites that are joined pair by pair.

    Args:
        graph: Graph of the agents.
        what: Name of the network, for messages.
        names: Names of the sites [S].
        latency: Nanoseconds from site l to site k at [k, l]; negative where there is no link [S, S].
        bandwidth: Bytes per second [S, S].
        loss: Share lost [S, S]; none by default.
        hosts: The site of each agent, by name or number; by default those of the agents' names, or in order.
        access: The sites' own connections; no limit by default.
        complete: Whether all pairs get a link, or only the graph's edges.

    Returns:
        The network.

    Raises:
        ValueError: If a pair that needs a link has none.
    """
    places = places_of(graph, names, hosts, what)
    senders, receivers = pairs_of(graph, complete)
    link = places[receivers], places[senders]
    if (missing := latency[link] < 0).any():
        receiver, sender = (names[ends[np.argmax(missing)]] for ends in link)
        raise ValueError(f"{what}: there is no link from {sender} to {receiver}, over which agents send")
    lost = np.zeros(1) if loss is None else loss[link]
    return Network(
        agents=len(graph),
        senders=senders,
        receivers=receivers,
        latency=latency[link],
        bandwidth=bandwidth[link],
        loss=lost if lost.any() else None,
        ports=ports_of(access, what),
        names=tuple(names[place] for place in places),
    )
