"""Clusters: machines with several agents each, fat trees and rails, whose lines agents share."""

from collections.abc import Mapping, Sequence

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from basinet.topologies.networks.assembling import (
    NETWORKS,
    Hosts,
    agent_names,
    line_of,
    pairs_of,
    places_of,
    require_places,
)
from basinet.topologies.networks.network import Network
from basinet.topologies.networks.routes import Routes
from basinet.topologies.networks.units import Quantity
from basinet.topologies.requirements import MOST_EDGES

__all__ = ["fat_tree", "hierarchy", "rails"]

Numbers = NDArray[np.int64]
Line = Mapping[str, Quantity]
"""Bandwidth and latency."""


class _Pairs:
    """The pairs of agents that get a link, and where they sit."""

    def __init__(self, graph: nx.Graph, places: int, hosts: Hosts, complete: bool, what: str) -> None:
        require_places(places, what)
        self.graph = graph
        self.senders, self.receivers = pairs_of(graph, complete)
        self.seats = places_of(graph, [str(place) for place in range(places)], hosts, what)
        self.out, self.into = self.seats[self.senders], self.seats[self.receivers]

    def network(
        self, latency: Numbers, layers: Sequence[Numbers], sets: Sequence[tuple[int, float]], per_machine: int = 1
    ) -> Network:
        """Build the network from the lines that links pass, in order.

        Args:
            latency: That of each link [E], nanoseconds.
            layers: For each place of a route, the line of each link, or -1.
            sets: Number and capacity of the lines of each kind, which are numbered one kind after the other.
            per_machine: Places of a machine.

        Returns:
            The network.
        """
        capacity = np.concatenate([np.full(number, speed) for number, speed in sets])
        routes = Routes.of_layers(layers, np.zeros(capacity.size, np.int64), capacity)
        return Network(
            agents=len(self.graph),
            senders=self.senders,
            receivers=self.receivers,
            latency=latency.astype(np.int64),
            bandwidth=routes.narrowest(),
            routes=routes,
            names=agent_names(self.graph),
            hosts=self.seats // per_machine,
        )


def _starts(sets: Sequence[tuple[int, float]]) -> list[int]:
    """Return the number of the first line of each kind."""
    return [0, *np.cumsum([number for number, _ in sets]).tolist()]


def _positive(what: str, **settings: int) -> None:
    for name, value in settings.items():
        if not 1 <= value <= MOST_EDGES:
            raise ValueError(f"{what}: {name} is {value}, but must lie in 1..{MOST_EDGES}")


@NETWORKS.register()
def hierarchy(
    graph: nx.Graph,
    *,
    nodes: int,
    agents_per_node: int,
    inside: Line,
    between: Line,
    uplinks: int = 1,
    hosts: Hosts = None,
    complete: bool = False,
) -> Network:
    """Machines with several agents each, such as servers with eight GPUs.

    Within a machine each agent sends and receives at the rate ``inside``. Messages to other machines share the
    machine's uplinks, in max-min fair shares, and one message has the rate of one uplink at most.

    Args:
        graph: Graph of the agents.
        nodes: Number of machines.
        agents_per_node: Places in each; agent k sits in place k, on machine k // agents_per_node.
        inside: Bandwidth and latency within a machine.
        between: Bandwidth of an uplink, and latency between machines.
        uplinks: Number of uplinks of a machine.
        hosts: The place of each agent, instead.
        complete: Whether all pairs get a link, or only the graph's edges.

    Returns:
        The network.

    Example:
        >>> inside, between = {"bandwidth": "100 GB/s", "latency": "1 us"}, {"bandwidth": "10 GB/s", "latency": "5 us"}
        >>> pods = hierarchy(nx.cycle_graph(4), nodes=2, agents_per_node=2, inside=inside, between=between)
        >>> pods.delays(pods.links_between(np.array([0, 1]), np.array([1, 2])), 10**6)
        Delays(latency=array([1000, 5000]), transfer=array([ 10000, 100000]))
    """
    _positive("hierarchy", nodes=nodes, agents_per_node=agents_per_node, uplinks=uplinks)
    (fast, near), (slow, far) = line_of(inside, "hierarchy: inside"), line_of(between, "hierarchy: between")
    places = nodes * agents_per_node
    pairs = _Pairs(graph, places, hosts, complete, "hierarchy")
    here, there = pairs.out // agents_per_node, pairs.into // agents_per_node
    local = here == there
    kinds = [(places, fast), (places, fast), (nodes, uplinks * slow), (nodes, uplinks * slow)]
    out, into, up, down = _starts(kinds)[:-1]
    layers = [np.where(local, out + pairs.out, up + here), np.where(local, into + pairs.into, down + there)]
    network = pairs.network(np.where(local, near, far), layers, kinds, agents_per_node)
    return network.limited(np.where(local, fast, slow))


