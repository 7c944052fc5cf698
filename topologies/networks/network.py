"""The network: how long messages between agents travel, alone and together."""

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from basinet.topologies.mixing_matrix import edges_of
from basinet.topologies.networks.fair_shares import fair_shares
from basinet.topologies.networks.queues import store_and_forward
from basinet.topologies.networks.routes import Routes
from basinet.topologies.networks.units import transfer

__all__ = ["Delays", "MissingLink", "Network", "Ports"]

Numbers = NDArray[np.int64]


class MissingLink(ValueError):
    """A message is to pass between agents that no link joins."""


class Delays(NamedTuple):
    """What messages of one exchange take: each arrives its latency and its transfer after it could leave.

    Attributes:
        latency: Time on the way [n], nanoseconds.
        transfer: Time until all of it has left, waiting for other messages included [n], nanoseconds.
    """

    latency: Numbers
    transfer: Numbers


@dataclass(frozen=True, eq=False)
class Ports:
    """The agents' own connections to the network, which all their messages of an exchange pass.

    ``serial`` ports send to one agent after the other, in the order of their numbers, and receive likewise; the i-th
    message of M bytes is through the port of U bytes per second after i M/U. ``fair`` ports serve all d neighbours at
    once, until d M/U. A ``full`` duplex port sends and receives at the same time, a ``half`` duplex one first sends.

    Attributes:
        up: Rate at which agents send, bytes per second, a number or [K]; no limit by default.
        down: Rate at which agents receive, likewise.
        sharing: ``serial`` or ``fair``.
        duplex: ``full`` or ``half``; half-duplex ports need the same rate up and down.
    """

    up: ArrayLike = np.inf
    down: ArrayLike = np.inf
    sharing: Literal["serial", "fair"] = "serial"
    duplex: Literal["full", "half"] = "full"

    def __post_init__(self) -> None:
        """Raise if a rate is not positive, half-duplex ports have two, or a mode is unknown."""
        for setting, allowed in (("sharing", ("serial", "fair")), ("duplex", ("full", "half"))):
            if (given := getattr(self, setting)) not in allowed:
                raise ValueError(f"{setting} is {given!r}, but allowed are {' and '.join(allowed)}")
        if not (np.all(np.asarray(self.up) > 0) and np.all(np.asarray(self.down) > 0)):
            raise ValueError(f"ports have the rates {self.up} up and {self.down} down, but rates must be positive")
        if self.duplex == "half" and not np.array_equal(np.asarray(self.up), np.asarray(self.down)):
            raise ValueError("half-duplex ports send and receive at one rate, but up and down differ")

    def transfers(self, senders: Numbers, receivers: Numbers, agents: int, size: int) -> Numbers:
        """Return when the ports at both ends are done with each message.

        The two ends are taken to overlap: a message is through when the slower of its ports is.

        Args:
            senders: Who sends [n].
            receivers: To whom [n].
            agents: Number of agents K.
            size: Bytes of each message.

        Returns:
            Nanoseconds since the messages could leave [n].
        """
        sent, received = np.bincount(senders, minlength=agents), np.bincount(receivers, minlength=agents)
        if self.sharing == "serial":
            out, into = _turns(senders, receivers), _turns(receivers, senders)
            into = into + sent[receivers] if self.duplex == "half" else into
        else:
            both = self.duplex == "half"
            out = sent[senders] + both * received[senders]
            into = received[receivers] + both * sent[receivers]
        up, down = (np.broadcast_to(np.asarray(port, np.float64), agents) for port in (self.up, self.down))
        return np.maximum(transfer(out * size, up[senders]), transfer(into * size, down[receivers]))


def _turns(owners: Numbers, others: Numbers) -> Numbers:
    """Return the place, from one, of each message among those of its owner, ordered by the other end."""
    order = np.lexsort((others, owners))
    first = np.searchsorted(owners[order], owners[order])
    turns = np.empty(len(owners), dtype=np.int64)
    turns[order] = np.arange(1, len(owners) + 1) - first
    return turns


