"""Store and forward: messages that wait for each other, first come, first served, before each line of their routes."""

import heapq

import numpy as np
from numpy.typing import NDArray

from basinet.topologies.networks.routes import Routes

__all__ = ["store_and_forward"]


def store_and_forward(routes: Routes, size: int) -> NDArray[np.int64]:
    """Send one message along each route, all at time zero, and return when each has arrived.

    A line carries one message at a time, and the next node has a message once all of it has arrived. Messages that
    reach a line at the same time pass it in the order of their numbers.

    Args:
        routes: The routes of n messages.
        size: Bytes of each message.

    Returns:
        Arrival times [n], nanoseconds.

    Example:
        >>> same_line = Routes.of_layers([np.array([0, 0])], latency=[500], capacity=[1e9])
        >>> store_and_forward(same_line, 1000)
        array([1500, 2500])
    """
    busy = routes.transfers(size).tolist()
    latency, lines, ends = routes.latency.tolist(), routes.lines.tolist(), routes.starts[1:].tolist()
    free = [0] * len(busy)
    arrived = np.zeros(len(ends), dtype=np.int64)
    waiting = [(0, message, place) for message, place in enumerate(routes.starts[:-1].tolist())]
    while waiting:
        now, message, place = heapq.heappop(waiting)
        if place == ends[message]:
            arrived[message] = now
            continue
        line = lines[place]
        free[line] = max(now, free[line]) + busy[line]
        heapq.heappush(waiting, (free[line] + latency[line], message, place + 1))
    return arrived
