"""What a sum over all agents still takes when the last agent is ready, some of them being earlier than others."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from basinet.topologies.networks.network import Network, Ports
from basinet.topologies.networks.units import transfer
from basinet.topologies.timing.all_reduces import Round, duration

__all__ = ["after_the_last"]

Numbers = NDArray[np.int64]


def after_the_last(network: Network, rounds: Sequence[Round]) -> Callable[[Numbers], Numbers]:
    """Return what rounds take after the last agent is ready.

    Rounds begin when all are, except for a first one that is gathered: its messages leave when their senders are ready,
    and the receiver's port takes them in that order; a fair one has carried a message when none is left that it shares
    the port with.

    Args:
        network: The network.
        rounds: The rounds.

    Returns:
        A function of when agents are ready, int64 [K, R] nanoseconds, to nanoseconds, int64 [R].

    Raises:
        ValueError: The network lacks a link.

    Example:
        A server, agent 0, with 1 ns of latency and 3 ns for a message: the first is there at 6, the second at 9.

        >>> import networkx as nx
        >>> from basinet.topologies.networks import uniform_links
        >>> from basinet.topologies.timing.all_reduces import server
        >>> star = uniform_links(nx.star_graph(2), latency="1 ns", access={"up": "2 GB/s", "down": "2 GB/s"})
        >>> 4 + after_the_last(star, server(star, 6))(np.array([[1], [2], [4]]))
        array([16])
    """
    whole = duration(network, rounds)
    if not rounds or not rounds[0].gathered or not rounds[0].senders.size:
        return lambda ready: np.full(ready.shape[1], whole)
    first, later, ports = rounds[0], duration(network, rounds[1:]), network.ports
    links = network.links_between(first.senders, first.receivers)
    senders, latency = network.senders[links], network.latency[links, None]
    down = np.broadcast_to(np.asarray(ports.down, np.float64), network.agents)[first.receivers[0]]
    through = transfer(np.arange(len(links) + 1) * first.size, np.full(len(links) + 1, down))[:, None]
    alone = replace(network, ports=Ports(up=ports.up)).delays(links, first.size).transfer[:, None]

    def takes(ready: Numbers) -> Numbers:
        sent = ready[senders]
        order = np.argsort(sent, axis=0, kind="stable")
        port = np.maximum.accumulate(np.take_along_axis(sent, order, 0) - through[:-1], 0) + through[1:]
        if ports.sharing == "fair":  # until nothing is left to share the port with
            rests = np.append(np.take_along_axis(sent, order, 0)[1:] >= port[:-1], np.ones_like(port[-1:], bool), 0)
            port = np.minimum.accumulate(np.where(rests, port, np.iinfo(np.int64).max)[::-1], 0)[::-1]
        np.put_along_axis(port, order, port.copy(), 0)
        there: Numbers = (np.maximum(port, sent + alone) + latency).max(0)
        last = ready.max(0)
        left: Numbers = np.maximum(there, last) - last + later
        return left

    return takes
