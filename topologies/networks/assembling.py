"""What the builders of networks share: their registry, the pairs of agents that need links, and who sits where."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from basinet.topologies.mixing_matrix import edge_ends
from basinet.topologies.networks.network import Network, Ports
from basinet.topologies.networks.quantities import nanoseconds, rate
from basinet.topologies.registry import Registry
from basinet.topologies.requirements import require_room

__all__ = ["NETWORKS", "Access", "Hosts", "Line", "agent_names", "pairs_of", "places_of"]

NETWORKS: Registry[Network] = Registry()
"""The networks that an experiment can name: functions from the graph of the agents and settings."""

Numbers = NDArray[np.int64]
Hosts = Sequence[int | str] | None
"""The place of each agent, by name or number."""


@dataclass(frozen=True)
class Line:
    """A kind of line.

    Attributes:
        bandwidth: Such as ``10 Gb/s``; no limit by default.
        latency: One way, such as ``50 us``; none by default.
    """

    bandwidth: str = "inf"
    latency: str = "0 s"

    def read(self, setting: str) -> tuple[float, int]:
        """Return bandwidth and latency.

        Args:
            setting: Name of the setting, for messages.

        Returns:
            Bytes per second, and nanoseconds.

        Raises:
            ValueError: If one of them is no such quantity.
        """
        try:
            return rate(self.bandwidth), nanoseconds(self.latency)
        except ValueError as error:
            raise ValueError(f"{setting}: {error}") from None


@dataclass(frozen=True)
class Access:
    """The agents' own connections to the network, which all their messages pass.

    Attributes:
        up: Bandwidth at which an agent sends, such as ``1 Gb/s``; no limit by default.
        down: Bandwidth at which it receives.
        sharing: ``serial``: one message after the other; ``fair``: all at once.
        duplex: ``full``: sends while it receives; ``half``: does not.
    """

    up: str = "inf"
    down: str = "inf"
    sharing: Literal["serial", "fair"] = "serial"
    duplex: Literal["full", "half"] = "full"

    def ports(self) -> Ports:
        """Return them as ports, in bytes per second."""
        return Ports(rate(self.up), rate(self.down), self.sharing, self.duplex)


def pairs_of(graph: nx.Graph, complete: bool) -> tuple[Numbers, Numbers]:
    """Return who needs a link to whom: both directions of undirected edges, or all pairs.

    Args:
        graph: Graph of the agents.
        complete: Whether all pairs get a link.

    Returns:
        Senders [E] and receivers [E], positions in the graph's node order, sorted by receiver, then sender.
    """
    agents = len(graph)
    if complete:
        require_room(agents * (agents - 1), "the network")
        receivers, senders = np.divmod(np.arange(agents * agents), max(agents, 1))
    else:
        senders, receivers = edge_ends(graph)
    between = senders != receivers
    receivers, senders = np.divmod(np.unique(receivers[between] * agents + senders[between]), max(agents, 1))
    return senders, receivers


def places_of(graph: nx.Graph, names: Sequence[str], hosts: Hosts, network: str) -> Numbers:
    """Return the place in the network of each agent.

    Agents sit where ``hosts`` says; else in the places that have their names; else in the order of places.

    Args:
        graph: Graph of the agents.
        names: Names of the places.
        hosts: The name or number of each agent's place [K].
        network: Name of the network, for messages.

    Returns:
        Numbers of the places [K].

    Raises:
        ValueError: If there are more places than agents or too few, an agent has none, or two have the same.
    """
    number = {name: place for place, name in enumerate(names)}
    if hosts is None:
        labels = [str(agent) for agent in graph]
        if set(labels) <= set(number):
            hosts = labels
        elif len(labels) == len(names):
            return np.arange(len(names))
        else:
            raise ValueError(
                f"{network}: the network has {len(names)} places and the graph {len(labels)} agents; give as many "
                "agents, or a list `hosts` with the place of each"
            )
    if len(hosts) != len(graph):
        raise ValueError(f"{network}: hosts has {len(hosts)} places, but there are {len(graph)} agents")
    found = [_place(host, number, network) for host in hosts]
    again, times = Counter(found).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{network}: two agents sit at {names[again]}, but each needs a place of its own")
    return np.array(found, dtype=np.int64)


def _place(host: int | str, number: dict[str, int], network: str) -> int:
    if isinstance(host, str) and host in number:
        return number[host]
    if isinstance(host, int) and 0 <= host < len(number):
        return host
    few = [*number][:5]
    more = f", … ({len(number)} in all)" if len(number) > len(few) else ""
    raise ValueError(f"{network}: there is no place {host!r}; allowed are {', '.join(few)}{more}, or their numbers")


def agent_names(graph: nx.Graph) -> tuple[str, ...]:
    """Return the agents' labels.

    Args:
        graph: Graph of the agents.

    Returns:
        Their labels as text [K].
    """
    return tuple(str(agent) for agent in graph)
