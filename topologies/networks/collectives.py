"""Collective operations: how long they take if all agents start at once, by algorithm.

A message of m bytes occupies its sender and its receiver for the latency α and m / B at the bandwidth B; an agent may
send and receive at once (Hockney's model). All agents are linked alike, and times are rounded to a nanosecond.

References:
    Thakur, Rabenseifner, Gropp: Optimization of collective communication operations in MPICH, International Journal of
    High Performance Computing Applications 19, 2005, doi:10.1177/1094342005051521
"""

from collections.abc import Callable, Mapping
from math import ceil, floor, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ALL_REDUCES",
    "AllReduce",
    "all_gather",
    "all_reduce",
    "broadcast",
    "double_tree",
    "halving_doubling",
    "hierarchical",
    "parameter_server",
    "recursive_doubling",
    "ring_all_reduce",
    "server_round",
    "tree_all_reduce",
]


class AllReduce(NamedTuple):
    """An algorithm and how long it takes.

    Attributes:
        algorithm: Its name.
        time: Nanoseconds.
    """

    algorithm: str
    time: int


def all_reduce(agents: int, size: int, latency: int, bandwidth: float, *, algorithm: str = "best") -> AllReduce:
    """Compute how long it takes until every agent has the sum of all agents' vectors.

    Args:
        agents: Number of agents K.
        size: Bytes of a vector, M.
        latency: α in nanoseconds.
        bandwidth: B in bytes per second.
        algorithm: A name in `ALL_REDUCES`, or "best" for the one that takes least without a server.

    Returns:
        The algorithm and its time.

    Raises:
        ValueError: There is no such algorithm.

    Example:
        >>> all_reduce(8, 10_000, 5_000, 1e10), all_reduce(8, 10**8, 5_000, 1e10)
        (AllReduce(algorithm='recursive_doubling', time=18000), AllReduce(algorithm='halving_doubling', time=17530000))
    """
    if algorithm != "best" and algorithm not in ALL_REDUCES:
        raise ValueError(f"there is no all-reduce {algorithm!r}; allowed are best, {', '.join(ALL_REDUCES)}")
    names = [name for name in ALL_REDUCES if name != "server"] if algorithm == "best" else [algorithm]
    times = {name: ALL_REDUCES[name](agents, size, latency, bandwidth) for name in names}
    least = min(times, key=times.__getitem__)
    return AllReduce(least, times[least])


def ring_all_reduce(agents: int, size: float, latency: int, bandwidth: float) -> int:
    """All-reduce on a ring, a K-th at a time: 2 (K − 1) (α + M / (K B)).

    Args:
        agents: Number of agents K.
        size: Bytes of a vector, M.
        latency: α in nanoseconds.
        bandwidth: B in bytes per second.

    Returns:
        Nanoseconds.

    References:
        Patarasuk, Yuan: Bandwidth optimal all-reduce algorithms for clusters of workstations, Journal of Parallel and
        Distributed Computing 69, 2009, doi:10.1016/j.jpdc.2008.09.002
    """
    return _time(2 * (agents - 1), 2 * (agents - 1) * size / agents, latency, bandwidth)


def recursive_doubling(agents: int, size: int, latency: int, bandwidth: float) -> int:
    """All-reduce in pairs at distances 1, 2, 4, …: log₂ K (α + M / B), and two more messages if K is no power of two.

    Args:
        agents: Number of agents K.
        size: Bytes of a vector, M.
        latency: α in nanoseconds.
        bandwidth: B in bytes per second.

    Returns:
        Nanoseconds.
    """
    doublings, more = _doublings(agents)
    return _time(doublings + more, (doublings + more) * size, latency, bandwidth)


def halving_doubling(agents: int, size: int, latency: int, bandwidth: float) -> int:
    """Rabenseifner's all-reduce: halves, quarters, … are summed up, then gathered.

    2 log₂ K α + 2 (K − 1) / K M / B; if K is no power of two, those above the next lower one first hand their vectors
    to others, and get the sum from them.

    Args:
        agents: Number of agents K.
        size: Bytes of a vector, M.
        latency: α in nanoseconds.
        bandwidth: B in bytes per second.

    Returns:
        Nanoseconds.

    References:
        Rabenseifner: Optimization of collective reduction operations, ICCS 2004, doi:10.1007/978-3-540-24685-5_1
    """
    doublings, more = _doublings(agents)
    volume = 2 * size * (1 - 1 / 2**doublings) + more * size
    return _time(2 * doublings + more, volume, latency, bandwidth)


def tree_all_reduce(agents: int, size: int, latency: int, bandwidth: float) -> int:
    """All-reduce up a binomial tree and down again: 2 ⌈log₂ K⌉ (α + M / B).

    Args:
        agents: Number of agents K.
        size: Bytes of a vector, M.
        latency: α in nanoseconds.
        bandwidth: B in bytes per second.

    Returns:
        Nanoseconds.
    """
    return _time(2 * _levels(agents), 2 * _levels(agents) * size, latency, bandwidth)


