"""Sequences of sparse graphs: one peer per step, random matchings and random subsets of edges."""

import numpy as np

from basinet.topologies.building import from_edges, shifted
from basinet.topologies.graphs.random_graphs import random_regular
from basinet.topologies.requirements import require_agents, require_period, require_probability
from basinet.topologies.sequences.graph_sequence import SEQUENCES, GraphSequence

__all__ = [
    "one_peer_exponential",
    "one_peer_hypercube",
    "random_matchings",
    "random_subsets",
]


@SEQUENCES.register()
def one_peer_exponential(num_agents: int) -> GraphSequence:
    """At step t, agent k sends to agent ``k + 2^(t mod ceil(log2 K))`` (mod K) alone.

    With uniform weights, one half each, which are the graphs' own policy, and K a power of two, all agents agree
    exactly after log2 K steps. Each step costs one message per agent.

    Args:
        num_agents: Number of agents K, at least 2.

    Returns:
        A sequence of directed graphs of period ``ceil(log2 K)``.

    Example:
        >>> [sorted(graph.successors(0)) for graph in one_peer_exponential(8)]
        [[1], [2], [4]]

    References:
        B. Ying et al.: Exponential graph is provably efficient for decentralized deep training, NeurIPS 2021,
        arXiv:2110.13363.
    """
    require_agents(num_agents, "one_peer_exponential", least=2)
    return GraphSequence([shifted(num_agents, 2**j, policy="uniform") for j in range((num_agents - 1).bit_length())])


@SEQUENCES.register()
def one_peer_hypercube(num_agents: int) -> GraphSequence:
    """At step t, agents whose numbers differ in the binary digit ``t mod log2 K`` exchange their values.

    With Metropolis weights, one half each, all agree exactly after log2 K steps.

    Args:
        num_agents: Number of agents K, a power of two from 2 on.

    Returns:
        A sequence of perfect matchings of period log2 K.

    Raises:
        ValueError: If K is not a power of two.

    Example:
        >>> [sorted(graph.edges) for graph in one_peer_hypercube(4)]
        [[(0, 1), (2, 3)], [(0, 2), (1, 3)]]

    References:
        Y. Takezawa et al.: Beyond exponential graph: communication-efficient topologies for decentralized learning via
        finite-time convergence, NeurIPS 2023, arXiv:2305.11420.
    """
    require_agents(num_agents, "one_peer_hypercube", least=2)
    digits = (num_agents - 1).bit_length()
    if num_agents != 2**digits:
        raise ValueError(f"one_peer_hypercube: num_agents is {num_agents}, but must be a power of two")
    agents = np.arange(num_agents)
    return GraphSequence([
        from_edges(num_agents, np.column_stack([low := agents[agents & 2**j == 0], low + 2**j])) for j in range(digits)
    ])  # fmt: skip


@SEQUENCES.register()
def random_matchings(num_agents: int, *, period: int = 100, seed: int = 0) -> GraphSequence:
    """At each step, agents meet in pairs drawn at random; of an odd number, one stays unmatched.

    Args:
        num_agents: Number of agents K, at least 2.
        period: Number of matchings drawn before they repeat, at least 1.
        seed: Seed of the draws, a non-negative integer.

    Returns:
        A sequence of matchings.

    Example:
        >>> [len(graph.edges) for graph in random_matchings(5, period=3)]
        [2, 2, 2]

    References:
        S. Boyd, A. Ghosh, B. Prabhakar, D. Shah: Randomized gossip algorithms, IEEE TIT 52 (2006),
        doi:10.1109/TIT.2006.874516.
    """
    require_agents(num_agents, "random_matchings", least=2)
    require_period(period, num_agents, "random_matchings")
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(num_agents)[: num_agents // 2 * 2].reshape(-1, 2) for _ in range(period)]
    return GraphSequence([from_edges(num_agents, np.sort(pairs, axis=1)) for pairs in orders])


@SEQUENCES.register()
def random_subsets(
    num_agents: int, *, degree: int = 4, probability: float = 0.5, period: int = 100, seed: int = 0
) -> GraphSequence:
    """At each step, every edge of a random regular graph is present with the given probability, independently.

    Args:
        num_agents: Number of agents K.
        degree: Number of neighbours of each agent in the whole graph.
        probability: Probability of an edge, in (0, 1].
        period: Number of graphs drawn before they repeat, at least 1.
        seed: Seed of the graph and of the draws, a non-negative integer.

    Returns:
        A sequence of subgraphs of one graph.

    Example:
        >>> sequence = random_subsets(8, degree=3, period=5)
        >>> max(len(graph.edges) for graph in sequence) <= 12
        True
    """
    require_probability(probability, "random_subsets")
    require_period(period, num_agents, "random_subsets")
    edges = np.array(list(random_regular(num_agents, degree=degree, seed=seed).edges)).reshape(-1, 2)
    rng = np.random.default_rng([seed, 1])
    return GraphSequence([
        from_edges(num_agents, edges[rng.random(len(edges)) < probability]) for _ in range(period)
    ])  # fmt: skip
