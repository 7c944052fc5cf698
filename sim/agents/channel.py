"""The channel: all messages between agents."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from scipy.sparse import csr_array
from torch import Tensor

from basinet.algorithms.optimizers import LocalOptimizer
from basinet.sim.agents.attackers import Attackers, no_average
from basinet.sim.agents.messages.edges import KINDS_OF_EDGES, num_messages
from basinet.sim.agents.messages.mixer import Mixer
from basinet.sim.agents.messages.neighbors import Neighbors
from basinet.sim.agents.messages.plans import Plans
from basinet.sim.agents.messages.products import Products
from basinet.sim.agents.messages.replicas import Replicas
from basinet.sim.agents.messages.wire import Wire
from basinet.sim.agents.personal import Personal
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import StackedState
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.models.patterns import first_names
from basinet.sim.setup.setup import Setup

__all__ = ["Channel"]

T = TypeVar("T")


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
        products: The products with W; those inside its `together` travel together.
        replicas: Sums, means and distances over the agents of each replica.
        bytes_sent: Bytes sent so far by all agents of a replica together.
        row_bytes: Bytes sent along an edge of each kind since the channel was made.
        piece: Numbers of a broadcast that a worker holds at a time.
    """

    def __init__(
        self, setup: Setup, placement: Placement, state: StackedState, optimizer: LocalOptimizer, threads: int = 1
    ) -> None:
        self._config = config = setup.config
        self._state = state
        self._optimizer = optimizer
        self._personal = Personal(first_names(config.personal, state.names), state.shapes)
        self._wire = Wire()
        if placement.workers > 1:
            self._wire.open()
        self.products = Products(state, self._personal, self._wire)
        self.replicas = Replicas(placement, setup.honest_weights, self._personal, state.parameters, self._wire)
        self._attackers: Attackers | None = None
        if setup.attack.lies:
            self._attackers = Attackers(setup.attack, setup.attackers, placement, config.seed)
        pool = ThreadPoolExecutor(threads) if threads > 1 else None

        thread = ThreadPoolExecutor(1, "plans")
        copies = len(placement.rows) / placement.agents

        def plans(make: Callable[[csr_array], T]) -> dict[str, Plans[T]]:
            sequences = {"graph": setup.sequence, "reverse": setup.push}
            return {kind: Plans(matrices, make, thread, copies=copies) for kind, matrices in sequences.items()}

        like = state.parameters
        self._mixers = plans(lambda weights: Mixer(weights, placement, like, pool))
        # For second moments and variances, which must not become negative.
        self._positive_mixers = plans(lambda weights: Mixer(weights, placement, like, pool, differences=False))
        self._neighbors = plans(lambda weights: Neighbors(weights, placement, like, self._wire))
        self._num_messages = num_messages(setup)
        self.bytes_sent = 0
        self.row_bytes = dict.fromkeys(KINDS_OF_EDGES, 0)
        self.piece = 2**20

    @property
    def wire(self) -> Wire:
        """What carries rows to other workers."""
        return self._wire

    @property
    def wire_bytes(self) -> int:
        """Bytes that this worker has really sent to others."""
        return self._wire.bytes_sent

    @property
    def waiting_seconds(self) -> float:
        """Seconds for which this worker has waited for messages of others."""
        return self._wire.waiting_seconds

    def _send(self, kind: str, step: int, size: int) -> None:
        """Count a row of `size` bytes along each edge of a step."""
        counts = self._num_messages[kind]
        self.row_bytes[kind] += size
        self.bytes_sent += counts[step % len(counts)] * size

    def combine(
        self, x: Tensor, step: int, sent: int | None = None, *, truly: bool = False, spare: Tensor | None = None
    ) -> None:
        """Mix rows with the neighbours' in place: x_k ← Σ_l W[k, l] x_l.

        The mixed rows are written elsewhere, and `x` moves there if it can: earlier views keep the old values. What
        follows the parameters travels with them.

        Args:
            x: [N, ...] of any width.
            step: The step.
            sent: Bytes of one row on the wire; by default those of its shared numbers.
            truly: Whether attackers do not falsify this message, as for numbers of the protocol itself.
            spare: A tensor like the parameters that may be swapped with `x`.
        """
        self._send("graph", step, self._personal.row_bytes(x) if sent is None else sent)
        error = None if truly else self._error("graph", x, step)
        products = [self.products.product(self._mixers["graph"].at(step), x, spare, error)]
        if x is self._state.parameters:
            for rows in self._followers():
                follower = self.products.product(self._positive_mixers["graph"].at(step), rows, in_place=True)
                self._send("graph", step, self._personal.row_bytes(follower.flat))
                products.append(follower)
        self.products.compute(products)

    def push(self, x: Tensor, step: int, *, spare: Tensor | None = None) -> None:
        """Mix with weights whose columns sum to one; otherwise like `combine`, but nothing follows the parameters."""
        self._send("reverse", step, self._personal.row_bytes(x))
        self.products.compute(
            [self.products.product(self._mixers["reverse"].at(step), x, spare, self._error("reverse", x, step))]
        )

    def average(self, x: Tensor, step: int, weights: Tensor | None = None) -> None:
        """Replace each row in place by the mean of its replica, by way of a server.

        What follows the parameters travels with them.

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
        followers = self._followers() if x is self._state.parameters else []
        flats = [self.products.flat(rows) for rows in followers]
        for flat in flats:
            self._send("server", step, self._personal.row_bytes(flat))
        self.replicas.average((x, weights), *((flat, None) for flat in flats))
        for rows, flat in zip(followers, flats, strict=True):
            rows.copy_(flat.view(rows.shape))

    def neighbors(self, step: int) -> Neighbors:
        """Return the agents' neighbours at a step, in slots."""
        return self._neighbors["graph"].at(step)

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
        self._send("graph", step, size)
        neighbors = self.neighbors(step)
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
        self._send("graph", step, self._personal.row_bytes(x))
        return _Broadcast(self.neighbors(step), x, self._attackers, step, self._personal, self.piece)

    def centroid(self, x: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Average parameters and buffers over the agents of each replica.

        Args:
            x: Points [N, P] of the agents; by default their parameters.

        Returns:
            Parameters [R, P], and buffers by name, [R, ...].
        """
        point, *buffers = self.replicas.centroids(
            [self._state.parameters if x is None else x, *self._state.buffers.values()]
        )
        return point, dict(zip(self._state.buffers, buffers, strict=True))

    def _error(self, kind: str, x: Tensor, step: int) -> Tensor | None:
        """Compute by how much attackers falsify the mix of rows [N, ...]."""
        if self._attackers is None:
            return None
        return self._attackers.error(self._neighbors[kind].at(step), self.products.flat(x), step, self.piece).view(
            x.shape
        )

    def _followers(self) -> list[Tensor]:
        """Return optimizer state and running statistics that follow the parameters, as the experiment says."""
        followers: list[Tensor] = []
        if self._config.optimizer_state == "reset":
            for tensor in self._optimizer.rows():
                tensor.zero_()
        elif self._config.optimizer_state == "mix":
            followers += self._optimizer.rows()
        if self._config.buffers == "mix":
            statistics = [b for name, b in self._state.buffers.items() if name not in self._state.held]
            followers += [b for b in statistics if b.is_floating_point()]
        return followers


class _Broadcast:
    """Rows broadcast to all neighbours, the attackers' falsified, a few columns at a time."""

    def __init__(
        self, neighbors: Neighbors, x: Tensor, attackers: Attackers | None, step: int, personal: Personal, piece: int
    ) -> None:
        self._neighbors = neighbors
        self._x, self._others = x, neighbors.others(x)
        self._attackers = attackers
        self._step = step
        self._message = 0 if attackers is None else attackers.message(step)
        self._personal = personal
        self._piece = piece

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        for columns, told, heard in self._neighbors.broadcast(self._x, self._others, self._piece):
            if self._attackers is not None:
                self._attackers.falsify(self._neighbors, told, heard, columns, self._step, self._message)
            self._personal.keep(heard, told, columns)
            yield columns, heard
