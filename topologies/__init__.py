"""Graph families, combination policies, and the spectra that say how fast agents on them agree.

A topology is a function from the number of agents to a networkx graph; any other networkx graph, with any hashable
labels, works as well. A policy turns a graph into the mixing matrix W of ``x_k ← Σ_l W[k, l] x_l``. Rows and columns
of W follow the graph's own node order.
"""

from basinet.topologies.building import TOPOLOGIES
from basinet.topologies.graphs.classic import complete, path, ring, star, wheel
from basinet.topologies.graphs.clusters import barbell, clusters, lollipop
from basinet.topologies.graphs.expanders import margulis, paley
from basinet.topologies.graphs.exponential import exponential
from basinet.topologies.graphs.geometric import random_geometric
from basinet.topologies.graphs.graph_files import adjacency_list, adjacency_matrix, edge_list, graphml
from basinet.topologies.graphs.lattice import grid, hypercube, torus
from basinet.topologies.graphs.random_graphs import erdos_renyi, random_regular
from basinet.topologies.graphs.scale_free import barabasi_albert
from basinet.topologies.graphs.small_world import newman_watts, watts_strogatz
from basinet.topologies.graphs.social import davis, florentine, karate
from basinet.topologies.graphs.trees import caterpillar, tree
from basinet.topologies.mixing_matrix import POLICIES, check_graph, check_mixing_matrix, neighborhoods
from basinet.topologies.policies.degree_based import laplacian, lazy, max_degree, metropolis, push, uniform, weights
from basinet.topologies.policies.hastings import hastings
from basinet.topologies.policies.matrix_files import file
from basinet.topologies.policies.optimal import best_constant, fastest
from basinet.topologies.policies.relative import relative_degree, relative_variance
from basinet.topologies.policies.sinkhorn import sinkhorn
from basinet.topologies.sequences.base_graph import base_graph, hyper_hypercube, simple_base_graph
from basinet.topologies.sequences.equitopo import equitopo, one_peer_equitopo
from basinet.topologies.sequences.graph_sequence import SEQUENCES, GraphSequence
from basinet.topologies.sequences.inner_outer import inner_outer_exponential, inner_outer_ring
from basinet.topologies.sequences.one_peer import (
    one_peer_exponential,
    one_peer_hypercube,
    random_matchings,
    random_subsets,
)
from basinet.topologies.spectra.connectivity import algebraic_connectivity, effective_resistance, kirchhoff_index
from basinet.topologies.spectra.consensus_theory import consensus_factor, effective_neighbors, mixing_time
from basinet.topologies.spectra.cost import Cost, communication_cost
from basinet.topologies.spectra.spectrum import (
    eigenvalues,
    mixing_rate,
    perron_vector,
    smallest_eigenvalue,
    spectral_gap,
)

__all__ = [
    "POLICIES",
    "SEQUENCES",
    "TOPOLOGIES",
    "Cost",
    "GraphSequence",
    "adjacency_list",
    "adjacency_matrix",
    "algebraic_connectivity",
    "barabasi_albert",
    "barbell",
    "base_graph",
    "best_constant",
    "caterpillar",
    "check_graph",
    "check_mixing_matrix",
    "clusters",
    "communication_cost",
    "complete",
    "consensus_factor",
    "davis",
    "edge_list",
    "effective_neighbors",
    "effective_resistance",
    "eigenvalues",
    "equitopo",
    "erdos_renyi",
    "exponential",
    "fastest",
    "file",
    "florentine",
    "graphml",
    "grid",
    "hastings",
    "hyper_hypercube",
    "hypercube",
    "inner_outer_exponential",
    "inner_outer_ring",
    "karate",
    "kirchhoff_index",
    "laplacian",
    "lazy",
    "lollipop",
    "margulis",
    "max_degree",
    "metropolis",
    "mixing_rate",
    "mixing_time",
    "neighborhoods",
    "newman_watts",
    "one_peer_equitopo",
    "one_peer_exponential",
    "one_peer_hypercube",
    "paley",
    "path",
    "perron_vector",
    "push",
    "random_geometric",
    "random_matchings",
    "random_regular",
    "random_subsets",
    "relative_degree",
    "relative_variance",
    "ring",
    "simple_base_graph",
    "sinkhorn",
    "smallest_eigenvalue",
    "spectral_gap",
    "star",
    "torus",
    "tree",
    "uniform",
    "watts_strogatz",
    "weights",
    "wheel",
]

TOPOLOGIES.fill("basinet.topologies.graphs")
SEQUENCES.fill("basinet.topologies.sequences")
POLICIES.fill("basinet.topologies.policies")
