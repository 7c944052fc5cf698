"""What the builders of networks share: their registry, the pairs of agents that need links, and who sits where."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from basinet.topologies.mixing_matrix import edge_ends
from basinet.topologies.networks.network import Network, Ports
from basinet.topologies.networks.units import Quantity, nanoseconds, rate
from basinet.topologies.registry import Registry
from basinet.topologies.requirements import require_room

__all__ = [
    "NETWORKS",
    "Access",
    "Hosts",
    "agent_names",
    "line_of",
    "pairs_of",
    "places_of",
    "ports_of",
    "require_places",
]

NETWORKS: Registry[Network] = Registry("NETWORKS")
"""The networks that an experiment can name: functions from the graph of the agents and settings."""

Numbers = NDArray[np.int64]
Access = Mapping[str, Quantity] | None
"""What the agents' own connections are; None for connections without limit."""
Hosts = Sequence[int | str] | None
"""The place of each agent, by name or number; None for the default."""

_MOST_PLACES = 1_000_000


def line_of(given: Mapping[str, Quantity], setting: str) -> tuple[float, int]:
    """Read what a kind of line is: its ``bandwidth``, without limit by default, and its one-way ``latency``, or none.

    Args:
        given: Such as ``{"bandwidth": "10 Gb/s", "latency": "50 us"}``.
        setting: Name of the setting, for messages.

    Returns:
        Bytes per second, and nanoseconds.

    Raises:
        ValueError: If there are other keys, or one of them is no such quantity.

    Example:
        >>> line_of({"bandwidth": "1 GB/s", "latency": "50 us"}, "inside")
        (1000000000.0, 50000)
    """
    _only(given, ("bandwidth", "latency"), setting)
    try:
        return rate(given.get("bandwidth", "inf")), nanoseconds(given.get("latency", "0 s"))
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from None


def ports_of(given: Mapping[str, Quantity] | None, network: str) -> Ports:
    """Read what the agents' own connections to the network are: ``up`` and ``down``, ``sharing`` and ``duplex``.

    Args:
        given: Such as ``{"up": "1 Gb/s", "down": "1 Gb/s", "sharing": "fair"}``. There is no limit by default; ports
            are ``serial`` (one message after the other) or ``fair`` (all at once), their duplex ``full`` or ``half``.
        network: Name of the network, for messages.

    Returns:
        The ports.

    Raises:
        ValueError: If there are other keys, or one of them is wrong.
    """
    given = given or {}
    setting = f"{network}: access"
    _only(given, ("up", "down", "sharing", "duplex"), setting)
    modes: dict[str, Any] = {name: given[name] for name in ("sharing", "duplex") if name in given}
    try:
        return Ports(rate(given.get("up", "inf")), rate(given.get("down", "inf")), **modes)
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from None


def _only(given: Mapping[str, Quantity], allowed: Sequence[str], setting: str) -> None:
    if other := next((key for key in given if key not in allowed), None):
        raise ValueError(f"{setting}: there is no key {other!r}; allowed are {', '.join(allowed)}")


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


def require_places(number: int, network: str) -> None:
    """Raise if a network would have no place, or too many.

    Args:
        number: Number of places, switches included.
        network: Name of the network, for messages.

    Raises:
        ValueError: If there are none, or too many.
    """
    if not 1 <= number <= _MOST_PLACES:
        raise ValueError(f"{network}: there would be {number:,} places, but allowed are 1 to {_MOST_PLACES:,}")


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
