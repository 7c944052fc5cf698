"""Graphs that are designed for a network: those on which messages are fast, whatever they do for mixing."""

from basinet.topologies.designs.fastest_ring import fastest_ring
from basinet.topologies.designs.lone_messages import lone_messages
from basinet.topologies.designs.spanning_trees import bounded_tree, fastest_tree
from basinet.topologies.designs.stars import fastest_star

__all__ = ["bounded_tree", "fastest_ring", "fastest_star", "fastest_tree", "lone_messages"]
