"""EquiTopo: circulant graphs of random shifts, whose mixing rate does not depend on the number of agents."""

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from basinet.topologies.building import ATTEMPTS, TOPOLOGIES, first_connected, from_edges, shifted
from basinet.topologies.requirements import require_agents, require_period, require_room, require_seed
from basinet.topologies.sequences.graph_sequence import SEQUENCES, GraphSequence

__all__ = ["equitopo", "one_peer_equitopo"]


@TOPOLOGIES.register()
def equitopo(num_agents: int, *, shifts: int | None = None, directed: bool = True, seed: int = 0) -> nx.Graph:
    """Every agent k sends to the agents k + u (mod K), for the same few shifts u, drawn at random.

    The directed graph is the paper's D-EquiStatic, the undirected one, in which k also sends to k - u, its
    U-EquiStatic; unlike in the paper, no shift is drawn twice. The edges carry the paper's weights, which the policy
    `weights` uses: ``(K - 1) / (K M)`` for each of M shifts, of which an undirected graph gives one half to either
    side. Policies based on the graph alone give an agent's own value at least the 1 / K that these leave. With M in
    proportion to ln K the mixing rate is bounded, with high probability, whatever K. The shifts are redrawn, up to 100
    times, until the graph is connected.

    Args:
        num_agents: Number of agents K, at least 1.
        shifts: Number of shifts M, at most K - 1, or K / 2 in an undirected graph; by default log2 K, rounded up, as
            many as the exponential graph has.
        directed: Whether edges go one way only.
        seed: Seed of the graph, a non-negative integer.

    Returns:
        Connected DiGraph, or Graph, on the nodes 0..K-1, whose own policy is `weights`; the edge (u, v) of a DiGraph
        means that u sends to v.

    Raises:
        ValueError: If ``shifts`` is below one or above the largest number.

    Example:
        >>> graph = equitopo(16)
        >>> set(dict(graph.out_degree).values()), graph.edges[0, next(iter(graph[0]))]
        ({4}, {'weight': 0.234375})

    References:
        Z. Song et al.: Communication-efficient topologies for decentralized learning with O(1) consensus rate, NeurIPS
        2022, arXiv:2210.07881.
    """
    require_agents(num_agents, "equitopo")
    most = num_agents - 1 if directed else num_agents // 2
    count = min(most, (num_agents - 1).bit_length()) if shifts is None else shifts
    if not min(1, most) <= count <= most:
        raise ValueError(
            f"equitopo: shifts is {count}, but must lie between {min(1, most)} and {most} for "
            f"{'a directed' if directed else 'an undirected'} graph of {num_agents} agents"
        )
    require_room(num_agents * count, "equitopo")

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
    graph.graph["policy"] = "weights"
    return graph


@SEQUENCES.register()
def one_peer_equitopo(
    num_agents: int, *, directed: bool = True, step: float = 0.5, period: int = 100, seed: int = 0
) -> GraphSequence:
    """At each step a shift u from 1 to K - 1 is drawn, and agent k sends to k + u (mod K) alone.

    The directed sequence is the paper's OD-EquiDyn over all shifts, with the weights ``(1 - η) I + η A``, where A
    gives (K - 1) / K to the sender and 1 / K to the agent itself. In expectation over the draws, a step leaves the
    fraction ``(1 - η)^2 + η^2 (1 - 2 / K)`` of the squared disagreement: at η = 1/2, ``1/2 - 1 / (2 K)``, less
    than one half whatever K. The undirected one is its OU-EquiDyn: starting from a random agent, k is matched with k +
    u if both are still unmatched; at least two thirds of the agents are matched, so that at most
    ``1 - 4/3 η (1 - η)`` is left.

    Args:
        num_agents: Number of agents K, at least 2.
        directed: Whether messages go one way only.
        step: The factor η, in (0, 1).
        period: Number of graphs drawn before they repeat, at least 1.
        seed: Seed of the draws, a non-negative integer.

    Returns:
        A sequence of graphs with weights, whose own policy is `weights`.

    Raises:
        ValueError: If ``step`` is outside (0, 1).

    Example:
        >>> [sorted(graph.edges(0, data="weight")) for graph in one_peer_equitopo(8, period=2)]
        [[(0, 6, 0.4375)], [(0, 5, 0.4375)]]

    References:
        Z. Song et al.: Communication-efficient topologies for decentralized learning with O(1) consensus rate, NeurIPS
        2022, arXiv:2210.07881.
    """
    require_agents(num_agents, "one_peer_equitopo", least=2)
    require_period(period, num_agents, "one_peer_equitopo")
    require_seed(seed)
    if not 0 < step < 1:
        raise ValueError(f"one_peer_equitopo: step is {step}, but must lie in (0, 1)")
    rng = np.random.default_rng(seed)
    weight = step * (num_agents - 1) / num_agents
    shifts = rng.integers(1, num_agents, period).tolist()
    if directed:
        return GraphSequence([shifted(num_agents, shift, weight=weight, policy="weights") for shift in shifts])
    firsts = rng.integers(0, num_agents, period).tolist()
    return GraphSequence([
        from_edges(num_agents, _meetings(num_agents, shift, first), weight=weight, policy="weights")
        for shift, first in zip(shifts, firsts, strict=True)
    ])  # fmt: skip


def _meetings(num_agents: int, shift: int, first: int) -> NDArray[np.int64]:
    # Going through the agents, each block of `shift` agents meets the next, which is then skipped.
    shift = min(shift, num_agents - shift)
    order = np.arange(num_agents - shift)
    meets = order[order // shift % 2 == 0]
    return (np.column_stack([meets, meets + shift]) + first) % num_agents
