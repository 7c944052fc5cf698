"""What a sum over all agents takes on a network."""

import numpy as np

from basinet.topologies.networks import Network

__all__ = ["ring_time"]


def ring_time(network: Network, size: int) -> int:
    """Compute what a ring all-reduce takes, in which each agent sends to the next by its number, and the last to 0.

    In K − 1 rounds the agents add up parts of 1 / K of the bytes, and in as many they pass on the sums; a round ends
    when its last message has arrived.

    Args:
        network: The network.
        size: Bytes that each agent contributes.

    Returns:
        Nanoseconds.

    Raises:
        ValueError: The network lacks a link of the ring.
    """
    agents = np.arange(network.agents)
    if len(agents) < 2:
        return 0
    try:
        links = network.links_between(agents, np.roll(agents, -1))
    except ValueError as error:
        raise ValueError(
            f"{error}, which a sum over all agents passes in a ring; a network of all pairs (complete: true) has one"
        ) from None
    delays = network.delays(links, -(-size // len(agents)))
    return int(2 * (len(agents) - 1) * (delays.latency + delays.transfer).max())
