"""Networks: latency, bandwidth and loss of the links between agents, and what messages take that are sent together.

A network is built from the graph of the agents and settings with units, by one of the functions in `NETWORKS`; inside,
times are integer nanoseconds, sizes bytes and rates bytes per second.
"""

from basinet.topologies.networks.assembling import NETWORKS
from basinet.topologies.networks.direct_links import from_graph, uniform_links
from basinet.topologies.networks.distances import great_circle, latency_of
from basinet.topologies.networks.fabric import Fabric
from basinet.topologies.networks.fair_shares import fair_shares
from basinet.topologies.networks.hierarchies import fat_tree, hierarchy, rails
from basinet.topologies.networks.network import Delays, MissingLink, Network, Ports
from basinet.topologies.networks.published_networks import TABLES, published
from basinet.topologies.networks.queues import store_and_forward
from basinet.topologies.networks.routes import Routes
from basinet.topologies.networks.transport import over_tcp
from basinet.topologies.networks.units import (
    nanoseconds,
    rate,
    share,
    show_rate,
    show_size,
    show_time,
    size,
    transfer,
)

__all__ = [
    "NETWORKS",
    "TABLES",
    "Delays",
    "Fabric",
    "MissingLink",
    "Network",
    "Ports",
    "Routes",
    "fair_shares",
    "fat_tree",
    "from_graph",
    "great_circle",
    "hierarchy",
    "latency_of",
    "nanoseconds",
    "over_tcp",
    "published",
    "rails",
    "rate",
    "share",
    "show_rate",
    "show_size",
    "show_time",
    "size",
    "store_and_forward",
    "transfer",
    "uniform_links",
]

NETWORKS.fill("basinet.topologies.networks")
