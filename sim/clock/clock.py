"""The clock: when each step of a run ends on a described network, in simulated time."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from basinet.sim.clock.compute_times import ComputeTimes
from basinet.sim.clock.data_flow import DataFlow, Waits
from basinet.sim.clock.ring_sum import ring_time
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.faults.outages import Outages
from basinet.sim.setup.setup import Setup
from basinet.topologies.mixing_matrix import edges_of
from basinet.topologies.networks import Network
from basinet.topologies.timing.exchanges import exchange

__all__ = ["Clock", "clock_of"]


@dataclass(frozen=True)
class _Moment:
    """When something has ended on each agent.

    Attributes:
        time: Nanoseconds from the start, int64 [K, R].
        network: How long the agent has waited for the network since it last computed, as opposed to for other agents.
    """

    time: np.ndarray
    network: np.ndarray


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
    that it hears has arrived, a collective when it is over for all.

    Args:
        flow: What the strategy's steps wait for.
        weights: The mixing matrices of a period, [K, K] each, by kind of edge.
        network: What messages take; None for no time.
        compute: What a pass of a batch takes each agent in a step, given its number: nanoseconds, int64 [R, K]; None
            for no time.
        collective: What a collective takes in nanoseconds, given the bytes of a row; None for no time.
        absent: Which agents are absent in a step, given its number, bool [R, K] or None: they neither compute nor send
            or hear anything.
        agents: K.
        replicas: R.

    Attributes:
        step: Number of steps taken.

    Raises:
        ValueError: The network lacks a link that is used.
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
        collective: Callable[[int], int] | None = None,
        absent: Callable[[int], np.ndarray | None] = lambda step: None,
    ) -> None:
        self._flow = flow
        self._network = network
        self._compute = compute
        self._absent = absent
        self._away: np.ndarray | None = None
        events = {event for step in flow.first + flow.cycle for event in step.events}
        sums = {event.size for event in events if event.kind == "collective"}
        self._sums = {size: 0 if collective is None else collective(size) for size in sums}
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
        self._times = np.zeros(shape, np.int64)

    def _route(self, weights: csr_array, numbers: np.ndarray) -> _Route:
        pairs, agents = _pairs(weights)
        starts = np.searchsorted(pairs, np.arange(agents + 1) * agents)
        links = None if self._network is None else self._network.links_of(weights)
        return _Route(starts, pairs % agents, np.searchsorted(numbers, pairs), links)

    @property
    def times(self) -> np.ndarray:
        """When each agent's parameters were there after the last step, in nanoseconds, int64 [R, K]."""
        return self._times.T

    def advance(self, until: int) -> np.ndarray:
        """Take steps.

        Args:
            until: The step to stop at.

        Returns:
            When all agents of each replica have its result, in nanoseconds, int64 [R].
        """
        while self.step < until:
            self._advance()
        latest: np.ndarray = self._times.max(0)
        return latest

    def shares(self) -> dict[str, np.ndarray]:
        """Divide the time up to the agents' last computation.

        Returns:
            Shares [R], which sum to one: of "compute"; of "communication", waiting for the network while not
            computing; of "waiting" for other agents that are later.
        """
        total = np.maximum(1, self._free.sum(0))
        compute, communication = self._computed.sum(0) / total, self._exposed.sum(0) / total
        return {"compute": compute, "communication": communication, "waiting": 1 - compute - communication}

    def _advance(self) -> None:
        flow = self._flow.at(self.step)
        absent = self._absent(self.step)
        self._away = None if absent is None else absent.T
        ends: list[_Moment] = []
        for event in flow.events:
            ready = self._ready(event.waits, ends)
            if event.kind == "compute":
                ends.append(self._computes(ready, event.share))
            elif event.kind == "collective":
                ends.append(self._collects(ready, event.size))
            else:
                ends.append(self._exchanges(ready, str(event.edges), event.size))
        self._times = self._ready(flow.result, ends).time
        self._past.append(ends)
        self.step += 1

    def _ready(self, waits: Waits, ends: list[_Moment]) -> _Moment:
        """Find when each agent has all that is waited for."""
        found = _Moment(np.zeros_like(self._free), np.zeros_like(self._free))
        for place, ago in waits:
            other = ends[place] if ago == 0 else self._past[-ago][place]
            later = other.time > found.time
            found = _Moment(np.where(later, other.time, found.time), np.where(later, other.network, found.network))
        return found

    def _computes(self, ready: _Moment, share: float) -> _Moment:
        takes = np.zeros_like(self._free) if self._compute is None else self._compute(self.step).T
        if share != 1:
            takes = np.rint(takes * share).astype(np.int64)
        start = np.maximum(ready.time, self._free)
        if self._away is not None:
            start, takes = np.where(self._away, self._free, start), np.where(self._away, 0, takes)
        self._exposed += np.minimum(start - self._free, ready.network)
        self._computed += takes
        self._free = start + takes
        return _Moment(self._free, np.zeros_like(self._free))

    def _collects(self, ready: _Moment, size: int) -> _Moment:
        takes = self._sums[size]
        return _Moment(np.broadcast_to(ready.time.max(0) + takes, ready.time.shape), ready.network + takes)

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
        return _Moment(found.end, ready.network + found.network)

    def state_dict(self) -> dict[str, Any]:
        """Collect what the times of later steps depend on.

        Returns:
            Numbers and arrays, nested.
        """
        return {
            "step": self.step,
            "times": self._times,
            "past": [[(end.time, end.network) for end in ends] for ends in self._past],
            "busy": self._busy,
            "free": self._free,
            "computed": self._computed,
            "exposed": self._exposed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` collected.

        Args:
            state: That of a clock of the same run.
        """
        self.step, self._times = state["step"], state["times"]
        self._past.clear()
        self._past.extend([_Moment(*end) for end in ends] for ends in state["past"])
        self._busy, self._free = state["busy"].copy(), state["free"].copy()
        self._computed, self._exposed = state["computed"].copy(), state["exposed"].copy()


def clock_of(setup: Setup) -> Clock:
    """Make the clock of a run.

    Args:
        setup: The parts of the run, among them its data flow.

    Returns:
        A clock at step 0.

    Raises:
        ExperimentError: The network lacks a link, or the law of compute times is not one for so many agents.
    """
    assert setup.flow is not None
    config, network, law = setup.config, setup.network, setup.config.compute
    sizes = {"agents": setup.num_agents, "replicas": config.replicas}
    try:
        compute = None if law is None else ComputeTimes(law.make(), **sizes, seed=config.seed)
    except (OSError, ValueError) as error:
        raise ExperimentError(f"compute: {error}") from None
    collective = None if network is None else partial(ring_time, network)
    weights = {"graph": setup.sequence, "reverse": setup.push}
    outages = Outages(setup.faults, weights, agents=setup.num_agents, replicas=config.replicas, seed=config.seed)
    try:
        return Clock(
            setup.flow, weights, **sizes, network=network, compute=compute, collective=collective, absent=outages.absent
        )
    except ValueError as error:
        raise ExperimentError(f"network: {error}") from None


def _pairs(weights: csr_array) -> tuple[np.ndarray, int]:
    """Number the edges of a mixing matrix by receiver, then sender, in order; return also K."""
    receivers, senders, _ = edges_of(weights)
    agents = weights.shape[0]
    return np.sort(receivers * agents + senders), agents
