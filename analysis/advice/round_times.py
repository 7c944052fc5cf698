"""How long a step takes on a graph, and what makes it take so long."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from basinet.sim.clock.clock import Clock
from basinet.sim.clock.data_flow import DataFlow, StepFlow
from basinet.sim.clock.pace import Pace, pace
from basinet.topologies.networks import Delays, Network
from basinet.topologies.timing.after_the_last import after_the_last
from basinet.topologies.timing.all_reduces import Round

__all__ = ["BOUNDS", "Choice", "ComputeDraws", "RoundTime", "round_time", "scaled"]

BOUNDS = ("compute", "stragglers", "latency", "bandwidth")
"""What can bound a step: computing as long as agents do on average, more than that, or messages."""

_WARM = 1 / 3
"""Share of the simulated steps after which waiting has become what it is in the long run."""


@dataclass(frozen=True, eq=False)
class ComputeDraws:
    """How long agents compute in some steps, the same for all graphs.

    Attributes:
        times: Nanoseconds by step, replica and agent, int64 [N, R, K].
        means: Those of each agent in expectation, or on average over many steps, int64 [K].
    """

    times: NDArray[np.int64]
    means: NDArray[np.int64]

    @property
    def vary(self) -> bool:
        """Whether an agent takes longer in some steps than in others."""
        return bool((self.times != self.times[0, 0]).any())

    def spread(self, power: float) -> "ComputeDraws":
        """Return times whose ratios to their mean are raised to a power, with the same mean.

        Args:
            power: Such as 2; that is twice the standard deviation of their logarithms.

        Returns:
            The times.
        """
        mean = max(1.0, self.times.mean())
        raised = (self.times / mean) ** power
        times = np.rint(raised * (mean / max(raised.mean(), 1e-300))).astype(np.int64)
        return ComputeDraws(times, np.rint(times.mean(axis=(0, 1))).astype(np.int64))


@dataclass(frozen=True, eq=False)
class Choice:
    """A graph, or a way to sum over all agents, with what its steps wait for.

    Attributes:
        flow: The data flow of a step, with the sizes of messages.
        weights: The mixing matrices of a period, by kind of edge.
        collective: The rounds of a sum over all agents, given the network and the bytes of a row; None without.
    """

    flow: DataFlow
    weights: Mapping[str, Sequence[csr_array]]
    collective: Callable[[Network, int], Sequence[Round]] | None = None

    def collectives(self, network: Network) -> dict[int, Sequence[Round]]:
        """Return the rounds of the sums of a step on a network, by the bytes of a row."""
        steps = self.flow.first + self.flow.cycle
        sizes = {event.size for step in steps for event in step.events if event.kind == "collective"}
        return {} if self.collective is None else {size: self.collective(network, size) for size in sizes}


@dataclass(frozen=True)
class RoundTime:
    """How long a step takes in the long run.

    Attributes:
        step: Nanoseconds.
        error: Its standard error over replicas; 0 if it is exact.
        parts: What it consists of, nanoseconds by name in `BOUNDS`.
        critical: Who is waited for: the slowest agent, or link.
    """

    step: float
    error: float
    parts: Mapping[str, float]
    critical: str

    @property
    def bound(self) -> str:
        """The largest part."""
        return max(BOUNDS, key=self.parts.__getitem__)


def scaled(flow: DataFlow, factor: float) -> DataFlow:
    """Return a data flow whose messages have other sizes.

    Args:
        flow: The data flow.
        factor: By which sizes are multiplied.

    Returns:
        The data flow.
    """

    def steps(some: tuple[StepFlow, ...]) -> tuple[StepFlow, ...]:
        return tuple(
            replace(step, events=tuple(replace(event, size=round(event.size * factor)) for event in step.events))
            for step in some
        )

    return DataFlow(steps(flow.first), steps(flow.cycle))


def round_time(choice: Choice, network: Network, draws: ComputeDraws, *, overlap: bool = True) -> RoundTime:
    """Compute how long a step takes: exactly if compute times are constant, else by simulating steps.

    Args:
        choice: What steps wait for.
        network: What messages take.
        draws: How long agents compute.
        overlap: Whether agents compute while they send and wait.

    Returns:
        The time.

    Raises:
        ValueError: The network lacks a link that is used.
    """
    rounds = choice.collectives(network)
    sums = {size: _parts(network, some, draws.means[:, None]) for size, some in rounds.items()}
    found = pace(choice.flow, choice.weights, network=network, compute=draws.means, collectives=sums, overlap=overlap)
    step, error = float(found.step), 0.0
    if draws.vary:
        count, replicas, agents = draws.times.shape
        clock = Clock(
            choice.flow,
            choice.weights,
            agents=agents,
            replicas=replicas,
            network=network,
            compute=lambda step: draws.times[step],
            collective=lambda size: after_the_last(network, rounds[size]),
            overlap=overlap,
        )
        warm = int(count * _WARM)
        begin = clock.advance(warm).copy()
        slopes = (clock.advance(count) - begin) / (count - warm)
        simulated, error = float(slopes.mean()), float(slopes.std(ddof=1) / np.sqrt(replicas))
        # Waiting for random times never takes less than waiting for their means, except in the queue of a server.
        step = simulated if rounds else max(step, simulated)
    average = draws.means.mean()
    usual = sum(float(part) * min(1.0, average / max(1, draws.means[k])) for k, part in found.compute.items())
    latency, transfer = float(found.latency), float(found.transfer)
    parts = {"compute": usual, "latency": latency, "bandwidth": transfer}
    parts["stragglers"] = max(0.0, step - sum(parts.values()))
    return RoundTime(step, error, {part: float(parts[part]) for part in BOUNDS}, _critical(found, network, draws.means))


def _parts(network: Network, rounds: Sequence[Round], ready: NDArray[np.int64]) -> Delays:
    """Return what rounds take after the last agent is ready, and what of that would be the same without bytes."""
    latency = after_the_last(network, [replace(part, size=0) for part in rounds])(ready)
    return Delays(latency, after_the_last(network, rounds)(ready) - latency)


def _critical(found: Pace, network: Network, compute: NDArray[np.int64]) -> str:
    """Name what is waited for: links, if messages take most of the cycle, or else the agent that computes longest."""
    names, sending = network.names, found.latency + found.transfer
    if sending <= sum(found.compute.values()):
        slowest = max(found.compute, key=lambda k: (compute[k], -k), default=0)
        return f"agent {names[slowest]}" if compute[slowest] > compute.min() else "every agent"
    if not found.links:
        return "every agent"
    sender, receiver = max(found.links, key=lambda link: (found.links[link], [-k for k in link]))
    if {*found.links} == {(sender, receiver), (receiver, sender)}:
        return f"{names[sender]} ↔ {names[receiver]}"
    many = f", of {len(found.links)} links" if len(found.links) > 1 else ""
    return f"{names[sender]} → {names[receiver]}{many}"
