"""Sequences of graphs on which any number of agents average exactly in a few steps, with few neighbours per step.

A step is a graph with its weights: edges [E, 2] and their weights [E].
"""

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from basinet.topologies.building import from_edges
from basinet.topologies.requirements import require_agents, require_room
from basinet.topologies.sequences.graph_sequence import SEQUENCES, GraphSequence

__all__ = ["base_graph", "hyper_hypercube", "simple_base_graph"]

Agents = NDArray[np.int64]
Step = tuple[Agents, NDArray[np.float64]]


@SEQUENCES.register()
def hyper_hypercube(num_agents: int, *, peers: int = 1) -> GraphSequence:
    """Agents that differ in a single digit average, digit by digit, until all agree exactly.

    The agents' numbers are written with the fewest digits whose bases, at most ``peers + 1``, have the product K;
    with one peer it is the one-peer hypercube. The edges carry their weights, one over the base of the digit.

    Args:
        num_agents: Number of agents K without a prime factor above ``peers + 1``.
        peers: Largest number k of neighbours per step, at least 1.

    Returns:
        A sequence of graphs whose own policy is `weights`, of as many steps as there are digits.

    Raises:
        ValueError: If K has a larger prime factor.

    Example:
        >>> [sorted(graph[0]) for graph in hyper_hypercube(12, peers=3)]
        [[3, 6, 9], [1, 2]]

    References:
        Y. Takezawa et al.: Beyond exponential graph: communication-efficient topologies for decentralized learning via
        finite-time convergence, NeurIPS 2023, arXiv:2305.11420.
    """
    _require("hyper_hypercube", num_agents, peers)
    if _factors(num_agents, peers + 1) is None:
        raise ValueError(
            f"hyper_hypercube: num_agents is {num_agents}, but must have no prime factor above {peers + 1}, one more "
            "than peers; base_graph takes any number"
        )
    return _sequence(num_agents, _hypercube(np.arange(num_agents)[None], peers + 1))


@SEQUENCES.register()
def simple_base_graph(num_agents: int, *, peers: int = 1) -> GraphSequence:
    """Any number of agents agree exactly after at most ``2 log_{k+1} K + 2`` steps, with at most k neighbours per step.

    With K written in base k + 1, every nonzero digit a_l stands for a set of ``a_l (k+1)^l`` agents. Each set averages
    by itself. Then the largest exchanges with all others: each of these meets one agent of every (k+1)^l of the set, so
    that every such part then has the mean of all agents, and so have the other sets together, whose largest continues
    in the same way. Finally the parts average. The edges carry their weights. Agents with nothing left to do average
    with each other, so that no step is idle.

    Args:
        num_agents: Number of agents K, at least 1.
        peers: Largest number k of neighbours per step, at least 1.

    Returns:
        A sequence of graphs whose own policy is `weights`.

    Example:
        >>> [sorted(graph.edges(data="weight")) for graph in simple_base_graph(3)][1:]
        [[(0, 2, 0.6666666666666666)], [(0, 1, 0.5)]]

    References:
        Y. Takezawa et al.: Beyond exponential graph: communication-efficient topologies for decentralized learning via
        finite-time convergence, NeurIPS 2023, arXiv:2305.11420.
    """
    _require("simple_base_graph", num_agents, peers)
    return _sequence(num_agents, _simple(num_agents, peers + 1))


@SEQUENCES.register()
def base_graph(num_agents: int, *, peers: int = 1) -> GraphSequence:
    """The Base-(k+1) graph: any number of agents agree exactly, in no more steps than on the simple one.

    Of K = p q agents, where p holds the prime factors up to k + 1, p groups of q average by a simple Base-(k+1) graph,
    then q groups of p by a hyper-hypercube; if a simple one on all K agents is shorter, it is used instead.

    Args:
        num_agents: Number of agents K, at least 1.
        peers: Largest number k of neighbours per step, at least 1.

    Returns:
        A sequence of graphs whose own policy is `weights`, of at most ``2 log_{k+1} K + 2`` steps.

    Example:
        >>> len(simple_base_graph(6)), len(base_graph(6))
        (5, 4)

    References:
        Y. Takezawa et al.: Beyond exponential graph: communication-efficient topologies for decentralized learning via
        finite-time convergence, NeurIPS 2023, arXiv:2305.11420.
    """
    _require("base_graph", num_agents, peers)
    smooth, rest = 1, num_agents
    for factor in range(2, min(peers + 1, num_agents) + 1):
        while rest % factor == 0:
            smooth, rest = smooth * factor, rest // factor
    groups = np.arange(num_agents).reshape(smooth, rest)
    split = [_within(groups, step) for step in _simple(rest, peers + 1)] + _hypercube(groups.T, peers + 1)
    return _sequence(num_agents, min(split, _simple(num_agents, peers + 1), key=len))


