r"""Networks whose latency follows from where the agents are on Earth."""

from pathlib import Path

import networkx as nx
import numpy as np

from basinet.topologies.networks.assembling import NETWORKS, Access, Hosts
from basinet.topologies.networks.distances import Propagation, great_circle, latency_of, overhead_of
from basinet.topologies.networks.network import Network
from basinet.topologies.networks.network_files.network_source import Source, number_in
from basinet.topologies.networks.network_files.sites import network_of_sites
from basinet.topologies.networks.units import Quantity, rate

__all__ = ["positions"]


@NETWORKS.register()
def positions(
    graph: nx.Graph,
    *,
    path: str | Path,
    bandwidth: Quantity,
    propagation: Propagation = "fibre",
    hosts: Hosts = None,
    access: Access = None,
    complete: bool = False,
) -> Network:
    r"""A network whose latency follows from positions on Earth, along great circles.

    Args:
        graph: Graph of the agents.
        path: A table, values separated by commas, with the columns name, latitude and longitude, in degrees.
        bandwidth: Bandwidth of a link, such as ``1 Gb/s``, or ``inf``.
        propagation: ``fibre``: 2/3 of the speed of light; ``internet``: 0.0085 ms/km + 4 ms, as measured.
        hosts: The place of each agent, by name or number; by default those of the agents' names, or in order.
        access: The places' own connections; no limit by default.
        complete: Whether all pairs get a link, or only the graph's edges.

    Returns:
        The network.

    Raises:
        ValueError: If the file is no such table, or names a place twice.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "places.csv"
        ...     _ = file.write_text("name,latitude,longitude\nQuito,0,-78\nLibreville,0,9\n")
        ...     positions(nx.path_graph(2), path=file, bandwidth="1 Gb/s").latency // 10**6
        array([48, 48])
    """
    source = Source("positions", path)
    places: dict[str, tuple[float, float]] = {}
    for line, row in source.rows(["name", "latitude", "longitude"]):
        if row["name"] in places:
            raise source.mistake(line, f"the place {row['name']} stands twice")
        try:
            places[row["name"]] = number_in(row["latitude"], -90, 90), number_in(row["longitude"], -360, 360)
        except ValueError as error:
            raise source.mistake(line, error) from None
    north, east = np.array(list(places.values())).reshape(-1, 2).T
    kilometres = great_circle(north[:, None], east[:, None], north, east)
    latency = latency_of(kilometres, propagation) + overhead_of(propagation)
    speed = np.full(latency.shape, rate(bandwidth))
    return network_of_sites(
        graph, "positions", tuple(places), latency, speed, hosts=hosts, access=access, complete=complete
    )
