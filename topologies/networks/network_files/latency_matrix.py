r"""Networks read from a matrix of latencies, as clouds publish them."""

from pathlib import Path
from typing import Literal

import networkx as nx
import numpy as np

from basinet.topologies.networks.assembling import NETWORKS, Access, Hosts
from basinet.topologies.networks.network import Network
from basinet.topologies.networks.network_files.network_source import Source
from basinet.topologies.networks.network_files.sites import network_of_sites
from basinet.topologies.networks.units import Quantity, nanoseconds, rate

__all__ = ["latency_matrix"]


@NETWORKS.register("latencies")
def latency_matrix(
    graph: nx.Graph,
    *,
    path: str | Path,
    kind: Literal["rtt", "one_way"],
    unit: Literal["ns", "us", "ms", "s"],
    bandwidth: Quantity = "inf",
    hosts: Hosts = None,
    access: Access = None,
    complete: bool = False,
) -> Network:
    r"""A network read from a matrix of latencies between sites.

    The first line holds an empty value and the names of the sites that receive; each other line, the name of the site
    that sends and its latencies. Values on the diagonal are ignored; where one is missing, there is no link.

    Args:
        graph: Graph of the agents.
        path: The file, with values separated by commas.
        kind: ``rtt``: times there and back, as ping prints them, which are halved; ``one_way``: times there.
        unit: Unit of the numbers.
        bandwidth: Bandwidth of a link, such as ``1 Gb/s``; no limit by default.
        hosts: The site of each agent, by name or number; by default those of the agents' names, or in the file's order.
        access: The sites' own connections; no limit by default.
        complete: Whether all pairs get a link, or only the graph's edges.

    Returns:
        The network.

    Raises:
        ValueError: If the file is no such matrix, or lacks a value that the graph needs.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "rtt.csv"
        ...     _ = file.write_text(",Tokyo,Osaka\nTokyo,0,9\nOsaka,8,0\n")
        ...     latency_matrix(nx.path_graph(2), path=file, kind="rtt", unit="ms").latency
        array([4000000, 4500000])
    """
    source = Source("latencies", path)
    rows = [(line, [value.strip() for value in text.split(",")]) for line, text in source.lines()]
    names = tuple(rows[0][1][1:]) if rows else ()
    if not names or len(set(names)) < len(names) or [row[0] for _, row in rows[1:]] != list(names):
        raise ValueError(
            f"latencies: {str(path)!r} must name the same sites, each once, in its first line and at the head of others"
        )
    latency = np.full((len(names), len(names)), -1, dtype=np.int64)
    for sender, (line, (_, *values)) in enumerate(rows[1:]):
        if len(values) != len(names):
            raise source.mistake(line, f"there are {len(values)} numbers, but {len(names)} sites")
        for receiver, value in enumerate(values):
            if value and receiver != sender:
                try:
                    whole = nanoseconds(f"{value} {unit}")
                except ValueError:
                    raise source.mistake(line, f"{value!r} is not a time in {unit}") from None
                latency[receiver, sender] = round(whole / 2) if kind == "rtt" else whole
    speed = np.full(latency.shape, rate(bandwidth))
    return network_of_sites(graph, "latencies", names, latency, speed, hosts=hosts, access=access, complete=complete)
