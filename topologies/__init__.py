"""Graph families, combination policies, and the spectra that say how fast agents on them agree.

A topology is a function from the number of agents to a networkx graph; any other networkx graph, with any
hashable labels, does as well. A policy turns a graph into the mixing matrix W of
``x_k <- sum_l W[k, l] x_l``. Rows and columns of W follow the graph's own node order.
"""

from collections.abc import Callable

import networkx as nx
from scipy.sparse import csr_array

from basinet.topologies.classic import complete, path, ring, star
from basinet.topologies.exponential import exponential
from basinet.topologies.files import edge_list
from basinet.topologies.lattice import grid, hypercube, torus
from basinet.topologies.mixing import check_graph, check_mixing_matrix, neighborhoods
from basinet.topologies.policies import laplacian, metropolis, uniform, weights
from basinet.topologies.random_graphs import erdos_renyi, random_regular
from basinet.topologies.spectrum import (
    eigenvalues,
    mixing_rate,
    perron_vector,
    smallest_eigenvalue,
    spectral_gap,
)

__all__ = [
    "POLICIES",
    "TOPOLOGIES",
    "check_graph",
    "check_mixing_matrix",
    "complete",
    "edge_list",
    "eigenvalues",
    "erdos_renyi",
    "exponential",
    "grid",
    "hypercube",
    "laplacian",
    "metropolis",
    "mixing_rate",
    "neighborhoods",
    "path",
    "perron_vector",
    "random_regular",
    "ring",
    "smallest_eigenvalue",
    "spectral_gap",
    "star",
    "torus",
    "uniform",
    "weights",
]

TOPOLOGIES: dict[str, Callable[..., nx.Graph]] = {
    "ring": ring,
    "path": path,
    "star": star,
    "complete": complete,
    "grid": grid,
    "torus": torus,
    "hypercube": hypercube,
    "exponential": exponential,
    "erdos_renyi": erdos_renyi,
    "random_regular": random_regular,
    "edge_list": edge_list,
}

POLICIES: dict[str, Callable[..., csr_array]] = {
    "metropolis": metropolis,
    "uniform": uniform,
    "laplacian": laplacian,
    "weights": weights,
}
