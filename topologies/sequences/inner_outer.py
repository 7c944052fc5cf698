"""Agents that share machines: in turn, one agent of each talks to other machines, the rest among themselves."""

import math
from collections.abc import Callable

import numpy as np

from basinet.topologies.building import from_edges
from basinet.topologies.requirements import require_agents, require_room
from basinet.topologies.sequences.graph_sequence import SEQUENCES, GraphSequence

__all__ = ["inner_outer_exponential", "inner_outer_ring"]


@SEQUENCES.register()
def inner_outer_ring(num_agents: int, *, local_size: int = 4) -> GraphSequence:
    """An agent sends to the next on its machine; in turn, one of each sends to its counterpart on the next machine.

    Machine j hosts the agents ``j m .. j m + m - 1``. At step t, agent ``t mod m`` of each machine sends to the agent
    of the same position on machine j + 1, while the others of each machine send around a ring without it. The graphs'
    own policy is `uniform`: one half each. Only one agent of each machine at a time uses the slow links between
    machines. It is BlueFog's inner-outer ring.

    Args:
        num_agents: Number of agents K: a multiple of m, at least 2 m.
        local_size: Number of agents m on a machine, at least 3.

    Returns:
        A sequence of directed graphs of period m, in each of which every agent sends to one and receives from one.

    Example:
        >>> [[list(graph[k])[0] for k in range(6)] for graph in inner_outer_ring(6, local_size=3)]
        [[3, 2, 1, 0, 5, 4], [2, 4, 0, 5, 1, 3], [1, 0, 5, 4, 3, 2]]

    References:
        B. Ying et al.: BlueFog: make decentralized algorithms practical for optimization and deep learning, 2021,
        arXiv:2111.04287.
    """
    machines = _require_machines("inner_outer_ring", num_agents, local_size)
    return _inner_outer(machines, local_size, local_size, lambda _: 1, lambda _: 1)


@SEQUENCES.register()
def inner_outer_exponential(num_agents: int, *, local_size: int = 4) -> GraphSequence:
    """Like `inner_outer_ring`, but to distances that double from step to step, on the machine and between machines.

    At step t, agent ``t mod m`` of each machine sends to the agent of the same position ``2^(t mod a)`` machines ahead,
    and the others of each machine send ``2^(t mod b)`` places ahead around a ring without it, where 2^(a-1) and 2^(b-1)
    are the largest powers of two that do not go all the way around. It is BlueFog's inner-outer exponential-2 graph.

    Args:
        num_agents: Number of agents K: a multiple of m, at least 2 m.
        local_size: Number of agents m on a machine, at least 3.

    Returns:
        A sequence of directed graphs, in each of which every agent sends to one and receives from one; its period is
        the least common multiple of m, a and b.

    Example:
        >>> sequence = inner_outer_exponential(20, local_size=4)
        >>> len(sequence), [list(graph[0])[0] for graph in sequence][:5]
        (12, [4, 3, 1, 2, 8])

    References:
        B. Ying et al.: BlueFog: make decentralized algorithms practical for optimization and deep learning, 2021,
        arXiv:2111.04287.
    """
    machines = _require_machines("inner_outer_exponential", num_agents, local_size)
    inside, outside = (local_size - 2).bit_length(), (machines - 1).bit_length()
    period = math.lcm(local_size, inside, outside)
    return _inner_outer(machines, local_size, period, lambda t: 2 ** (t % inside), lambda t: 2 ** (t % outside))


def _require_machines(family: str, num_agents: int, local_size: int) -> int:
    if local_size < 3:
        raise ValueError(f"{family}: local_size is {local_size}, but must be at least 3")
    if num_agents < 2 * local_size or num_agents % local_size:
        raise ValueError(
            f"{family}: num_agents is {num_agents}, but must be a multiple of local_size, {local_size}, and at least "
            f"{2 * local_size}, two machines"
        )
    require_agents(num_agents, family)
    return num_agents // local_size


def _inner_outer(
    machines: int, local_size: int, period: int, inner: Callable[[int], int], outer: Callable[[int], int]
) -> GraphSequence:
    require_room(period * machines * local_size, "the sequence")
    agents = np.arange(machines * local_size).reshape(machines, local_size)

    def edges(t: int) -> np.ndarray:
        going = t % local_size
        receivers = np.empty_like(agents)
        receivers[:, going] = np.roll(agents[:, going], -outer(t))
        staying = np.delete(agents, going, axis=1)
        receivers[:, np.arange(local_size) != going] = np.roll(staying, -inner(t), axis=1)
        return np.column_stack([agents.ravel(), receivers.ravel()])

    return GraphSequence([from_edges(agents.size, edges(t), directed=True, policy="uniform") for t in range(period)])