def double_tree(agents: int, size: int, latency: int, bandwidth: float) -> int:
    r"""All-reduce up and down two binary trees at once, in pieces: an agent inside one tree is a leaf of the other.

    :math:`2 (2 (h - 1) + m) (\alpha + M / (m B))` with :math:`h = \lceil \log_2 K \rceil` levels and the best number m
    of pieces: about :math:`2 (\sqrt{M / B} + \sqrt{2 (h - 1) \alpha})^2`.

    Args:
        agents: Number of agents K.
        size: Bytes of a vector, M.
        latency: α in nanoseconds.
        bandwidth: B in bytes per second.

    Returns:
        Nanoseconds.

    References:
        Sanders, Speck, Träff: Two-tree algorithms for full bandwidth broadcast, reduction and scan, Parallel Computing
        35, 2009, doi:10.1016/j.parco.2009.09.001
    """
    return 2 * _pipelined(2 * (_levels(agents) - 1), size, latency, bandwidth) if agents > 1 else 0


def parameter_server(agents: int, size: int, latency: int, bandwidth: float) -> int:
    """All-reduce through a server with one port, whose bandwidth is B: 2 (α + K M / B).

    Args:
        agents: Number of agents K.
        size: Bytes of a vector, M.
        latency: α in nanoseconds.
        bandwidth: B in bytes per second.

    Returns:
        Nanoseconds.
    """
    return int(server_round(np.zeros(agents, dtype=np.int64), size, latency, bandwidth).max())


def server_round(ready: NDArray[np.int64], size: int, latency: int, bandwidth: float) -> NDArray[np.int64]:
    """Compute when agents have the sum of all from a server whose port takes one message after the other.

    Args:
        ready: When each agent has its vector, int64 [K] nanoseconds; the server takes them in this order.
        size: Bytes of a vector.
        latency: α in nanoseconds, during which the port is free.
        bandwidth: B of the port in bytes per second.

    Returns:
        When each agent has the sum, int64 [K], in the order of their vectors.

    Example:
        >>> server_round(np.array([1, 2, 4]), 6, 1, 2e9)
        array([15, 18, 21])
    """
    order = np.argsort(ready, kind="stable")
    places = np.arange(1, len(ready) + 1)
    busy = np.rint(places * (size / bandwidth * 1e9)).astype(np.int64)
    # The last upload ends n messages after the n-th last has arrived, whichever n makes that latest.
    uploaded = (ready[order][::-1] + latency + busy).max()
    done = np.empty_like(ready)
    done[order] = uploaded + latency + busy
    return done


def hierarchical(
    servers: int, per_server: int, size: int, inside: tuple[int, float], between: tuple[int, float]
) -> int:
    """All-reduce of m servers with g agents: scattered inside, on g rings across, gathered inside.

    2 (g − 1) (α₁ + M / (g B₁)) + 2 (m − 1) (α₂ + M / (g m B₂)), each agent having its own line between servers.

    Args:
        servers: Number of servers m.
        per_server: Agents of a server, g.
        size: Bytes of a vector, M.
        inside: α₁ in nanoseconds and B₁ in bytes per second inside a server.
        between: α₂ and B₂ between servers.

    Returns:
        Nanoseconds.
    """
    return ring_all_reduce(per_server, size, *inside) + ring_all_reduce(servers, size / per_server, *between)


def all_gather(agents: int, size: int, latency: int, bandwidth: float) -> int:
    """All-gather on a ring, or the opposite, reduce-scatter: (K − 1) (α + M / (K B)).

    Args:
        agents: Number of agents K, of which each contributes (or keeps) a K-th.
        size: Bytes of all parts together, M.
        latency: α in nanoseconds.
        bandwidth: B in bytes per second.

    Returns:
        Nanoseconds; as long if each agent sends to each other directly, in turn.
    """
    return _time(agents - 1, (agents - 1) * size / agents, latency, bandwidth)


def broadcast(agents: int, size: int, latency: int, bandwidth: float) -> int:
    r"""Broadcast along a chain, in pieces: (K − 2 + m) (α + M / (m B)).

    The best number of pieces is about :math:`m = \sqrt{(K - 2) M / (\alpha B)}`.

    Args:
        agents: Number of agents K.
        size: Bytes, M.
        latency: α in nanoseconds.
        bandwidth: B in bytes per second.

    Returns:
        Nanoseconds.
    """
    return _pipelined(agents - 2, size, latency, bandwidth) if agents > 1 else 0


ALL_REDUCES: Mapping[str, Callable[[int, int, int, float], int]] = {
    "ring": ring_all_reduce,
    "recursive_doubling": recursive_doubling,
    "halving_doubling": halving_doubling,
    "tree": tree_all_reduce,
    "double_tree": double_tree,
    "server": parameter_server,
}
"""Algorithms by name: functions of K, M, α and B."""


def _time(messages: int, volume: float, latency: int, bandwidth: float) -> int:
    return messages * latency + round(volume / bandwidth * 1e9)


def _levels(agents: int) -> int:
    """Return ⌈log₂ K⌉."""
    return (agents - 1).bit_length()


def _doublings(agents: int) -> tuple[int, int]:
    """Return ⌊log₂ K⌋, and how many more messages the agents above this power of two need: into it, and out of it."""
    doublings = agents.bit_length() - 1
    return doublings, 2 * (agents > 2**doublings)


def _pipelined(hops: int, size: int, latency: int, bandwidth: float) -> int:
    """Return min_m (h + m) (α + M / (m B)) over the number m of pieces, at most one per byte."""
    whole = size / bandwidth * 1e9
    best = sqrt(hops * whole / latency) if latency else float(size if hops * whole else 1)
    counts = {min(max(1, count), max(1, size)) for count in (floor(best), ceil(best))}
    return min((hops + m) * latency + round((hops + m) * whole / m) for m in counts)
