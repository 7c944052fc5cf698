"""Deterministic expanders: graphs whose spectral gap is bounded below at every size."""

import itertools
import math

import networkx as nx
import numpy as np

from basinet.topologies.building import TOPOLOGIES, from_edges
from basinet.topologies.requirements import require_agents, require_room

__all__ = ["margulis", "paley"]


@TOPOLOGIES.register()
def margulis(num_agents: int) -> nx.Graph:
    """The expander of Margulis, Gabber and Galil: at most 8 neighbours per agent, whatever K.

    With K = n^2, agent ``x n + y`` is joined to (x ± 2y, y), (x ± (2y + 1), y), (x, y ± 2x) and (x, y ± (2x + 1)),
    all modulo n. With their loops and double edges these graphs have an adjacency matrix whose second eigenvalue is
    at most ``5 √2``; the graph here is the simple one, without either, so that the second eigenvalue of its
    Laplacian is at least ``(8 - 5 √2) / 2``.

    Args:
        num_agents: Number of agents K, a square.

    Returns:
        Graph on the nodes 0..K-1.

    Raises:
        ValueError: If ``num_agents`` is not a square.

    Example:
        >>> max(dict(margulis(100).degree).values())
        8

    References:
        O. Gabber, Z. Galil: Explicit constructions of linear-sized superconcentrators, J. Comput. Syst. Sci. 22 (1981),
        doi:10.1016/0022-0000(81)90040-4.
    """
    require_agents(num_agents, "margulis")
    n = math.isqrt(num_agents)
    if n * n != num_agents:
        raise ValueError(
            f"margulis: num_agents is {num_agents}, but must be a square, such as {n * n} or {(n + 1) ** 2}"
        )
    x, y = np.divmod(np.arange(num_agents), n)
    across = [(x + 2 * y + i) % n * n + y for i in (0, 1)]
    along = [x * n + (y + 2 * x + i) % n for i in (0, 1)]
    edges = np.column_stack([np.tile(np.arange(num_agents), 4), np.concatenate([*across, *along])])
    return from_edges(num_agents, edges[edges[:, 0] != edges[:, 1]])


@TOPOLOGIES.register()
def paley(num_agents: int) -> nx.Graph:
    """Agents modulo a prime K, joined if their difference is a square: deterministic, but random-looking.

    Every agent has (K - 1) / 2 neighbours. The eigenvalues of the adjacency matrix are (K - 1) / 2 and
    ``(-1 ± √K) / 2``, the latter two with multiplicity (K - 1) / 2 each.

    Args:
        num_agents: Number of agents K, a prime of the form 4 m + 1.

    Returns:
        Graph on the nodes 0..K-1.

    Raises:
        ValueError: If ``num_agents`` is not a prime of the form 4 m + 1.

    Example:
        >>> sorted(paley(13)[0])
        [1, 3, 4, 9, 10, 12]

    References:
        F. R. K. Chung, R. L. Graham, R. M. Wilson: Quasi-random graphs, Combinatorica 9 (1989), doi:10.1007/BF02125347.
    """
    require_agents(num_agents, "paley")
    require_room(num_agents * (num_agents - 1) / 4, "paley")
    if not _allows_paley(num_agents):
        below = next((q for q in range(num_agents, 4, -1) if _allows_paley(q)), 5)
        above = next(q for q in itertools.count(max(num_agents, below + 1)) if _allows_paley(q))
        raise ValueError(
            f"paley: num_agents is {num_agents}, but must be a prime of the form 4 m + 1, such as {below} or {above}"
        )
    agents = np.arange(num_agents)
    squares = np.unique(agents[1:] ** 2 % num_agents)
    edges = np.column_stack([np.repeat(agents, len(squares)), (agents[:, None] + squares).ravel() % num_agents])
    return from_edges(num_agents, edges)


def _allows_paley(number: int) -> bool:
    return number % 4 == 1 and number > 1 and all(number % d for d in range(3, math.isqrt(number) + 1, 2))
