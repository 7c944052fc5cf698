"""The pace of a run whose agents always compute and send as long: the cycle of waiting that sets it, and its parts."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import lcm
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from basinet.sim.clock.data_flow import DataFlow
from basinet.topologies.mixing_matrix import edges_of
from basinet.topologies.networks import Delays, Network
from basinet.topologies.timing.cycle_ratio import critical_ratio

__all__ = ["Pace", "pace"]

Numbers = NDArray[np.int64]

_COMPUTE, _LATENCY, _TRANSFER = range(3)


class Pace(NamedTuple):
    """How long a step takes in the long run, and the critical cycle of waiting, which makes it take so long.

    Attributes:
        step: Nanoseconds per step: the sum of all parts.
        compute: For how much of it each agent of the cycle computes, by its number.
        latency: How much of it messages are on the way.
        transfer: How much of it they take to be sent.
        links: What messages of the cycle take, by sender and receiver.
    """

    step: Fraction
    compute: Mapping[int, Fraction]
    latency: Fraction
    transfer: Fraction
    links: Mapping[tuple[int, int], Fraction]


class _Graph:
    """Moments that wait for others, collected an array at a time; an agent's own part has it at both ends."""

    def __init__(self) -> None:
        self.count = 0
        self._columns: tuple[list[Numbers], ...] = tuple([] for _ in range(7))
        self._uses: tuple[list[Numbers], ...] = tuple([] for _ in range(7))

    def moments(self, count: int) -> Numbers:
        """Return the numbers of new moments."""
        self.count += count
        return np.arange(self.count - count, self.count)

    def wait(self, moments: Numbers, others: ArrayLike, *what: ArrayLike) -> None:
        """Let moments follow others: `what` is how long after, of how many steps ago, the part, sender and receiver."""
        for column, values in zip(self._columns, (moments, others, *what), strict=True):
            column.append(np.broadcast_to(np.asarray(values, dtype=np.int64), moments.shape))

    def occupy(self, lines: Numbers, moments: Numbers, takes: ArrayLike, step: int, *what: ArrayLike) -> None:
        """Let moments also follow those before on their lines, in the order of these calls, every period anew."""
        for column, values in zip(self._uses, (lines, moments, takes, step, *what), strict=True):
            column.append(np.broadcast_to(np.asarray(values, dtype=np.int64), moments.shape))

    def arcs(self, period: int) -> tuple[Numbers, ...]:
        """Return receivers, senders, delays, steps, parts and both ends of all arcs."""
        if self._uses[0]:
            lines, *uses = map(np.concatenate, self._uses)
            order = np.argsort(lines, kind="stable")
            lines, (moments, takes, step, *what) = lines[order], [use[order] for use in uses]
            begins = np.append(True, lines[1:] != lines[:-1])
            last = np.append(np.flatnonzero(begins)[1:], len(lines)) - 1
            before = np.arange(-1, len(lines) - 1)
            before[begins] = last
            self.wait(moments, moments[before], takes, step - step[before] + period * begins, *what)
        return tuple(map(np.concatenate, self._columns))


def pace(
    flow: DataFlow,
    weights: Mapping[str, Sequence[csr_array]],
    *,
    network: Network,
    compute: Numbers,
    collectives: Mapping[int, Delays],
    overlap: bool = True,
) -> Pace:
    """Compute how long a step takes in the long run, exactly, and what it consists of.

    Moments wait for each other as in the recursion of `Clock`; the largest ratio of time to steps on a cycle of them is
    what a step takes.

    Args:
        flow: What the strategy's steps wait for.
        weights: The mixing matrices of a period, [K, K] each, by kind of edge.
        network: What messages take.
        compute: What a pass of a batch takes each agent, int64 [K] nanoseconds.
        collectives: What collectives take, by the bytes of a row.
        overlap: Whether agents compute while they send and wait.

    Returns:
        The pace.

    Raises:
        ValueError: The network lacks a link that is used.
    """
    graph, agents = _Graph(), np.arange(network.agents)
    used = sorted({str(event.edges) for step in flow.cycle for event in step.events if event.kind == "exchange"})
    period = lcm(len(flow.cycle), *(len(weights[kind]) for kind in used))
    first = -(-len(flow.first) // period) * period  # begins with the graph of step 0
    steps = [flow.at(first + i).events for i in range(period)]
    ends = [
        [graph.moments(1).repeat(len(agents)) if e.kind == "collective" else graph.moments(len(agents)) for e in step]
        for step in steps
    ]
    for i, step in enumerate(steps):
        latest = next((ends[i - ago][-1], ago) for ago in range(1, period + 1) if ends[i - ago])
        for event, end in zip(step, ends[i], strict=True):
            before = [(ends[(i - ago) % period][place], ago) for place, ago in event.waits]
            if not overlap:
                before.append(latest)
                latest = end, 0
            if event.kind == "compute":
                takes = np.rint(compute * event.share).astype(np.int64)
                graph.occupy(agents, end, takes, i, _COMPUTE, agents, agents)
                for others, ago in before:
                    graph.wait(end, others, takes, ago, _COMPUTE, agents, agents)
                continue
            if event.kind == "collective":
                both = collectives[event.size]
                sent = graph.moments(1)
                for others, ago in before:
                    graph.wait(sent.repeat(len(agents)), others, both.transfer, ago, _TRANSFER, agents, agents)
                graph.wait(end[:1], sent, both.latency, 0, _LATENCY, 0, 0)
                continue
            into, out, _ = edges_of(weights[str(event.edges)][i % len(weights[str(event.edges)])])
            links = network.links_between(out, into)
            into, out = network.receivers[links], network.senders[links]
            latency, transfer = network.delays(links, event.size)
            sent = graph.moments(len(links))
            graph.occupy(len(agents) * (1 + into) + out, sent, transfer, i, _TRANSFER, out, into)
            graph.wait(end[into], sent, latency, 0, _LATENCY, out, into)
            graph.wait(end, end, 0, period, _LATENCY, agents, agents)
            if not overlap:
                graph.wait(end[out], sent, 0, 0, _TRANSFER, out, into)
            for others, ago in before:
                graph.wait(sent, others[out], transfer, ago, _TRANSFER, out, into)
                graph.wait(end, others, 0, ago, _LATENCY, agents, agents)
    arcs = graph.arcs(period)
    found = critical_ratio(graph.count, *arcs[:4])
    _, _, delays, rounds, parts, senders, receivers = (column[list(found.arcs)] for column in arcs)
    share = 1 / Fraction(int(rounds.sum()))

    def total(chosen: NDArray[np.bool_]) -> Fraction:
        return share * int(delays[chosen].sum())

    computes, passed = parts == _COMPUTE, np.unique(np.stack([senders, receivers]), axis=1).T.tolist()
    return Pace(
        found.growth,
        {k: total(computes & (senders == k)) for k in np.unique(senders[computes]).tolist()},
        total(parts == _LATENCY),
        total(parts == _TRANSFER),
        {(k, j): total((senders == k) & (receivers == j)) for k, j in passed if k != j},
    )