@dataclass(frozen=True, eq=False)
class Network:
    """Directed links between agents, sorted by receiver, then sender.

    Attributes:
        agents: Number of agents K.
        senders: Who sends on each link [E].
        receivers: Who receives on it [E].
        latency: Nanoseconds [E].
        bandwidth: Bytes per second that a message has alone [E]; may be infinite.
        loss: Share of the messages lost [E]; none by default.
        ports: The agents' own connections.
        routes: The shared lines that the links pass; none by default.
        congestion: How messages share lines: ``fair`` at the max-min fair rates of all that are sent together, or in a
            ``queue`` before each line, as packets that are stored and forwarded.
        names: Names of the agents [K], for messages and pictures; their numbers by default.
        hosts: Number of the machine that each agent is on [K]; None if it is not known.
    """

    agents: int
    senders: Numbers
    receivers: Numbers
    latency: Numbers
    bandwidth: NDArray[np.float64]
    loss: NDArray[np.float64] | None = None
    ports: Ports = field(default_factory=Ports)
    routes: Routes | None = None
    congestion: Literal["fair", "queue"] = "fair"
    names: tuple[str, ...] = ()
    hosts: Numbers | None = None

    def __post_init__(self) -> None:
        """Check the links; raise if one is impossible, or they are not sorted."""
        if not self.names:
            object.__setattr__(self, "names", tuple(map(str, range(self.agents))))
        keys = self._keys(self.receivers, self.senders)
        if np.any(np.diff(keys) <= 0):
            raise ValueError("the links of a network must be sorted by receiver, then sender, and none may stand twice")
        ends = np.concatenate([self.senders, self.receivers])
        checks = [
            ((self.senders == self.receivers), "has the same agent at both ends"),
            (self.latency < 0, "has a negative latency"),
            (~(self.bandwidth > 0), "has no positive bandwidth"),
        ]
        if self.loss is not None:
            checks.append((~((self.loss >= 0) & (self.loss < 1)), "has a loss outside [0, 1)"))
        if ends.size and not 0 <= ends.min() <= ends.max() < self.agents:
            raise ValueError(
                f"the links of a network of {self.agents} agents name agents from {ends.min()} to {ends.max()}"
            )
        for wrong, what in checks:
            if wrong.any():
                raise ValueError(f"the link {self._show(int(np.argmax(wrong)))} {what}")

    def _keys(self, receivers: Numbers, senders: Numbers) -> Numbers:
        return receivers.astype(np.int64) * self.agents + senders

    def _show(self, link: int) -> str:
        return f"from {self.names[self.senders[link]]} to {self.names[self.receivers[link]]}"

    @property
    def resources(self) -> csr_array:
        """Which links pass which shared line [M, E]; M is zero if no line is shared."""
        return csr_array((0, len(self.senders))) if self.routes is None else self.routes.incidence()

    @property
    def capacity(self) -> NDArray[np.float64]:
        """Capacities of the shared lines [M], bytes per second."""
        return np.empty(0) if self.routes is None else self.routes.capacity

    def limited(self, bandwidth: NDArray[np.float64]) -> "Network":
        """Return the network with at most some bandwidth on each link.

        Args:
            bandwidth: Bytes per second [E].

        Returns:
            The network.
        """
        return replace(self, bandwidth=np.minimum(self.bandwidth, bandwidth))

    def scaled(self, *, latency: float = 1.0, bandwidth: float = 1.0) -> "Network":
        """Return the network with other latencies and bandwidths, those of ports and shared lines included.

        Args:
            latency: Factor of all latencies.
            bandwidth: Factor of all bandwidths.

        Returns:
            The network.
        """

        def late(times: Numbers) -> Numbers:
            longer: Numbers = np.rint(times * latency).astype(np.int64)
            return longer

        up, down = (np.asarray(port) * bandwidth for port in (self.ports.up, self.ports.down))
        routes = self.routes
        if routes is not None:
            routes = replace(routes, latency=late(routes.latency), capacity=routes.capacity * bandwidth)
        return replace(
            self,
            latency=late(self.latency),
            bandwidth=self.bandwidth * bandwidth,
            ports=replace(self.ports, up=up, down=down),
            routes=routes,
        )

    def links_of(self, W: csr_array) -> Numbers:
        """Return the links over which a mixing matrix makes agents send.

        Args:
            W: Mixing matrix [K, K]: agent l sends to agent k where W[k, l] is not zero.

        Returns:
            Numbers of the links, in the order of the rows of W.

        Raises:
            MissingLink: If an edge of W has no link.
        """
        receivers, senders, _ = edges_of(W)
        return self.links_between(senders, receivers)

    def links_between(self, senders: Numbers, receivers: Numbers) -> Numbers:
        """Return the links between pairs of agents.

        Args:
            senders: Who sends [n].
            receivers: To whom [n].

        Returns:
            Numbers of the links, sorted [n].

        Raises:
            MissingLink: If a pair has no link.
        """
        keys, wanted = self._keys(self.receivers, self.senders), np.sort(self._keys(receivers, senders))
        places = np.searchsorted(keys, wanted)
        missing = np.append(keys, -1)[places] != wanted
        if missing.any():
            receiver, sender = divmod(int(wanted[np.argmax(missing)]), self.agents)
            raise MissingLink(
                f"agent {self.names[sender]} sends to agent {self.names[receiver]}, but the network has no link from "
                f"{self.names[sender]} to {self.names[receiver]}"
            )
        return places

    def loss_between(self, senders: Numbers, receivers: Numbers) -> NDArray[np.float64]:
        """Return the share of messages lost between pairs of agents.

        Args:
            senders: Who sends [n].
            receivers: To whom [n].

        Returns:
            Shares [n]; 0 where there is no link.
        """
        if self.loss is None:
            return np.zeros(len(senders))
        keys, wanted = self._keys(self.receivers, self.senders), self._keys(receivers, senders)
        places = np.searchsorted(keys, wanted)
        return np.where(np.append(keys, -1)[places] == wanted, np.append(self.loss, 0)[places], 0.0)

    def delays(self, links: Numbers, size: int) -> Delays:
        """Return what an exchange takes in which each of some links carries one message.

        Messages leave together. Each takes the longest of its time alone, through the ports at its ends, and on the
        lines that it shares.

        Args:
            links: Numbers of the links in use [n].
            size: Bytes of each message.

        Returns:
            Latency and transfer of each message.
        """
        latency = self.latency[links]
        through = self.ports.transfers(self.senders[links], self.receivers[links], self.agents, size)
        if self.routes is None:
            alone = transfer(size, self.bandwidth[links])
        elif self.congestion == "queue":
            routes = self.routes.of(links)
            alone = store_and_forward(routes, size) - routes.sums(routes.latency)
        else:
            routes = self.routes.of(links)
            alone = transfer(size, fair_shares(routes.incidence(), routes.capacity, self.bandwidth[links]))
        return Delays(latency, np.maximum(through, alone))
