"""Graphs that change from step to step: sequences that repeat."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import networkx as nx

from basinet.topologies.registry import Registry

__all__ = ["SEQUENCES", "GraphSequence"]


@dataclass(frozen=True)
class GraphSequence:
    """Graphs on the same agents, one per step, repeated cyclically.

    A single graph need not be connected; all of them together have to be. A graph may name its own policy,
    ``graph.graph["policy"] = "weights"``; an experiment uses it unless it chooses another.

    Args:
        graphs: The graphs of one period, on the same nodes in the same order.

    Raises:
        ValueError: There are no graphs, or their nodes differ.

    Example:
        >>> sequence = GraphSequence([nx.Graph([(0, 1), (2, 3)]), nx.Graph([(0, 1), (2, 3), (1, 2)])])
        >>> len(sequence), sequence.num_agents
        (2, 4)
    """

    graphs: Sequence[nx.Graph]

    def __post_init__(self) -> None:
        if not self.graphs:
            raise ValueError("a sequence of graphs needs at least one")
        for number, graph in enumerate(self.graphs):
            if list(graph) != list(self.graphs[0]):
                raise ValueError(f"graph {number} of the sequence has other nodes, or in another order, than graph 0")

    def __len__(self) -> int:
        return len(self.graphs)

    def __iter__(self) -> Iterator[nx.Graph]:
        return iter(self.graphs)

    @property
    def num_agents(self) -> int:
        """Number of agents K."""
        return len(self.graphs[0])

    def union(self) -> nx.Graph:
        """All edges of a period in one graph."""
        return nx.compose_all(self.graphs)


SEQUENCES: Registry[GraphSequence] = Registry("SEQUENCES")
"""The sequences that an experiment can name."""
