"""Checks that families of graphs share, and policies."""

import math
from collections.abc import Sequence

import networkx as nx
import numpy as np
from numpy.typing import NDArray


def require_agents(num_agents: int, family: str, *, least: int = 1) -> None:
    """Refuse a graph without agents, or a sequence in which nobody has anybody to meet.

    Args:
        num_agents: Number of agents K that was asked for.
        family: Name of the topology, for the message.
        least: How many it needs.

    Raises:
        ValueError: If ``num_agents`` is below that.
    """
    if num_agents < least:
        raise ValueError(f"{family}: num_agents is {num_agents}, but must be at least {least}")


def require_period(period: int, family: str) -> None:
    """Refuse a sequence without steps.

    Args:
        period: Number of steps that was asked for.
        family: Name of the topology, for the message.

    Raises:
        ValueError: If ``period`` is below one.
    """
    if period < 1:
        raise ValueError(f"{family}: period is {period}, but must be at least 1")


def require_probability(probability: float, family: str) -> None:
    """Refuse a probability with which no edge would be drawn.

    Args:
        probability: The probability that was asked for.
        family: Name of the topology, for the message.

    Raises:
        ValueError: If ``probability`` is outside (0, 1].
    """
    if not 0 < probability <= 1:
        raise ValueError(f"{family}: probability is {probability}, but must lie in (0, 1]")


def require_seed(seed: int) -> None:
    """Refuse a seed that no generator takes.

    Args:
        seed: The seed of a random graph.

    Raises:
        ValueError: If ``seed`` is negative.
    """
    if seed < 0:
        raise ValueError(f"the seed of a random graph is {seed}, but must not be negative")


def require_undirected(graph: nx.Graph, policy: str) -> None:
    """Refuse a directed graph.

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
    """A positive number for each agent.

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
            f"the policy {policy} has {setting} of length {len(values)}, but needs {len(graph)}, one an agent"
        )
    for agent, value in zip(graph, values, strict=True):
        if not (isinstance(value, (int, float, np.number)) and 0 < value < math.inf):
            where = f"the node attribute {given!r}" if isinstance(given, str) else setting
            raise ValueError(
                f"the policy {policy} finds {value} as {where} of agent {agent!r}, but needs a positive number for "
                "every agent"
            )
    return np.array(values, dtype=np.float64)
