r"""Networks read from the graph of an underlay, such as the backbone of an internet provider: GML and GraphML."""

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from basinet.topologies.graphs.graph_files import graphml
from basinet.topologies.networks.assembling import NETWORKS, Access, Hosts
from basinet.topologies.networks.distances import Propagation, great_circle, latency_of, overhead_of
from basinet.topologies.networks.fabric import Contention, Fabric
from basinet.topologies.networks.network import Network
from basinet.topologies.networks.network_files.network_source import Source
from basinet.topologies.networks.units import Quantity, nanoseconds, rate, share

__all__ = ["underlay"]


@NETWORKS.register()
def underlay(
    graph: nx.Graph,
    *,
    path: str | Path,
    bandwidth: Quantity | None = None,
    propagation: Propagation = "fibre",
    contention: Contention = "fair",
    hosts: Hosts = None,
    access: Access = None,
    complete: bool = False,
) -> Network:
    r"""A network read from a graph in GML or GraphML, over which messages take the routes of least latency.

    Latency is an edge's ``latency`` with a unit, or follows from its ``distance`` in km, or from the ``Latitude`` and
    ``Longitude`` of its ends. Bandwidth is its ``bandwidth`` with a unit, or its ``capacity`` in bit/s; ``loss`` is a
    share.
    An undirected edge stands for both directions, each with the whole bandwidth.

    Args:
        graph: Graph of the agents.
        path: The file, ending in .gml or .graphml, perhaps compressed (.gz, .bz2).
        bandwidth: Bandwidth of edges for which the file gives none, such as ``1 Gb/s``, or ``inf``.
        propagation: Latency of a distance, ``fibre``: 2/3 of the speed of light; ``internet``: 0.0085 ms/km, and 4 ms
            on each path.
        contention: How messages share lines: ``fair``, ``queue`` (store and forward), ``hops`` (capacity / hops) or
            ``none``.
        hosts: The node of each agent, by name or number; by default those of the agents' names, or in the file's order.
        access: The nodes' own connections; no limit by default.
        complete: Whether all pairs get a link, or only the graph's edges.

    Returns:
        The network.

    Raises:
        ValueError: If the file is no such graph, or an edge lacks what is needed.
    """
    found = _read(path)
    labels = list(found)
    number = {label: place for place, label in enumerate(labels)}
    ends, values = [], []
    for u, v, data in found.edges(data=True):
        if u != v:
            what = f"underlay: the edge of {u} and {v} in {str(path)!r}"
            read = _latency(data, found.nodes[u], found.nodes[v], propagation, what), _speed(data, bandwidth, what)
            for pair in [(u, v)] if found.is_directed() else [(u, v), (v, u)]:
                ends.append((number[pair[0]], number[pair[1]]))
                values.append((*read, _quantity(share, data.get("loss", 0), f"{what}: loss")))
    latency, capacity, loss = zip(*values, strict=True) if values else ((), (), ())
    pairs = np.array(ends, dtype=np.int64).reshape(-1, 2)
    fabric = Fabric(
        names=tuple(map(str, labels)),
        nodes=len(labels),
        senders=pairs[:, 0],
        receivers=pairs[:, 1],
        latency=np.array(latency, dtype=np.int64),
        capacity=np.array(capacity, dtype=np.float64),
        loss=np.array(loss) if any(loss) else None,
        overhead=overhead_of(propagation),
    )
    return fabric.network(graph, what="underlay", contention=contention, hosts=hosts, access=access, complete=complete)


def _read(path: str | Path) -> nx.Graph:
    name = str(path).removesuffix(".gz").removesuffix(".bz2")
    if name.endswith(".graphml"):
        return graphml(None, path=path)
    if not name.endswith(".gml"):
        raise ValueError(f"underlay: path is {str(path)!r}, but must end in .gml or .graphml")
    text = Source("underlay", path).text()
    try:
        return nx.parse_gml(text, label="label" if "label" in text else "id")
    except (nx.NetworkXError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"underlay: {str(path)!r} is not a GML file ({reason})") from error


def _quantity(read: Any, given: Any, what: str) -> Any:
    try:
        return read(given)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _latency(data: dict[str, Any], u: dict[str, Any], v: dict[str, Any], propagation: Propagation, what: str) -> int:
    if "latency" in data:
        return int(_quantity(nanoseconds, data["latency"], f"{what}: latency"))
    kilometres = data.get("distance")
    if kilometres is None and all(isinstance(n.get(c), int | float) for n in (u, v) for c in ("Latitude", "Longitude")):
        kilometres = float(great_circle(u["Latitude"], u["Longitude"], v["Latitude"], v["Longitude"]))
    if not (isinstance(kilometres, int | float) and 0 <= kilometres < 1e6):
        raise ValueError(f"{what} needs a latency with a unit, a distance in km, or ends with Latitude and Longitude")
    return int(latency_of(kilometres, propagation))


def _speed(data: dict[str, Any], bandwidth: Quantity | None, what: str) -> float:
    given = data.get("bandwidth", bandwidth)
    if "bandwidth" not in data and "capacity" in data:
        if not (isinstance(data["capacity"], int | float) and data["capacity"] > 0):
            raise ValueError(f"{what}: capacity is {data['capacity']!r}, but must be a positive number of bit/s")
        return float(data["capacity"] / 8)
    if given is None:
        raise ValueError(f"{what} has no bandwidth; give one for such edges, as bandwidth: 1 Gb/s")
    return float(_quantity(rate, given, f"{what}: bandwidth"))
