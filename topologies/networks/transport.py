"""What TCP makes of a link: its window, headers and slow start."""

from dataclasses import replace
from typing import Literal

import numpy as np

from basinet.topologies.networks.network import Network

__all__ = ["over_tcp"]

_WINDOW = 4_194_304
"""Bytes that may be on the way unacknowledged."""


def over_tcp(network: Network, model: Literal["cm02", "lv08"] = "lv08") -> Network:
    """Return the network as TCP connections see it.

    The window W limits the rate on a long link, ``min(B, W / (2 latency))``. By LV08, fitted to packet-level
    simulations, latency counts 13.01 times (slow start), and 0.97 of the bandwidth, less 5 % for acknowledgements,
    carries data.

    Args:
        network: The network.
        model: ``cm02``, the window alone, or ``lv08``.

    Returns:
        The network with other latency and bandwidth.

    Raises:
        ValueError: If the model is another one.

    Example:
        >>> import networkx as nx
        >>> from basinet.topologies.networks.direct_links import uniform_links
        >>> slow = over_tcp(uniform_links(nx.path_graph(2), bandwidth="1 Mb/s", latency="10 ms"))
        >>> sum(slow.delays(np.array([0]), 100_000))
        array([996079381])

    References:
        P. Velho, A. Legrand: Accuracy study and improvement of network simulation in the SimGrid framework, SIMUTools
        2009, doi:10.4108/ICST.SIMUTOOLS2009.5592.
    """
    if model not in ("cm02", "lv08"):
        raise ValueError(f"the model of TCP is {model!r}, but allowed are cm02 and lv08")
    window = np.full(network.latency.shape, np.inf)
    np.divide(_WINDOW * 1e9, 2 * network.latency, out=window, where=network.latency > 0)
    bandwidth = np.minimum(network.bandwidth, window)
    if model == "cm02":
        return replace(network, bandwidth=bandwidth)
    latency = np.rint(13.01 * network.latency).astype(np.int64)
    return replace(network, latency=latency, bandwidth=0.97 * bandwidth / 1.05)
