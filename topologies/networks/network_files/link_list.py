r"""Networks read from a list of directed links."""

from pathlib import Path

import networkx as nx
import numpy as np

from basinet.topologies.networks.assembling import NETWORKS, Access, Hosts
from basinet.topologies.networks.network import Network
from basinet.topologies.networks.network_files.network_source import Source
from basinet.topologies.networks.network_files.sites import network_of_sites
from basinet.topologies.networks.units import nanoseconds, rate, share
from basinet.topologies.requirements import require_room

__all__ = ["link_list"]


@NETWORKS.register("links")
def link_list(
    graph: nx.Graph, *, path: str | Path, hosts: Hosts = None, access: Access = None, complete: bool = False
) -> Network:
    r"""A network read from a table of links, with the columns sender, receiver, latency, bandwidth and perhaps loss.

    Each line is one direction. Latency and bandwidth have units (``3 ms``, ``1 Gb/s``); ``inf`` is a bandwidth without
    limit. Lines that begin with # are comments.

    Args:
        graph: Graph of the agents.
        path: The file, with values separated by commas.
        hosts: The site of each agent, by name or number; by default those of the agents' names, or in the file's order.
        access: The sites' own connections; no limit by default.
        complete: Whether all pairs get a link, or only the graph's edges.

    Returns:
        The network.

    Raises:
        ValueError: If the file is no such table, names a link twice or lacks one that the graph needs.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "links.csv"
        ...     _ = file.write_text("sender,receiver,latency,bandwidth\nA,B,3 ms,1 GB/s\nB,A,4 ms,1 GB/s\n")
        ...     link_list(nx.path_graph(2), path=file).latency
        array([4000000, 3000000])
    """
    source = Source("links", path)
    sites: dict[str, int] = {}
    links: dict[tuple[int, int], tuple[int, float, float]] = {}
    for line, row in source.rows(["sender", "receiver", "latency", "bandwidth"], ["loss"]):
        ends = tuple(sites.setdefault(row[end], len(sites)) for end in ("sender", "receiver"))
        if ends[0] == ends[1]:
            raise source.mistake(line, f"{row['sender']} sends to itself")
        if ends in links:
            raise source.mistake(line, f"the link from {row['sender']} to {row['receiver']} stands twice")
        try:
            read = nanoseconds(row["latency"]), rate(row["bandwidth"]), share(row.get("loss", 0.0))
        except ValueError as error:
            raise source.mistake(line, error) from None
        links[ends[0], ends[1]] = read
    require_room(len(sites) ** 2, "links")
    latency = np.full((len(sites), len(sites)), -1, dtype=np.int64)
    bandwidth, loss = np.full(latency.shape, np.inf), np.zeros(latency.shape)
    for (sender, receiver), given in links.items():
        latency[receiver, sender], bandwidth[receiver, sender], loss[receiver, sender] = given
    return network_of_sites(
        graph, "links", tuple(sites), latency, bandwidth, loss=loss, hosts=hosts, access=access, complete=complete
    )
