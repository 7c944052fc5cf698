"""Random graphs, drawn until one is connected: Erdős–Rényi and random regular."""

import math

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from basinet.topologies.building import ATTEMPTS, TOPOLOGIES, first_connected
from basinet.topologies.requirements import require_agents, require_probability, require_room

__all__ = ["erdos_renyi", "random_regular"]


@TOPOLOGIES.register()
def erdos_renyi(num_agents: int, *, probability: float | None = None, seed: int = 0) -> nx.Graph:
    """Every pair of agents is joined with the same probability, independently of the others.

    Such a graph is connected with high probability once the probability exceeds ``ln K / K``. It is redrawn, up to 100
    times, until it is connected.

    Args:
        num_agents: Number of agents K, at least 1.
        probability: Probability of an edge, in (0, 1]; ``min(1, 2 ln K / K)`` by default.
        seed: Seed of the graph, a non-negative integer.

    Returns:
        Connected graph on the nodes 0..K-1.

    Raises:
        ValueError: If ``probability`` is outside (0, 1].

    Example:
        >>> graph = erdos_renyi(16, probability=0.4, seed=1)
        >>> nx.is_connected(graph), graph.number_of_nodes()
        (True, 16)

    References:
        V. Batagelj, U. Brandes: Efficient generation of large random networks, Phys. Rev. E 71 (2005),
        doi:10.1103/PhysRevE.71.036113.
    """
    require_agents(num_agents, "erdos_renyi")
    if probability is None:
        edge_probability = min(1.0, 2 * math.log(num_agents) / num_agents)
    else:
        require_probability(probability, "erdos_renyi")
        edge_probability = probability
    require_room(edge_probability * num_agents * (num_agents - 1) / 2, "erdos_renyi")
    return first_connected(
        num_agents,
        lambda word: _independent_pairs(num_agents, edge_probability, np.random.default_rng(word)),
        seed=seed,
        message=(
            f"erdos_renyi: none of {ATTEMPTS} graphs drawn with probability {edge_probability:.3g} for "
            f"{num_agents} agents was connected; raise the probability above "
            f"ln K / K = {math.log(num_agents) / num_agents:.3g}"
        ),
    )


@TOPOLOGIES.register()
def random_regular(num_agents: int, *, degree: int = 4, seed: int = 0) -> nx.Graph:
    """A graph drawn (asymptotically) uniformly among those in which every agent has d neighbours.

    From d = 3 on, its spectral gap most likely stays bounded away from zero as K grows, and the first draw is nearly
    always connected; it is redrawn, up to 100 times, until it is.

    Args:
        num_agents: Number of agents K, above ``degree``; K times ``degree`` must be even.
        degree: Number of neighbours d of each agent. A connected graph needs 2 or more, or K - 1 where
            there are only one or two agents.
        seed: Seed of the graph, a non-negative integer.

    Returns:
        Connected graph on the nodes 0..K-1.

    Raises:
        ValueError: If no connected graph on ``num_agents`` agents has this degree.

    Example:
        >>> set(dict(random_regular(16, degree=3).degree).values())
        {3}

    References:
        A. Steger, N. C. Wormald: Generating random regular graphs quickly, Comb. Probab. Comput. 8 (1999),
        doi:10.1017/S0963548399003867.
    """
    require_agents(num_agents, "random_regular")
    if not min(2, num_agents - 1) <= degree < num_agents:
        raise ValueError(
            f"random_regular: degree is {degree}, but must lie between {min(2, num_agents - 1)} and "
            f"{num_agents - 1} for a connected graph of {num_agents} agents"
        )
    if num_agents * degree % 2:
        raise ValueError(
            f"random_regular: no graph of {num_agents} agents has the odd degree {degree} everywhere; "
            "one of the two must be even"
        )
    require_room(num_agents * degree / 2, "random_regular")
    return first_connected(
        num_agents,
        lambda word: list(nx.random_regular_graph(degree, num_agents, seed=word).edges),
        seed=seed,
        message=(
            f"random_regular: none of {ATTEMPTS} graphs drawn with degree {degree} for {num_agents} agents "
            "was connected; raise the degree"
        ),
    )


def _independent_pairs(num_agents: int, probability: float, rng: np.random.Generator) -> NDArray[np.int64]:
    # The pairs (u, v) with v < u, numbered row by row: the gaps between joined pairs are geometric.
    count = num_agents * (num_agents - 1) // 2
    numbers = np.array([-1])
    while numbers[-1] < count - 1:
        steps = rng.geometric(probability, int(1.1 * probability * count) + 10)
        numbers = np.append(numbers, numbers[-1] + np.cumsum(np.minimum(steps, count)))
    numbers = numbers[(numbers >= 0) & (numbers < count)]
    u = ((1 + np.sqrt(1 + 8.0 * numbers)) / 2).astype(np.int64)
    # The rounded root may be off by one.
    u += (u * (u + 1) // 2 <= numbers).astype(np.int64) - (u * (u - 1) // 2 > numbers)
    return np.column_stack([u, numbers - u * (u - 1) // 2])
