"""Exchanges over lines that carry one message after the other."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from basinet.topologies.compiling import kept

__all__ = ["Exchange", "exchange"]


class Exchange(NamedTuple):
    """An exchange.

    Attributes:
        end: When each agent has all that it hears, int64 [K, R] nanoseconds.
        network: How much of its waiting is due to the network: not to the sender of the last message, which was later
            than the agent itself, int64 [K, R].
    """

    end: NDArray[np.int64]
    network: NDArray[np.int64]


def exchange(
    ready: NDArray[np.int64],
    busy: NDArray[np.int64],
    starts: NDArray[np.int64],
    senders: NDArray[np.int64],
    lines: NDArray[np.int64],
    latency: NDArray[np.int64],
    transfer: NDArray[np.int64],
    absent: NDArray[np.bool_] | None = None,
) -> Exchange:
    """Compute when everything has arrived: a message leaves when it is ready and its line has carried those before.

    Args:
        ready: When each agent sends, and goes on if it hears nothing, int64 [K, R] nanoseconds.
        busy: Until when each line is busy, int64 [L, R], updated in place.
        starts: The first message to each agent, then the number of messages, int64 [K + 1].
        senders: Sender of each message, int64 [E].
        lines: Its line, int64 [E].
        latency: How long it is on its way after it left, int64 [E] nanoseconds.
        transfer: For how long it keeps the line busy, int64 [E] nanoseconds.
        absent: Agents that neither send nor hear anything, bool [K, R], and are then as late as their neighbours; None
            for none.

    Returns:
        The exchange.

    Example:
        >>> one = np.array([0]), np.array([5]), np.array([10])  # line 0, 5 ns of latency, 10 ns of transfer
        >>> busy = np.zeros((1, 1), dtype=np.int64)
        >>> [exchange(np.array([[3], [1]]), busy, np.array([0, 0, 1]), np.array([0]), *one).end[1, 0] for _ in range(2)]
        [np.int64(18), np.int64(28)]
    """
    ready = np.ascontiguousarray(ready)
    found = Exchange(np.empty_like(ready), np.empty_like(ready))
    away = np.zeros_like(ready, dtype=bool) if absent is None else np.ascontiguousarray(absent)
    _loop()(ready, busy, starts, senders, lines, latency, transfer, away, *found)
    return found


@cache
def _loop() -> Any:
    from numba import njit  # slow to import

    return kept(lambda **more: njit(nogil=True, **more)(_exchange))


def _exchange(ready, busy, starts, senders, lines, latency, transfer, away, end, network):  # type: ignore[no-untyped-def]
    replicas = ready.shape[1]
    for k in range(len(starts) - 1):
        for r in range(replicas):
            end[k, r] = network[k, r] = ready[k, r]  # network: when the sender of the last message was ready
        for message in range(starts[k], starts[k + 1]):
            line, sender = lines[message], senders[message]
            later, takes = latency[message], transfer[message]
            for r in range(replicas):
                if away[sender, r]:
                    continue
                sent = ready[sender, r]
                if away[k, r]:
                    end[k, r] = network[k, r] = max(end[k, r], sent)
                    continue
                left = max(sent, busy[line, r]) + takes
                busy[line, r] = left
                arrived = left + later
                if arrived > end[k, r]:
                    end[k, r], network[k, r] = arrived, sent
                elif arrived == end[k, r]:
                    network[k, r] = max(sent, network[k, r])
        for r in range(replicas):
            network[k, r] = end[k, r] - max(ready[k, r], network[k, r])
