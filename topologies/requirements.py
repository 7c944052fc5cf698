"""Checks shared by topologies and policies."""

import math
from collections.abc import Sequence

import networkx as nx
import numpy as np
from numpy.typing import NDArray

MOST_EDGES = 10_000_000
"""Most edges of a graph, or of all graphs of a sequence: networkx takes about half a KiB for each."""


def require_agents(num_agents: int, family: str, *, least: int = 1) -> None:
    """Raise if there are too few agents, or too many.

    Args:
        num_agents: Requested number of agents K.
        family: Name of the topology, for the message.
        least: Smallest number allowed.

    Raises:
        ValueError: If ``num_agents`` is below ``least``, or above the largest size of a graph.
    """
    if not least <= num_agents <= MOST_EDGES:
        bound = f"at least {least}" if num_agents < least else f"at most {MOST_EDGES:,}"
        raise ValueError(f"{family}: num_agents is {num_agents}, but must be {bound}")


def require_room(edges: float, family: str) -> None:
    """Raise if a graph, or a sequence of graphs, would be too large to build.

    Args:
        edges: Number of edges, at least or on average.
        family: Name of the topology, for the message.

    Raises:
        ValueError: If it is too large.
    """
    if edges > MOST_EDGES:
        raise ValueError(f"{family}: there would be {edges:,.0f} edges, but there must be at most {MOST_EDGES:,}")


def require_period(period: int, num_agents: int, family: str) -> None:
    """Raise if a sequence has too few or too many steps.

    Args:
        period: Requested number of steps.
        num_agents: Number of agents K, each with half an edge per step.
        family: Name of the topology, for the message.

    Raises:
        ValueError: If ``period`` is below one, or too large.
    """
    if period < 1:
        raise ValueError(f"{family}: period is {period}, but must be at least 1")
    require_room(period * num_agents / 2, family)


def require_probability(probability: float, family: str) -> None:
    """Raise if a probability is outside (0, 1].

    Args:
        probability: The probability.
        family: Name of the topology, for the message.

    Raises:
        ValueError: If ``probability`` is outside (0, 1].
    """
    if not 0 < probability <= 1:
        raise ValueError(f"{family}: probability is {probability}, but must lie in (0, 1]")


def require_seed(seed: int) -> None:
    """Raise if a seed is negative.

    Args:
        seed: The seed of a random graph.

    Raises:
        ValueError: If ``seed`` is negative.
    """
    if seed < 0:
        raise ValueError(f"the seed of a random graph is {seed}, but must not be negative")


def require_undirected(graph: nx.Graph, policy: str) -> None:
    """Raise if a graph is directed.

    Args:
        graph: The graph.
        policy: Name of the policy, for the message.

    Raises:
        ValueError: If ``graph`` is directed.
    """
    if graph.is_directed():
        raise ValueError(
            f"the policy {policy} needs an undirected graph, but this one is directed; "
            "uniform, laplacian and sinkhorn allow both"
        )


def agent_values(graph: nx.Graph, given: str | Sequence[float], policy: str, setting: str) -> NDArray[np.float64]:
    """Return one positive number per agent.

    Args:
        graph: The graph.
        given: The numbers, in the graph's node order, or the name of the node attribute that holds them.
        policy: Name of the policy, for the message.
        setting: Name of the setting, for the message.

    Returns:
        The numbers [K].

    Raises:
        ValueError: If there are not K numbers, or one of them is not positive and finite.
    """
    values = [graph.nodes[agent].get(given) for agent in graph] if isinstance(given, str) else list(given)
    if len(values) != len(graph):
        raise ValueError(
            f"the policy {policy} has {setting} of length {len(values)}, but needs {len(graph)}, one per agent"
        )
    for agent, value in zip(graph, values, strict=True):
        if not (isinstance(value, (int, float, np.number)) and 0 < value < math.inf):
            where = f"the node attribute {given!r}" if isinstance(given, str) else setting
            raise ValueError(
                f"the policy {policy} finds {value} as {where} of agent {agent!r}, but needs a positive number for "
                "every agent"
            )
    return np.array(values, dtype=np.float64)
