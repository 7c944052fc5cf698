"""Cycle times of published networks, beside those that were published."""

from collections.abc import Callable
from typing import NamedTuple

import networkx as nx
import numpy as np

from basinet.analysis.studies.study import Check
from basinet.topologies.designs import fastest_ring, fastest_tree
from basinet.topologies.mixing_matrix import neighborhoods
from basinet.topologies.networks import Network, published
from basinet.topologies.networks.published_networks import Published, underlay_of
from basinet.topologies.timing.all_reduces import duration, server
from basinet.topologies.timing.cycle_mean import critical_cycle
from basinet.topologies.timing.growth import sending_after
from basinet.topologies.timing.max_plus import Arcs

__all__ = ["DESIGNS", "CycleTimes", "cycle_times", "ranked"]

DESIGNS = ("star", "spanning tree", "ring")
_PUBLISHED: dict[Published, tuple[int, int, int]] = {
    "gaia": (391, 138, 118),
    "aws_north_america": (288, 90, 81),
    "geant": (634, 101, 109),
    "exodus": (912, 145, 103),
    "ebone": (902, 122, 95),
}
"""Milliseconds, in the columns star, MST and ring of the table."""

_SIZE = round(44_961_717 / 8)
_COMPUTE = 25_400_000
_WITHIN = 0.03


class CycleTimes(NamedTuple):
    """Milliseconds per step of `DESIGNS` on a network.

    Attributes:
        network: Its name.
        published: Those of the table.
        found: Those found here.
    """

    network: str
    published: tuple[float, ...]
    found: tuple[float, ...]


def cycle_times() -> list[CycleTimes]:
    """Compute the cycle times of a server, of the minimum spanning tree and of the ring designed for each network.

    Returns:
        They, in the order of the table.
    """
    return [CycleTimes(table, ms, _found(table)) for table, ms in _PUBLISHED.items()]


def _found(table: Published) -> tuple[float, ...]:
    agents = len(underlay_of(table).names)
    network = published(nx.empty_graph(agents), table=table, complete=True)
    compute = np.full(agents, _COMPUTE)

    def cycle(design: Callable[[Network, int, np.ndarray], nx.Graph]) -> float:
        links = network.links_of(neighborhoods(design(network, _SIZE, compute)))
        delays = np.add(*network.delays(links, _SIZE))
        arcs = Arcs.of(agents, network.receivers[links], network.senders[links], delays)
        return float(critical_cycle(sending_after(compute, arcs)).mean) / 1e6

    star = (_COMPUTE + duration(network, server(network, _SIZE))) / 1e6
    return star, cycle(fastest_tree), cycle(fastest_ring)


def ranked(times: CycleTimes) -> Check:
    """Check that the designs take as long as published.

    Args:
        times: Those of a network.

    Returns:
        The check; a ring may be shorter than the published one, which is not the shortest.
    """
    predicted, measured = [
        ", ".join(f"{name} {ms:.0f}" for name, ms in zip(DESIGNS, some, strict=True))
        for some in (times.published, times.found)
    ]
    *ratios, ring = np.divide(times.found, times.published)
    agrees = all(abs(ratio - 1) <= _WITHIN for ratio in ratios) and 0.9 <= ring <= 1 + _WITHIN
    rule = "within 3 %; the ring may be up to 10 % shorter"
    return Check(f"cycle times in ms ({times.network.replace('_', ' ')})", predicted, measured, rule, bool(agrees))
