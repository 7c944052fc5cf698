"""Sums over all agents on a described network: who sends how much to whom, round after round.

A round begins when the messages of the one before have all arrived, and its messages share ports and lines. On links
that are all alike, times are those of `basinet.topologies.networks.collectives`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from basinet.topologies.networks.network import MissingLink, Network
from basinet.topologies.registry import Registry

__all__ = [
    "COLLECTIVES",
    "Round",
    "best",
    "duration",
    "halving_doubling",
    "hierarchical",
    "recursive_doubling",
    "ring",
    "server",
    "tree",
]

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Round:
    """Messages of one size that are sent at once.

    Attributes:
        senders: Who sends [n].
        receivers: To whom [n].
        size: Bytes of each message.
        times: How often in a row.
        gathered: Whether, in a first round, each message leaves when its sender is ready, instead of when all are.
    """

    senders: Numbers
    receivers: Numbers
    size: int
    times: int = 1
    gathered: bool = False


COLLECTIVES: Registry[Sequence[Round]] = Registry("COLLECTIVES")
"""Algorithms for a sum over all agents: functions of a network and the bytes of a vector."""

COLLECTIVES.fill("basinet.topologies.timing")


def duration(network: Network, rounds: Sequence[Round]) -> int:
    """Return how long rounds take.

    Args:
        network: The network.
        rounds: The rounds.

    Returns:
        Nanoseconds.

    Raises:
        ValueError: The network lacks a link.

    Example:
        >>> import networkx as nx
        >>> from basinet.topologies.networks import uniform_links
        >>> network = uniform_links(nx.cycle_graph(8), latency="5 us", bandwidth="10 GB/s")
        >>> duration(network, ring(network, 10**8))
        17570000
    """
    return sum(part.times * _longest(network, part) for part in rounds if part.senders.size)


def _longest(network: Network, part: Round) -> int:
    try:
        links = network.links_between(part.senders, part.receivers)
    except MissingLink as error:
        raise MissingLink(f"{error}, over which the sum over all agents passes") from None
    delays = network.delays(links, part.size)
    return int((delays.latency + delays.transfer).max())


@COLLECTIVES.register()
def ring(network: Network, size: int) -> list[Round]:
    """Each agent sends to the next by its number, and the last to the first, a K-th of the vector at a time.

    In K − 1 rounds parts are added up, and in as many they are passed on: 2 (K − 1) (α + M / (K B)).

    Args:
        network: The network.
        size: Bytes of a vector.

    Returns:
        The rounds.

    References:
        Patarasuk, Yuan: Bandwidth optimal all-reduce algorithms for clusters of workstations, Journal of Parallel and
        Distributed Computing 69, 2009, doi:10.1016/j.jpdc.2008.09.002
    """
    return _rings(np.arange(network.agents)[None], size, 2)


def _rings(members: Numbers, size: int, passes: int) -> list[Round]:
    """Go around rings at once, each a row of agents, `passes` times."""
    length = members.shape[1]
    if length < 2:
        return []
    followers = np.roll(members, -1, axis=1)
    return [Round(members.ravel(), followers.ravel(), _part(size, length), passes * (length - 1))]


@COLLECTIVES.register()
def tree(network: Network, size: int) -> list[Round]:
    """Vectors are added up along a binomial tree to the first agent, and the sum goes back: 2 ⌈log₂ K⌉ (α + M / B).

    Args:
        network: The network.
        size: Bytes of a vector.

    Returns:
        The rounds.
    """
    agents = np.arange(network.agents)
    distances = [2**level for level in range((len(agents) - 1).bit_length())]
    ups = [Round(senders := agents[agents % (2 * d) == d], senders - d, size) for d in distances]
    return ups + [Round(up.receivers, up.senders, size) for up in reversed(ups)]


@COLLECTIVES.register()
def recursive_doubling(network: Network, size: int) -> list[Round]:
    """Pairs at distances 1, 2, 4, … exchange what they have added up: log₂ K (α + M / B).

    Agents beyond a power of two first hand their vectors to others, and get the sum from them.

    Args:
        network: The network.
        size: Bytes of a vector.

    Returns:
        The rounds.
    """
    distances, before, after = _pairs(network.agents, size)
    return [*before, *(Round(*_partners(distances, d), size) for d in distances), *after]


@COLLECTIVES.register()
def halving_doubling(network: Network, size: int) -> list[Round]:
    """Rabenseifner's: pairs at distances 1, 2, 4, … add up halves, quarters, …, and go the same way back.

    2 log₂ K α + 2 (K − 1) / K M / B; agents beyond a power of two first hand their vectors to others, and get the sum
    from them.

    Args:
        network: The network.
        size: Bytes of a vector.

    Returns:
        The rounds.

    References:
        Rabenseifner: Optimization of collective reduction operations, ICCS 2004, doi:10.1007/978-3-540-24685-5_1
    """
    distances, before, after = _pairs(network.agents, size)
    rounds = [Round(*_partners(distances, d), _part(size, 2 * d)) for d in distances]
    return [*before, *rounds, *reversed(rounds), *after]


def _pairs(agents: int, size: int) -> tuple[list[int], list[Round], list[Round]]:
    """Return the distances of pairs, and the rounds in and out of the agents beyond a power of two."""
    doublings = agents.bit_length() - 1
    more = np.arange(2**doublings, agents)
    less = more - 2**doublings
    return [2**level for level in range(doublings)], [Round(more, less, size)], [Round(less, more, size)]


def _partners(distances: Sequence[int], distance: int) -> tuple[Numbers, Numbers]:
    agents = np.arange(2 ** len(distances))
    return agents, agents ^ distance


@COLLECTIVES.register()
def hierarchical(network: Network, size: int) -> list[Round]:
    """Parts are added up on a ring in each machine, then across machines, on a ring for each part, then handed round.

    2 (g − 1) (α₁ + M / (g B₁)) + 2 (m − 1) (α₂ + M / (g m B₂)) for m machines with g agents each.

    Args:
        network: The network, which says which machine each agent is on.
        size: Bytes of a vector.

    Returns:
        The rounds.

    Raises:
        ValueError: Machines are not known, or have different numbers of agents.
    """
    if network.hosts is None:
        raise ValueError("hierarchical needs a network of machines, such as hierarchy or rails")
    _, counts = np.unique(network.hosts, return_counts=True)
    if counts.min() != counts.max():
        raise ValueError(
            f"hierarchical needs machines with equally many agents, but these have {counts.min()} to {counts.max()}"
        )
    members = np.argsort(network.hosts, kind="stable").reshape(len(counts), counts[0])
    inside = _rings(members, size, 1)
    return [*inside, *_rings(members.T, _part(size, int(counts[0])), 2), *inside]


@COLLECTIVES.register()
def server(network: Network, size: int, agent: Annotated[int, Field(ge=0)] = 0) -> list[Round]:
    """All send to one agent, the parameter server, when they are ready; it sends the sum back to all.

    Args:
        network: The network.
        size: Bytes of a vector.
        agent: Number of the agent.

    Returns:
        The rounds.

    Raises:
        ValueError: There is no such agent.
    """
    if agent >= network.agents:
        raise ValueError(f"server: there is no agent {agent}, but agents 0 to {network.agents - 1}")
    others = np.delete(np.arange(network.agents), agent)
    middle = np.full_like(others, agent)
    return [Round(others, middle, size, gathered=True), Round(middle, others, size)]


@COLLECTIVES.register()
def best(network: Network, size: int) -> list[Round]:
    """The one that takes least for this network and size, of those without a server that the network has the links for.

    Args:
        network: The network.
        size: Bytes of a vector.

    Returns:
        The rounds; those of `ring` if it has the links for none.
    """
    found: list[tuple[int, list[Round]]] = []
    for algorithm in (ring, halving_doubling, recursive_doubling, hierarchical, tree):
        try:
            rounds = algorithm(network, size)
            found.append((duration(network, rounds), rounds))
        except ValueError:  # a link is missing, or the machines are not known
            continue
    return min(found, key=lambda pair: pair[0])[1] if found else ring(network, size)


def _part(size: int, parts: int) -> int:
    """Return the bytes of the largest of so many parts."""
    return -(-size // parts)
