"""The channel: all messages between agents."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from basinet.algorithms.optimizers import LocalOptimizer
from basinet.sim.agents.attackers import Attackers, no_average
from basinet.sim.agents.mixer import Mixer
from basinet.sim.agents.neighbors import Neighbors
from basinet.sim.agents.personal import Personal
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.replicas import Replicas
from basinet.sim.agents.state import StackedState, interchangeable
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.models.patterns import first_names
from basinet.sim.setup.setup import Setup

__all__ = ["KINDS_OF_EDGES", "Channel", "num_messages"]

KINDS_OF_EDGES = ("graph", "reverse", "server")
"""The edges along which agents send: those of W, those of the weights whose columns sum to one, and those of a star."""


def num_messages(setup: Setup) -> dict[str, list[int]]:
    """Count the messages of a step along each kind of edge.

    Args:
        setup: The parts of the run.

    Returns:
        Their number in the steps of a period, by kind; nothing for edges that the run does not have.
    """
    return {
        "graph": list(map(_off_diagonal, setup.sequence)),
        "reverse": list(map(_off_diagonal, setup.push)),
        "server": [_off_diagonal(_star(setup.num_agents))],
    }


def _off_diagonal(weights: csr_array) -> int:
    entries = weights.tocoo()
    return int(((entries.row != entries.col) & (entries.data != 0)).sum())


class _Edges:
    """The edges of one mixing matrix; products along them are set up on first use."""

    def __init__(self, weights: csr_array, placement: Placement, like: Tensor, pool: ThreadPoolExecutor | None) -> None:
        self._weights = weights
        self._placement = placement
        self._like = like
        self._pool = pool
        self.num_messages = _off_diagonal(weights)

    @cached_property
    def mixer(self) -> Mixer:
        return Mixer(self._weights, self._placement, self._like, self._pool)

    @cached_property
    def positive_mixer(self) -> Mixer:
        """A mixer for second moments and variances, which must not become negative."""
        return Mixer(self._weights, self._placement, self._like, self._pool, differences=False)

    @cached_property
    def neighbors(self) -> Neighbors:
        return Neighbors(self._weights, self._placement, self._like)


class Channel:
    """All communication between the agents of one worker and the others of their replicas.

    Every message passes through `_send`, which counts the bytes of its rows along the edges of the step. Personal
    parameters are not sent. Attackers falsify what others hear from them. Optimizer state and running statistics follow
    the parameters, as the experiment says.

    Args:
        setup: The parts of the run.
        placement: Which rows of the full state live here.
        state: The state of these rows.
        optimizer: Their optimizers.
        threads: Number of threads that share a product.

    Attributes:
        replicas: Sums, means and distances over the agents of each replica.
        bytes_sent: Bytes sent so far by all agents of a replica together.
        row_bytes: Bytes sent along an edge of each kind since the channel was made.
        wire_bytes: Bytes that this worker has sent to others since the channel was made.
        waiting_seconds: How long it has waited for others since then.
        piece: Numbers of a broadcast that a worker holds at a time.
    """

    def __init__(
        self, setup: Setup, placement: Placement, state: StackedState, optimizer: LocalOptimizer, threads: int = 1
    ) -> None:
        self._config = config = setup.config
        self._state = state
        self._optimizer = optimizer
        self._personal = Personal(first_names(config.personal, state.names), state.shapes)
        self.replicas = Replicas(placement, setup.honest_weights, self._personal, state.parameters)
        self._attackers: Attackers | None = None
        if setup.attack.lies:
            self._attackers = Attackers(setup.attack, setup.attackers, placement, config.seed)
        pool = ThreadPoolExecutor(threads) if threads > 1 else None

        def edges(*matrices: csr_array) -> list[_Edges]:
            return [_Edges(weights, placement, state.parameters, pool) for weights in matrices]

        self._edges = {
            "graph": edges(*setup.sequence),
            "reverse": edges(*setup.push),
            "server": edges(_star(placement.agents)),
        }
        self.bytes_sent = 0
        self.row_bytes = dict.fromkeys(KINDS_OF_EDGES, 0)
        self.wire_bytes = 0
        self.waiting_seconds = 0.0
        self.piece = 2**20

    def _send(self, kind: str, step: int, size: int) -> _Edges:
        """Count a row of `size` bytes along each edge of a step, and return the edges."""
        edges = self._at(kind, step)
        self.row_bytes[kind] += size
        self.bytes_sent += edges.num_messages * size
        return edges

    def _at(self, kind: str, step: int) -> _Edges:
        return self._edges[kind][step % len(self._edges[kind])]

    def combine(
        self, x: Tensor, step: int, sent: int | None = None, *, truly: bool = False, spare: Tensor | None = None
    ) -> None:
        """Mix rows with the neighbours' in place: x_k ← Σ_l W[k, l] x_l.

        The mixed rows are written elsewhere, and `x` moves there if it can: earlier views keep the old values.

        Args:
            x: [N, ...] of any width.
            step: The step.
            sent: Bytes of one row on the wire; by default those of its shared numbers.
            truly: Whether attackers do not falsify this message, as for numbers of the protocol itself.
            spare: A tensor like the parameters that may be swapped with `x`.
        """
        edges = self._send("graph", step, self._personal.row_bytes(x) if sent is None else sent)
        self._mix(edges.mixer, x, spare, None if truly else self._error(edges, x, step))
        if x is self._state.parameters:
            self._follow(lambda rows: self._combine_follower(rows, step))

    def push(self, x: Tensor, step: int, *, spare: Tensor | None = None) -> None:
        """Mix with weights whose columns sum to one; otherwise like `combine`, but nothing follows the parameters."""
        edges = self._send("reverse", step, self._personal.row_bytes(x))
        self._mix(edges.mixer, x, spare, self._error(edges, x, step))

    def average(self, x: Tensor, step: int, weights: Tensor | None = None) -> None:
        """Replace each row in place by the mean of its replica, by way of a server.

        Args:
            x: [N, P].
            step: The step.
            weights: How much each row counts, [N], sent along with it; None for all alike.

        Raises:
            ExperimentError: Some agents attack.
        """
        if self._attackers is not None:
            raise ExperimentError(no_average(self._config))
        beside = 0 if weights is None else weights.itemsize
        self._send("server", step, self._personal.row_bytes(x) + beside)
        self.replicas.average(x, weights)
        if x is self._state.parameters:
            self._follow(lambda rows: self.average(rows, step))

    def neighbors(self, step: int) -> Neighbors:
        """Return the agents' neighbours at a step, in slots."""
        return self._at("graph", step).neighbors

    def exchange(self, messages: Tensor, step: int, sent: int | None = None) -> Tensor:
        """Send each neighbour a row and receive one from each.

        Args:
            messages: [N, D, ...], for the neighbour in each slot of `neighbors`.
            step: The step.
            sent: Bytes of one row on the wire.

        Returns:
            [N, D, ...], from the neighbour in each slot; 0 where an agent hears nobody.
        """
        size = self._personal.row_bytes(messages, 2) if sent is None else sent
        neighbors = self._send("graph", step, size).neighbors
        received = neighbors.exchange(messages)
        if self._attackers is not None:
            self._attackers.falsify_all(neighbors, messages, received, step)
        self._personal.keep(received, messages)
        return received

    def broadcast(self, x: Tensor, step: int) -> Iterable[tuple[slice, Tensor]]:
        """Send all neighbours the same row, and iterate over what each agent receives, a few columns at a time.

        Args:
            x: [N, P].
            step: The step.

        Returns:
            Pairs of columns and of what is received in them, [N, D, w]; iterating again gives the same. During the last
            iteration, columns of `x` already visited may be overwritten.
        """
        neighbors = self._send("graph", step, self._personal.row_bytes(x)).neighbors
        return _Broadcast(neighbors, x, self._attackers, step, self._personal, self.piece)

    def centroid(self, x: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Average parameters and buffers over the agents of each replica.

        Args:
            x: Points [N, P] of the agents; by default their parameters.

        Returns:
            Parameters [R, P], and buffers by name, [R, ...].
        """
        mean = self.replicas.centroid
        return mean(self._state.parameters if x is None else x), {
            name: mean(b) for name, b in self._state.buffers.items()
        }

    def _error(self, edges: _Edges, x: Tensor, step: int) -> Tensor | None:
        """Compute by how much attackers falsify the mix of rows [N, ...]."""
        if self._attackers is None:
            return None
        flat = x.reshape(len(x), -1).to(self._state.parameters)
        return self._attackers.error(edges.neighbors, flat, step, self.piece).view(x.shape)

    def _mix(self, mixer: Mixer, x: Tensor, spare: Tensor | None = None, error: Tensor | None = None) -> None:
        if spare is None:
            flat = x.reshape(len(x), -1).to(self._state.parameters).contiguous()
            result = torch.empty_like(flat)
        else:
            flat, result = x, spare
        mixer.combine(flat, result)
        mixed = result if result.shape == x.shape and result.dtype == x.dtype else result.view(x.shape).to(x)
        if error is not None:
            mixed += error
        self._personal.keep(mixed, x)
        if spare is not None:
            self._state.exchange(x, spare)
        elif mixed is result and interchangeable(x, result) and x is not self._state.gradients:
            x.data = result
        else:
            x.copy_(mixed)

    def _combine_follower(self, rows: Tensor, step: int) -> None:
        edges = self._send("graph", step, self._personal.row_bytes(rows))
        self._mix(edges.positive_mixer, rows)

    def _follow(self, verb: Callable[[Tensor], None]) -> None:
        """Make optimizer state and running statistics follow the parameters, as the experiment says."""
        followers: list[Tensor] = []
        if self._config.optimizer_state == "reset":
            for tensor in self._optimizer.rows():
                tensor.zero_()
        elif self._config.optimizer_state == "mix":
            followers += self._optimizer.rows()
        if self._config.buffers == "mix":
            statistics = [b for name, b in self._state.buffers.items() if name not in self._state.held]
            followers += [b for b in statistics if b.is_floating_point()]
        for tensor in followers:
            flat = tensor.reshape(len(tensor), -1).to(self._state.parameters.dtype, copy=True)
            verb(flat)
            tensor.copy_(flat.view(tensor.shape))


class _Broadcast:
    """Rows broadcast to all neighbours, the attackers' falsified, a few columns at a time."""

    def __init__(
        self, neighbors: Neighbors, x: Tensor, attackers: Attackers | None, step: int, personal: Personal, piece: int
    ) -> None:
        self._neighbors = neighbors
        self._x = x
        self._attackers = attackers
        self._step = step
        self._message = 0 if attackers is None else attackers.message(step)
        self._personal = personal
        self._piece = piece

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        for columns, told, heard in self._neighbors.broadcast(self._x, self._piece):
            if self._attackers is not None:
                self._attackers.falsify(self._neighbors, told, heard, columns, self._step, self._message)
            self._personal.keep(heard, told, columns)
            yield columns, heard


def _star(agents: int) -> csr_array:
    """Connect all agents with a server, both ways."""
    each, server = np.arange(agents), np.full(agents, agents)
    places = np.concatenate([each, server]), np.concatenate([server, each])
    return csr_array((np.ones(2 * agents), places), shape=(agents + 1, agents + 1))
