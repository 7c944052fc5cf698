"""The clock: when each step of a run ends on a described network, in simulated time."""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_array

from basinet.sim.clock.compute_times import ComputeTimes
from basinet.sim.clock.data_flow import DataFlow, Waits
from basinet.sim.clock.laws.stalled_time import stalled
from basinet.sim.clock.participation import absent
from basinet.sim.experiment.component import Component, ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.faults.outages import Outages
from basinet.sim.setup.setup import Setup
from basinet.topologies.mixing_matrix import edges_of
from basinet.topologies.networks import MissingLink, Network
from basinet.topologies.timing.after_the_last import after_the_last
from basinet.topologies.timing.exchanges import exchange

__all__ = ["TIMES", "Clock", "Doing", "clock_of", "moments", "remedy"]

TIMES = ("simulated_time", "compute_share", "communication_share", "idle_share")
"""What evaluations say of time."""

Doing = Literal["compute", "send", "communication", "idle"]
"""Computing; sending, beside other things; waiting for the network; and waiting for slower agents."""


Observer = Callable[[Doing, int, np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class _Moment:
    """When something has ended on each agent.

    Attributes:
        time: Nanoseconds from the start, int64 [K, R].
        network: How long the agent has waited for the network since it last computed, as opposed to for other agents.
    """

    time: np.ndarray
    network: np.ndarray

    def or_later(self, other: "_Moment") -> "_Moment":
        """Return when both have ended; of two that end at once, the network is waited for as long as for either."""
        later = np.where(other.time > self.time, other.network, self.network)
        either = np.minimum(self.network, other.network)
        return _Moment(np.maximum(self.time, other.time), np.where(self.time == other.time, either, later))


@dataclass(frozen=True)
class _Route:
    """The edges of a mixing matrix, by receivers.

    Attributes:
        starts: The first edge into each agent, then the number of edges, int64 [K + 1].
        senders: Sender of each edge, int64 [L].
        edges: Number of each edge among those of all matrices.
        links: The network's number of it; None without a network.
    """

    starts: np.ndarray
    senders: np.ndarray
    edges: np.ndarray
    links: np.ndarray | None


class Clock:
    """Times of the steps of all agents of all replicas: a recursion of maxima and sums, exact in whole nanoseconds.

    An agent computes when it has what it needs and is not computing. A message leaves when it is ready and the edge
    has carried the messages before it, in the order in which the strategy sends them. An agent has an exchange when all
    that it hears has arrived, a collective when it is over for all. Without overlap, an agent begins what the strategy
    calls for next when all before has ended and its messages have left.

    Args:
        flow: What the strategy's steps wait for.
        weights: The mixing matrices of a period, [K, K] each, by kind of edge.
        network: What messages take; None for no time.
        compute: What a pass of a batch takes each agent in a step, given its number: nanoseconds, int64 [R, K]; None
            for no time.
        collective: What a collective takes after the last agent is ready, given the bytes of a row: nanoseconds, int64
            [R], of when agents are ready, int64 [K, R]; None for no time.
        overlap: Whether agents compute while they send and wait.
        absent: Which agents are absent in a step, given its number, bool [R, K] or None: they neither compute nor send
            or hear anything.
        agents: K.
        replicas: R.

    Attributes:
        step: Number of steps taken.

    Raises:
        MissingLink: The network lacks a link that is used.
    """

    def __init__(
        self,
        flow: DataFlow,
        weights: Mapping[str, Sequence[csr_array]],
        *,
        agents: int,
        replicas: int = 1,
        network: Network | None = None,
        compute: Callable[[int], np.ndarray] | None = None,
        collective: Callable[[int], Callable[[np.ndarray], np.ndarray]] | None = None,
        overlap: bool = True,
        absent: Callable[[int], np.ndarray | None] = lambda step: None,
    ) -> None:
        self._flow = flow
        self._network = network
        self._compute = compute
        self._overlap = overlap
        self._absent = absent
        self._away: np.ndarray | None = None
        events = {event for step in flow.first + flow.cycle for event in step.events}
        sums = {event.size for event in events if event.kind == "collective"}
        self._sums = {} if collective is None else {size: collective(size) for size in sums}
        kinds = {str(event.edges) for event in events if event.kind == "exchange"}
        known = {kind: weights[kind] for kind in sorted(kinds)}
        pairs = [_pairs(w) for matrices in known.values() for w in matrices]
        numbers = np.unique(np.concatenate([p for p, _ in pairs] or [np.zeros(0, np.int64)]))
        self._routes = {kind: [self._route(w, numbers) for w in matrices] for kind, matrices in known.items()}
        self._delays: dict[tuple[str, int, int], tuple[np.ndarray, np.ndarray]] = {}
        shape = agents, replicas
        self.step = 0
        self._past: deque[list[_Moment]] = deque(maxlen=max(1, flow.reach))
        self._busy = np.zeros((len(numbers), replicas), np.int64)
        self._free = np.zeros(shape, np.int64)
        self._computed, self._exposed = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._start_of_run = _Moment(np.zeros(shape, np.int64), np.zeros(shape, np.int64))
        self._result = self._last = self._start_of_run
        self._observe: Observer | None = None

    def _route(self, weights: csr_array, numbers: np.ndarray) -> _Route:
        pairs, agents = _pairs(weights)
        starts = np.searchsorted(pairs, np.arange(agents + 1) * agents)
        links = None if self._network is None else self._network.links_of(weights)
        return _Route(starts, pairs % agents, np.searchsorted(numbers, pairs), links)

    @property
    def times(self) -> np.ndarray:
        """When each agent's parameters were there after the last step, in nanoseconds, int64 [R, K]."""
        return self._result.time.T

    def advance(self, until: int, observe: Observer | None = None) -> np.ndarray:
        """Take steps.

        Args:
            until: The step to stop at.
            observe: Told what agents do: "compute", "send", "communication" (waiting for the network) or "idle"
                (waiting for slower agents); in which step, from 1; and when each begins and ends, int64 [K, R]. At
                last, it is told what they wait for up to the end of the step.

        Returns:
            When all agents of each replica have its result, in nanoseconds, int64 [R].
        """
        self._observe = observe
        while self.step < until:
            self._advance()
        if observe is not None:
            self._waits(self._result, self.step)
        self._observe = None
        latest: np.ndarray = self.times.max(1)
        return latest

    def shares(self) -> dict[str, np.ndarray]:
        """Divide the time up to the agents' last computation.

        Returns:
            Shares [R], which sum to one: of "compute"; of "communication", waiting for the network while not
            computing; and of "idle", waiting for other agents that are later. NaN before any time has passed.
        """
        total, compute, communication = (spent.sum(0) for spent in (self._free, self._computed, self._exposed))
        spent = {"compute": compute, "communication": communication, "idle": total - compute - communication}
        return {doing: time / np.where(total > 0, total, np.nan) for doing, time in spent.items()}

    def moments(self) -> list[dict[str, float]]:
        """Return `moments` after the last step."""
        return moments(self.times.max(1), self.shares())

    def _advance(self) -> None:
        flow = self._flow.at(self.step)
        absent = self._absent(self.step)
        self._away = None if absent is None else absent.T
        ends: list[_Moment] = []
        for event in flow.events:
            ready = self._ready(event.waits, ends)
            if not self._overlap:
                ready = ready.or_later(self._last)
            if event.kind == "compute":
                ends.append(self._computes(ready, event.share))
            elif event.kind == "collective":
                ends.append(self._collects(ready, event.size))
            else:
                ends.append(self._exchanges(ready, str(event.edges), event.size))
            self._last = ends[-1]
        self._result = self._ready(flow.result, ends)
        self._past.append(ends)
        self.step += 1

    def _ready(self, waits: Waits, ends: list[_Moment]) -> _Moment:
        """Find when each agent has all that is waited for."""
        moments = [ends[place] if ago == 0 else self._past[-ago][place] for place, ago in waits]
        return reduce(_Moment.or_later, moments) if moments else self._start_of_run

    def _computes(self, ready: _Moment, share: float) -> _Moment:
        takes = np.zeros_like(self._free) if self._compute is None else self._compute(self.step).T
        if share != 1:
            takes = np.rint(takes * share).astype(np.int64)
        self._exposed += self._waits(ready, self.step + 1)
        start = self._start(ready)
        if self._away is not None:
            takes = np.where(self._away, 0, takes)
        self._computed += takes
        self._free = start + takes
        if self._observe is not None:
            self._observe("compute", self.step + 1, start, self._free)
        end = self._free if self._away is None else np.where(self._away, np.maximum(ready.time, start), self._free)
        return _Moment(end, np.zeros_like(end))

    def _start(self, ready: _Moment) -> np.ndarray:
        """Find when agents begin to compute what is ready; an absent one does not wait."""
        start: np.ndarray = np.maximum(ready.time, self._free)
        return start if self._away is None else np.where(self._away, self._free, start)

    def _waits(self, ready: _Moment, step: int) -> np.ndarray:
        """Return how long agents wait for the network since they last computed, which is after others were late."""
        start = self._start(ready)
        exposed: np.ndarray = np.minimum(start - self._free, ready.network)
        if self._observe is not None:
            self._observe("idle", step, self._free, start - exposed)
            self._observe("communication", step, start - exposed, start)
        return exposed

    def _collects(self, ready: _Moment, size: int) -> _Moment:
        takes = self._sums[size](ready.time) if self._sums else 0
        start = np.broadcast_to(ready.time.max(0), ready.time.shape)
        if self._observe is not None:
            self._observe("send", self.step + 1, start, start + takes)
        return _Moment(start + takes, ready.network + takes)

    def _exchanges(self, ready: _Moment, kind: str, size: int) -> _Moment:
        routes = self._routes[kind]
        phase = self.step % len(routes)
        route = routes[phase]
        if route.links is None or self._network is None:
            latency = transfer = np.zeros_like(route.senders)
            busy = np.zeros_like(self._busy)
        else:
            if (kind, phase, size) not in self._delays:
                delays = self._network.delays(route.links, size)
                self._delays[kind, phase, size] = delays.latency, delays.transfer
            latency, transfer = self._delays[kind, phase, size]
            busy = self._busy
        found = exchange(ready.time, busy, route.starts, route.senders, route.edges, latency, transfer, self._away)
        end = found.end
        if not self._overlap or self._observe is not None:
            left = ready.time.copy()
            np.maximum.at(left, route.senders, busy[route.edges])
            if self._observe is not None:
                self._observe("send", self.step + 1, ready.time, left)
            if not self._overlap:
                end = np.maximum(end, left)
        return _Moment(end, ready.network + found.network + (end - found.end))


def moments(ends: np.ndarray, shares: Mapping[str, np.ndarray]) -> list[dict[str, float]]:
    """Collect what an evaluation says of time.

    Args:
        ends: When the last step ended in each replica, in nanoseconds, int64 [R].
        shares: What the time was spent on, "compute", "communication" and "idle" [R]; NaN before any has passed.

    Returns:
        For each replica, `TIMES`: seconds, and shares once time has passed.
    """
    columns = [ends / 1e9, *(shares[name] for name in ("compute", "communication", "idle"))]
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [{name: x for name, x in zip(TIMES, row, strict=True) if not math.isnan(x)} for row in rows]


def clock_of(setup: Setup, outages: Outages | None = None) -> Clock:
    """Make the clock of a run.

    Args:
        setup: The parts of the run, among them its data flow.
        outages: What its faults put out of order, if that is at hand.

    Returns:
        A clock at step 0.

    Raises:
        ExperimentError: The network lacks a link, or the law of compute times is not one for so many agents.
    """
    assert setup.flow is not None
    config, network, law, part = setup.config, setup.network, setup.compute, setup.config.network
    sizes: dict[str, Any] = {"agents": setup.num_agents, "replicas": config.replicas}
    try:
        compute = None if law is None else ComputeTimes(stalled(law, setup.faults), **sizes, seed=config.seed)
    except (OSError, ValueError) as error:
        raise ExperimentError(f"compute: {error}") from None
    asked: dict[str, Any] = {**sizes, "network": network, "compute": compute}
    if network is not None and part is not None:
        asked |= {"collective": partial(_sum, network, part.all_reduce), "overlap": part.overlap}
    weights = {"graph": setup.sequence, "reverse": setup.push}
    asked["absent"] = absent(setup, outages or Outages(setup.faults, weights, **sizes, seed=config.seed))
    try:
        return Clock(setup.flow, weights, **asked)
    except MissingLink as error:
        raise ExperimentError(f"network: {error}{remedy(config)}") from None


def remedy(config: Config) -> str:
    """Return what gives a network a link that a run needs, for the end of a sentence; "" if nothing does.

    Args:
        config: The run.
    """
    can = config.network is not None and config.network.component.takes("complete")
    return "; a network of all pairs (complete: true) has one" if can else ""


def _sum(network: Network, algorithm: Component, size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Find what a sum over all agents takes."""
    return after_the_last(network, algorithm.make(network=network, size=size))


def _pairs(weights: csr_array) -> tuple[np.ndarray, int]:
    """Number the edges of a mixing matrix by receiver, then sender, in order; return also K."""
    receivers, senders, _ = edges_of(weights)
    agents = weights.shape[0]
    return np.sort(receivers * agents + senders), agents
