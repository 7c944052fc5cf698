r"""Networks read from the topology files of SimAI and of ns-3 for HPCC."""

from pathlib import Path

import networkx as nx
import numpy as np

from basinet.topologies.networks.assembling import NETWORKS, Hosts, require_places
from basinet.topologies.networks.fabric import Contention, Fabric
from basinet.topologies.networks.network import Network
from basinet.topologies.networks.network_files.network_source import Source
from basinet.topologies.networks.units import nanoseconds, rate, share

__all__ = ["simai_topology"]

_LINES = {6: 4, 3: 2, 7: 2}
"""Where the number of lines stands on a first line of so many words: SimAI's, HPCC's and its variant's."""


@NETWORKS.register("simai")
def simai_topology(
    graph: nx.Graph,
    *,
    path: str | Path,
    contention: Contention = "fair",
    hosts: Hosts = None,
    complete: bool = False,
) -> Network:
    r"""A network read from a topology file of SimAI, or of ns-3 for HPCC: hosts, switches, and the lines between them.

    The first line holds ``nodes gpus_per_server nv_switches switches lines gpu_type`` (SimAI) or ``nodes switches
    lines`` (HPCC), the second the numbers of all switches, and each other line is ``node node bandwidth latency loss``
    for one line of both directions, such as ``0 3 400Gbps 0.0005ms 0``. Messages take routes of least latency.

    Args:
        graph: Graph of the agents.
        path: The file.
        contention: How messages share lines: ``fair``, ``queue`` (store and forward), ``hops`` (capacity / hops) or
            ``none``.
        hosts: The node of each agent; by default the node of its number, or in order.
        complete: Whether all pairs get a link, or only the graph's edges.

    Returns:
        The network.

    Raises:
        ValueError: If the file is no such topology.

    References:
        X. Wang et al.: SimAI, NSDI 2025. Y. Li et al.: HPCC, SIGCOMM 2019, doi:10.1145/3341302.3342085.
    """
    fabric = _read(path)
    return fabric.network(graph, what="simai", contention=contention, hosts=hosts, complete=complete)


def _read(path: str | Path) -> Fabric:
    source = Source("simai", path)
    rows = [(line, text.split()) for line, text in source.lines()]
    form = "must hold `nodes gpus_per_server nv_switches switches lines gpu_type`, or `nodes switches lines`"
    if not rows or len(rows[0][1]) not in _LINES:
        raise source.mistake(1, f"it {form}")
    (first, head), rest = rows[0], rows[1:]
    place = _LINES[len(head)]
    try:
        numbers = [int(word) for word in head[: place + 1]]
        nodes, lines = numbers[0], numbers[place]
        wanted = numbers[1] if place == 2 else numbers[2] + numbers[3]
    except ValueError:
        raise source.mistake(first, f"it {form}") from None
    require_places(nodes, f"simai: {str(path)!r}")
    switches: list[int] = []
    if wanted and rest:
        (second, words), rest = rest[0], rest[1:]
        if len(words) != wanted or not all(word.isdecimal() and int(word) < nodes for word in words):
            raise source.mistake(second, f"there must be the numbers of {wanted} switches, below {nodes}")
        switches = [int(word) for word in words]
    if len(rest) != lines:
        raise ValueError(f"simai: {str(path)!r} says that there are {lines} lines, but holds {len(rest)}")
    hosts = [node for node in range(nodes) if node not in set(switches)]
    renumbered = {node: number for number, node in enumerate([*hosts, *switches])}
    ends, latency, capacity, loss = [], [], [], []
    for line, words in rest:
        try:
            one, other, bandwidth, delay, lost = words
            ends.append((renumbered[int(one)], renumbered[int(other)]))
            capacity.append(rate(bandwidth))
            latency.append(nanoseconds(delay))
            loss.append(share(lost))
        except KeyError as error:
            raise source.mistake(line, f"there is no node {error}, but nodes from 0 to {nodes - 1}") from None
        except ValueError as error:
            what = error if len(words) == 5 else "it must hold `node node bandwidth latency loss`"
            raise source.mistake(line, what) from None
    pairs = np.array(ends, dtype=np.int64).reshape(-1, 2)
    return Fabric(
        names=tuple(map(str, hosts)),
        nodes=nodes,
        senders=np.concatenate([pairs[:, 0], pairs[:, 1]]),
        receivers=np.concatenate([pairs[:, 1], pairs[:, 0]]),
        latency=np.tile(np.array(latency, dtype=np.int64), 2),
        capacity=np.tile(np.array(capacity, dtype=np.float64), 2),
        loss=np.tile(loss, 2) if any(loss) else None,
    )