@NETWORKS.register()
def fat_tree(
    graph: nx.Graph,
    *,
    leaves: int,
    hosts_per_leaf: int,
    uplinks: int,
    host: Line,
    spine: Line,
    hosts: Hosts = None,
    complete: bool = False,
) -> Network:
    """Hosts under leaf switches, which are joined by spines: a fat tree, whose leaves may be oversubscribed.

    With p hosts and u uplinks of the same bandwidth B, messages that leave the leaf have B u/p each when all hosts
    send: the tree is oversubscribed p/u times. Messages spread evenly over uplinks.

    Args:
        graph: Graph of the agents, one on each host.
        leaves: Number of leaf switches.
        hosts_per_leaf: Hosts p under each; agent k sits on host k, under leaf k // p.
        uplinks: Uplinks u of a leaf.
        host: Bandwidth and latency of the line between a host and its leaf.
        spine: Those of an uplink.
        hosts: The host of each agent, instead.
        complete: Whether all pairs get a link, or only the graph's edges.

    Returns:
        The network.

    Example:
        >>> line = {"bandwidth": "10 GB/s", "latency": "1 us"}
        >>> tree = fat_tree(nx.complete_graph(4), leaves=2, hosts_per_leaf=2, uplinks=1, host=line, spine=line)
        >>> tree.delays(tree.links_between(np.array([0, 1]), np.array([2, 3])), 10**6)
        Delays(latency=array([4000, 4000]), transfer=array([200000, 200000]))
    """
    _positive("fat_tree", leaves=leaves, hosts_per_leaf=hosts_per_leaf, uplinks=uplinks)
    (speed, short), (wide, long) = line_of(host, "fat_tree: host"), line_of(spine, "fat_tree: spine")
    places = leaves * hosts_per_leaf
    pairs = _Pairs(graph, places, hosts, complete, "fat_tree")
    here, there = pairs.out // hosts_per_leaf, pairs.into // hosts_per_leaf
    local = here == there
    kinds = [(places, speed), (places, speed), (leaves, uplinks * wide), (leaves, uplinks * wide)]
    out, into, up, down = _starts(kinds)[:-1]
    crossing = [np.where(local, -1, up + here), np.where(local, -1, down + there)]
    latency = 2 * short + np.where(local, 0, 2 * long)
    network = pairs.network(latency, [out + pairs.out, *crossing, into + pairs.into], kinds)
    return network.limited(np.where(local, speed, min(speed, wide)))


@NETWORKS.register()
def rails(
    graph: nx.Graph,
    *,
    nodes: int,
    agents_per_node: int,
    inside: Line,
    between: Line,
    spine: Line | None = None,
    uplinks: int = 1,
    hosts: Hosts = None,
    complete: bool = False,
) -> Network:
    """Rails: the j-th GPUs of all servers hang under leaf switch j, each with a line of its own.

    Messages to another rail of another server take the line inside first, to the GPU of that rail, unless there
    is a spine, which they take then.

    Args:
        graph: Graph of the agents.
        nodes: Number of servers.
        agents_per_node: GPUs in each; agent k sits on GPU k, in server k // agents_per_node.
        inside: Bandwidth and latency within a server.
        between: Bandwidth of a GPU's line to its leaf, and latency between servers on the same rail.
        spine: Bandwidth of the uplink of a leaf, and latency that the way over the spine adds; none by default.
        uplinks: Uplinks of a leaf.
        hosts: The GPU of each agent, instead.
        complete: Whether all pairs get a link, or only the graph's edges.

    Returns:
        The network.

    Example:
        >>> inside, between = {"bandwidth": "100 GB/s", "latency": "1 us"}, {"bandwidth": "10 GB/s", "latency": "5 us"}
        >>> network = rails(nx.complete_graph(4), nodes=2, agents_per_node=2, inside=inside, between=between)
        >>> network.delays(network.links_between(np.array([0, 0]), np.array([2, 3])), 10**6)
        Delays(latency=array([5000, 6000]), transfer=array([100000, 100000]))
    """
    _positive("rails", nodes=nodes, agents_per_node=agents_per_node, uplinks=uplinks)
    (fast, near), (slow, far) = line_of(inside, "rails: inside"), line_of(between, "rails: between")
    wide, long = line_of(spine or {}, "rails: spine")
    places = nodes * agents_per_node
    pairs = _Pairs(graph, places, hosts, complete, "rails")
    (here, rail), (there, to) = np.divmod(pairs.out, agents_per_node), np.divmod(pairs.into, agents_per_node)
    local, same = here == there, rail == to
    kinds = [(places, fast), (places, fast), (places, slow), (places, slow)]
    kinds += [(agents_per_node, uplinks * wide), (agents_per_node, uplinks * wide)]
    out, into, card, card_in, up, down = _starts(kinds)[:-1]
    over = ~local & ~same if spine else np.zeros_like(local)
    hop = local | ~(same | over)
    at = np.where(over | local, pairs.out, here * agents_per_node + to)
    layers = [
        np.where(hop, out + pairs.out, -1),
        np.where(hop, into + np.where(local, pairs.into, at), -1),
        np.where(local, -1, card + at),
        np.where(over, up + rail, -1),
        np.where(over, down + to, -1),
        np.where(local, -1, card_in + pairs.into),
    ]
    latency = np.where(hop, near, 0) + np.where(local, 0, far) + np.where(over, long, 0)
    network = pairs.network(latency, layers, kinds, agents_per_node)
    return network.limited(np.where(over, wide, np.inf))
