"""Published networks: tables of sites and of the lines between them."""

from functools import cache
from pathlib import Path
from typing import Literal, get_args

import networkx as nx
import numpy as np

from basinet.topologies.networks.assembling import NETWORKS, Access, Hosts
from basinet.topologies.networks.distances import Propagation, latency_of, overhead_of
from basinet.topologies.networks.fabric import Contention, Fabric
from basinet.topologies.networks.network import Network
from basinet.topologies.networks.network_files.network_source import Source
from basinet.topologies.networks.units import Quantity, rate

__all__ = ["TABLES", "Published", "published", "underlay_of"]

Published = Literal["aws_north_america", "ebone", "exodus", "gaia", "geant"]

TABLES: tuple[Published, ...] = get_args(Published)
"""Names of the networks."""

_ACCESS = {"up": "10 Gb/s", "down": "10 Gb/s", "sharing": "fair"}
_FOLDER = Path(__file__).parent / "published"


@NETWORKS.register()
def published(
    graph: nx.Graph,
    *,
    table: Published,
    core: Quantity | None = "1 Gb/s",
    access: Access = None,
    propagation: Propagation = "internet",
    contention: Contention = "hops",
    hosts: Hosts = None,
    complete: bool = False,
) -> Network:
    """A published network of data centres or of an internet provider, one agent at each site.

    By default it is the model of Marfoq et al.: latency 0.0085 ms/km + 4 ms along the shortest route, of which a
    message has the capacity divided by its hops, and access at 10 Gb/s, shared among an agent's neighbours.

    In experiments, the name of a table is enough: ``network: gaia``.

    Args:
        graph: Graph of the agents.
        table: ``gaia`` (11 regions of AWS around the world, 55 lines), ``aws_north_america`` (22, 231), ``geant`` (40,
            61), ``exodus`` (79, 147) or ``ebone`` (87, 161).
        core: Bandwidth of every line; null for those of the table, which ``gaia`` has.
        access: The sites' own connections; 10 Gb/s up and down, fairly shared, by default.
        propagation: ``internet``: 0.0085 ms/km, and 4 ms on each path; ``fibre``: 2/3 of the speed of light.
        contention: How messages share lines: ``hops`` (capacity / hops), ``fair``, ``queue`` (store and forward) or
            ``none``.
        hosts: The site of each agent, by name or number; by default those of the agents' names, or in order.
        complete: Whether all pairs get a link, or only the graph's edges.

    Returns:
        The network.

    Example:
        >>> network = published(nx.cycle_graph(11), table="gaia")
        >>> network.names[:2], network.latency[network.links_between(np.array([0]), np.array([1]))]
        (('Virginia', 'California'), array([34267650]))

    References:
        O. Marfoq, C. Xu, G. Neglia, R. Vidal: Throughput-optimal topology design for cross-silo federated learning,
        NeurIPS 2020, arXiv:2010.12229.
    """
    return underlay_of(table, core, propagation).network(
        graph,
        what="published",
        contention=contention,
        hosts=hosts,
        access=_ACCESS if access is None else access,
        complete=complete,
    )


@cache
def underlay_of(table: Published, core: Quantity | None = "1 Gb/s", propagation: Propagation = "internet") -> Fabric:
    """Return the sites and lines of a published network.

    Args:
        table: Its name.
        core: Bandwidth of every line; None for those of the table.
        propagation: Latency of a distance.

    Returns:
        Sites and lines.

    Raises:
        ValueError: If bandwidths are those of the table, and it lacks one.
    """
    listed = Source("published", _FOLDER / "sites.csv").rows(["network", "number", "site"], ["latitude", "longitude"])
    sites = tuple(row["site"] for _, row in listed if row["network"] == table)
    rows = [row for _, row in Source("published", _FOLDER / f"{table}.csv").rows(["from", "to", "km"], ["capacity"])]
    if core is None and any("capacity" not in row for row in rows):
        raise ValueError(f"published: the table {table} has no bandwidth for some lines; give one, as core: 1 Gb/s")
    speeds = [float(row["capacity"]) / 8 if core is None else rate(core) for row in rows]
    ends = np.array([(int(row["from"]), int(row["to"])) for row in rows])
    return Fabric(
        names=sites,
        nodes=len(sites),
        senders=np.concatenate([ends[:, 0], ends[:, 1]]),
        receivers=np.concatenate([ends[:, 1], ends[:, 0]]),
        latency=np.tile(latency_of([float(row["km"]) for row in rows], propagation), 2),
        capacity=np.tile(speeds, 2),
        overhead=overhead_of(propagation),
    )
