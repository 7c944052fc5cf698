r"""Networks read from the YAML files of ASTRA-sim's analytical network: rings, switches and full meshes, nested."""

from math import prod
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import yaml
from numpy.typing import NDArray

from basinet.topologies.networks.assembling import NETWORKS, Hosts, require_places
from basinet.topologies.networks.fabric import Contention, Fabric
from basinet.topologies.networks.network import Network
from basinet.topologies.networks.network_files.network_source import Source
from basinet.topologies.networks.routes import Routes
from basinet.topologies.requirements import require_room

__all__ = ["astra_sim"]

Numbers = NDArray[np.int64]

_KEYS = ("topology", "npus_count", "bandwidth", "latency")
_SHAPES = ("Ring", "FullyConnected", "Switch")


@NETWORKS.register("astra")
def astra_sim(
    graph: nx.Graph,
    *,
    path: str | Path,
    contention: Contention = "queue",
    hosts: Hosts = None,
    complete: bool = False,
) -> Network:
    r"""A network read from a YAML file of ASTRA-sim: lists ``topology``, ``npus_count``, ``bandwidth`` and ``latency``.

    Each dimension is a Ring, FullyConnected or a Switch; ``bandwidth`` is in GiB/s (which the format calls GB/s) and
    ``latency`` in ns for each hop, of which a switch takes two. The place of an agent is the number of its NPU; the
    first dimension varies fastest. Messages cross one dimension after the other, and rings the shorter way.

    Args:
        graph: Graph of the agents.
        path: The file.
        contention: How messages share lines: ``queue`` (store and forward: the aware model of ASTRA-sim), ``none`` (its
            unaware one), ``fair`` or ``hops`` (capacity / hops).
        hosts: The NPU of each agent; by default that of its number, or in order.
        complete: Whether all pairs get a link, or only the graph's edges.

    Returns:
        The network.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "pods.yml"
        ...     text = "topology: [Ring, Switch]\nnpus_count: [4, 2]\nbandwidth: [100, 25]\nlatency: [200, 900]"
        ...     _ = file.write_text(text)
        ...     network = astra_sim(nx.cycle_graph(8), path=file, contention="none")
        >>> network.latency[network.links_between(np.array([0, 4]), np.array([7, 3]))]
        array([2000, 2000])

    References:
        W. Won et al.: ASTRA-sim 2.0, ISPASS 2023, arXiv:2303.14006.
    """
    dimensions = _read(path)
    count = prod(size for _, size, _, _ in dimensions)
    require_places(count, f"astra: {str(path)!r}")
    require_room(sum(_Dimensions.lines(shape, size, count) for shape, size, _, _ in dimensions), "astra")
    fabric = _Dimensions(dimensions, count)
    return fabric.network(graph, what="astra", contention=contention, hosts=hosts, complete=complete)


def _read(path: str | Path) -> list[tuple[str, int, float, int]]:
    """Return shape, size, bandwidth and latency of each dimension."""
    try:
        found: Any = yaml.safe_load(Source("astra", path).text())
    except yaml.YAMLError as error:
        raise ValueError(f"astra: {str(path)!r} is not a YAML file ({str(error).splitlines()[0]})") from error
    if not (isinstance(found, dict) and all(isinstance(found.get(key), list) for key in _KEYS)):
        raise ValueError(f"astra: {str(path)!r} must hold the lists {', '.join(_KEYS)}")
    lists = [found[key] for key in _KEYS]
    if len({len(values) for values in lists}) > 1 or not lists[0]:
        raise ValueError(f"astra: the lists in {str(path)!r} must be of the same length, one entry a dimension")
    for shape, size, bandwidth, latency in zip(*lists, strict=True):
        if shape not in _SHAPES:
            raise ValueError(f"astra: {str(path)!r} names the topology {shape!r}; allowed are {', '.join(_SHAPES)}")
        if isinstance(size, bool) or not (isinstance(size, int) and size >= 1):
            raise ValueError(f"astra: {str(path)!r} gives npus_count {size!r}, but it must be at least 1")
        for key, value, least, most in (("bandwidth", bandwidth, 1e-9, 1e9), ("latency", latency, 0, 1e11)):
            if isinstance(value, bool) or not (isinstance(value, int | float) and least <= value <= most):
                raise ValueError(
                    f"astra: {str(path)!r} gives {key} {value!r}, but it must be a number from {least:g} to {most:g}"
                )
    return [
        (shape, size, bandwidth * 2**30, round(latency)) for shape, size, bandwidth, latency in zip(*lists, strict=True)
    ]


class _Dimensions(Fabric):
    """NPUs whose messages cross one dimension after the other."""

    def __init__(self, dimensions: list[tuple[str, int, float, int]], count: int) -> None:
        self.dimensions = dimensions
        super().__init__(
            names=tuple(map(str, range(count))),
            nodes=count,
            senders=np.empty(0, np.int64),
            receivers=np.empty(0, np.int64),
            latency=np.concatenate([np.full(self.lines(*d[:2], count), d[3]) for d in dimensions]),
            capacity=np.concatenate([np.full(self.lines(*d[:2], count), d[2]) for d in dimensions]),
        )

    @staticmethod
    def lines(shape: str, size: int, count: int) -> int:
        """A line to each other place of the dimension, or two: around the ring both ways, or to the switch and back."""
        return count * (size if shape == "FullyConnected" else 2)

    def routes(self, senders: Numbers, receivers: Numbers) -> Routes:
        at, layers, begin, stride = senders.copy(), [], 0, 1
        for shape, size, _, _ in self.dimensions:
            here, there = at // stride % size, receivers // stride % size
            target = at + (there - here) * stride
            if shape == "Ring":
                ahead = (there - here) % size
                turn = np.where(ahead <= size - ahead, 1, -1)
                left = np.minimum(ahead, size - ahead)
                for hop in range(size // 2):
                    place = (here + turn * hop) % size
                    line = begin + at + (place - here) * stride + (turn < 0) * self.nodes
                    layers.append(np.where(hop < left, line, -1))
            elif shape == "Switch":
                layers.append(np.where(here == there, -1, begin + at))
                layers.append(np.where(here == there, -1, begin + self.nodes + target))
            else:
                layers.append(np.where(here == there, -1, begin + at * size + there))
            at, begin, stride = target, begin + self.lines(shape, size, self.nodes), stride * size
        return Routes.of_layers(layers, self.latency, self.capacity)