def _require(family: str, num_agents: int, peers: int) -> None:
    require_agents(num_agents, family)
    if peers < 1:
        raise ValueError(f"{family}: peers is {peers}, but must be at least 1")
    require_room(num_agents * min(peers, num_agents - 1) / 2, family)


def _sequence(num_agents: int, steps: list[Step]) -> GraphSequence:
    nothing = _join([])  # a single agent has nothing to do
    return GraphSequence([
        from_edges(num_agents, edges, weight=weight, policy="weights") for edges, weight in steps or [nothing]
    ])  # fmt: skip


@cache
def _factors(number: int, most: int) -> tuple[int, ...] | None:
    """Return the fewest factors, none above `most`, with the product `number`; None if there are none."""
    if number == 1:
        return ()
    found = [
        (factor, *others)
        for factor in range(min(most, number), 1, -1)
        if number % factor == 0 and (others := _factors(number // factor, most)) is not None
    ]
    return min(found, key=len, default=None)


def _hypercube(groups: Agents, base: int) -> list[Step]:
    """Average each group (a row) exactly by digits; its size has no prime factor above the base."""
    sides = _factors(groups.shape[1], base)
    assert sides is not None
    cube = groups.reshape(len(groups), *sides)
    return [_cliques(np.moveaxis(cube, axis, -1).reshape(-1, side)) for axis, side in enumerate(sides, 1)]


def _simple(num_agents: int, base: int) -> list[Step]:
    everyone = np.arange(num_agents)
    if _factors(num_agents, base) is not None:
        return _hypercube(everyone[None], base)
    sets = _digits(everyone, base)
    alone = [_hypercube(agents.reshape(1, -1), base) for agents in sets]
    parts = [_hypercube(agents, base) for agents in sets]
    last = len(sets) - 1
    steps = [_join(_in_turn(rounds, t) for rounds in alone) for t in range(len(alone[0]))]
    for t in range(1 + len(parts[0])):
        done = [_in_turn(rounds, t - number - 1) for number, rounds in enumerate(parts[: min(t, last)])]
        if t < last:
            others = everyone[sets[t].max() + 1 :]
            steps.append(_join([*done, _exchange(sets[t], others, base)]))
        else:
            steps.append(_join([*done, _in_turn(alone[last], t - last)]))
    return steps


def _digits(agents: Agents, base: int) -> list[Agents]:
    """Split agents by the digits of their number, the highest first: a set [a_l, base^l] for each but zeros."""
    power, sets = 1, []
    while power * base <= len(agents):
        power *= base
    while len(agents):
        digit = len(agents) // power
        if digit:
            sets.append(agents[: digit * power].reshape(digit, power))
        agents, power = agents[digit * power :], power // base
    return sets


def _exchange(agents: Agents, others: Agents, base: int) -> Step:
    """Match each of the others, fewer than n, with an agent of every row of a set [a, n]; the rest average."""
    digit, count = len(agents), len(others)
    edges = np.stack([agents[:, :count], np.broadcast_to(others, (digit, count))], axis=-1).reshape(-1, 2)
    meeting = edges, np.full(len(edges), agents.size / (digit * (agents.size + count)))
    free = agents[:, count:].ravel()
    whole = len(free) // base * base
    return _join([meeting, _cliques(free[:whole].reshape(-1, base)), _cliques(free[None, whole:])])


def _cliques(groups: Agents) -> Step:
    """Average each group (a row) exactly in one step."""
    size = groups.shape[1]
    first, second = np.triu_indices(size, 1)
    edges = np.stack([groups[:, first], groups[:, second]], axis=-1).reshape(-1, 2)
    return edges, np.full(len(edges), 1 / max(size, 1))


def _within(groups: Agents, step: Step) -> Step:
    """Apply a step on the numbers 0..n-1 in each of the groups [B, n]."""
    edges, weight = step
    return groups[:, edges].reshape(-1, 2), np.tile(weight, len(groups))


def _in_turn(rounds: list[Step], t: int) -> Step:
    return rounds[t % len(rounds)] if rounds else _join([])


def _join(steps: Iterable[Step]) -> Step:
    parts = [(np.empty((0, 2), dtype=np.int64), np.empty(0)), *steps]
    return np.concatenate([edges for edges, _ in parts]), np.concatenate([weight for _, weight in parts])
