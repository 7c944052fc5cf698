"""EquiTopo: circulant graphs of random shifts, which mix at a rate that no number of agents slows down."""

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from basinet.topologies._build import ATTEMPTS, first_connected
from basinet.topologies._checks import require_agents

__all__ = ["equitopo"]


def equitopo(num_agents: int, *, shifts: int | None = None, directed: bool = True, seed: int = 0) -> nx.Graph:
    """Every agent k sends to the agents k + u (mod K), for the same few shifts u, drawn at random.

    The directed graph is the paper's D-EquiStatic, the undirected one, in which k also sends to k - u, its
    U-EquiStatic; other than there, no shift is drawn twice. The edges carry the paper's weights, which the policy
    `weights` uses: ``(K - 1) / (K M)`` for each of M shifts, of which an undirected graph gives one half to either
    side. Policies that go by the graph alone give an agent's own value more than the 1 / K that these leave. With
    M in proportion to ln K the mixing rate is bounded, with high probability, whatever K. The shifts are drawn
    again, up to 100 times, until the graph is connected.

    Args:
        num_agents: Number of agents K, at least 1.
        shifts: Number of shifts M, at most K - 1, or K / 2 in an undirected graph; by default log2 K, rounded up, as
            many as the exponential graph has.
        directed: Whether edges go one way only.
        seed: Seed of the graph, a non-negative integer.

    Returns:
        Connected DiGraph, or Graph, on the nodes 0..K-1; the edge (u, v) of a DiGraph means that u sends to v.

    Raises:
        ValueError: If ``shifts`` is below one or more than there are.

    Example:
        >>> graph = equitopo(16)
        >>> set(dict(graph.out_degree).values()), graph.edges[0, next(iter(graph[0]))]
        ({4}, {'weight': 0.234375})

    References:
        Song et al., Communication-Efficient Topologies for Decentralized Learning with O(1) Consensus Rate,
        https://arxiv.org/abs/2210.07881, 2022
    """
    require_agents(num_agents, "equitopo")
    most = num_agents - 1 if directed else num_agents // 2
    count = min(most, (num_agents - 1).bit_length()) if shifts is None else shifts
    if not min(1, most) <= count <= most:
        raise ValueError(
            f"equitopo: shifts is {count}, but must lie between {min(1, most)} and {most} for "
            f"{'a directed' if directed else 'an undirected'} graph of {num_agents} agents"
        )

    def draw(word: int) -> NDArray[np.int64]:
        drawn = 1 + np.random.default_rng(word).choice(most, count, replace=False)
        agents = np.arange(num_agents)
        return np.column_stack([np.tile(agents, count), np.add.outer(drawn, agents).ravel() % num_agents])

    weight = (num_agents - 1) / (num_agents * max(count, 1)) / (1 if directed else 2)
    graph = first_connected(
        num_agents,
        draw,
        seed=seed,
        directed=directed,
        message=(
            f"equitopo: none of {ATTEMPTS} graphs drawn with {count} shifts for {num_agents} agents was connected; "
            "raise the number of shifts"
        ),
        weight=weight,
    )
    half = num_agents // 2
    if not directed and num_agents % 2 == 0 and graph.has_edge(0, half):
        # Half a turn one way is half a turn the other.
        nx.set_edge_attributes(graph, {(k, k + half): 2 * weight for k in range(half)}, "weight")
    return graph
