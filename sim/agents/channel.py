"""The channel: all messages between agents."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from basinet.algorithms.optimizers import LocalOptimizer
from basinet.sim.agents.attackers import no_average
from basinet.sim.agents.messages.disturbed.disturbances import Disturbances
from basinet.sim.agents.messages.edges import KINDS_OF_EDGES, num_messages
from basinet.sim.agents.messages.links import Links
from basinet.sim.agents.messages.neighbors import Neighbors
from basinet.sim.agents.messages.products import Product, Products
from basinet.sim.agents.messages.replicas import Replicas
from basinet.sim.agents.messages.wire import Wire
from basinet.sim.agents.personal import Personal
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import StackedState
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.models.patterns import first_names
from basinet.sim.setup.setup import Setup

__all__ = ["Channel"]


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
        wire: Carries rows to other workers.
        products: The products with W; those inside its `together` travel together.
        links: The edges of each step.
        disturbances: What happens to messages on their way.
        replicas: Sums, means and distances over the agents of each replica.
        bytes_sent: Bytes sent so far by all agents of a replica together, if none was absent.
        bytes_beside: What those of each replica have sent more, or less, since some were, int64 [R].
        row_bytes: Bytes sent along an edge of each kind since the channel was made.
        messages: Messages sent so far along the edges of each replica if there are faults, and those of them that were
            lost, int64 [2, R].
    """

    def __init__(
        self, setup: Setup, placement: Placement, state: StackedState, optimizer: LocalOptimizer, threads: int = 1
    ) -> None:
        self._config = config = setup.config
        self._state = state
        self._optimizer = optimizer
        self._personal = Personal(first_names(config.personal, state.names), state.shapes)
        self.wire = Wire()
        if placement.workers > 1:
            self.wire.open()
        self.products = Products(state, self._personal, self.wire)
        self.replicas = Replicas(placement, setup.honest_weights, self._personal, state.parameters, self.wire)
        pool = ThreadPoolExecutor(threads) if threads > 1 else None

        self.links = Links(setup, placement, state.parameters, self.wire, pool)
        self.disturbances = Disturbances(setup, placement, self.links, self._personal, state.parameters.device)
        self._placement = placement
        self._num_messages = num_messages(setup)
        self.bytes_sent = 0
        self.row_bytes = dict.fromkeys(KINDS_OF_EDGES, 0)
        self.bytes_beside = np.zeros(config.replicas, np.int64)
        self.messages = np.zeros((2, config.replicas), np.int64)

    @property
    def wire_bytes(self) -> int:
        """Bytes that this worker has really sent to others."""
        return self.wire.bytes_sent

    @property
    def waiting_seconds(self) -> float:
        """Seconds for which this worker has waited for messages of others."""
        return self.wire.waiting_seconds

    def _send(self, kind: str, step: int, size: int) -> None:
        """Count a row of `size` bytes along each edge of a step."""
        counts = self._num_messages[kind]
        self.row_bytes[kind] += size
        self.bytes_sent += counts[step % len(counts)] * size
        if self.links.outages.expected and kind != "server":
            self.messages[0] += counts[step % len(counts)]
            if (outage := self.links.outages.at(kind, step)) is not None:
                unsent = outage.unsent.sum(1)
                self.messages += np.stack([-unsent, outage.lost.sum(1) - unsent])
                self.bytes_beside -= unsent * size

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
        products = [self._product("graph", x, step, sent, truly=truly, spare=spare)]
        if x is self._state.parameters:
            for place, rows in enumerate(self._followers()):
                flat = self.products.flat(rows)
                mixer = self.disturbances.mixing_of_follower(flat, step, place)
                self._send("graph", step, self._personal.row_bytes(flat))
                products.append(self.products.product(mixer, rows, flat, in_place=True))
        self.products.compute(products)

    def push(self, x: Tensor, step: int, *, spare: Tensor | None = None) -> None:
        """Mix with weights whose columns sum to one; otherwise like `combine`, but nothing follows the parameters."""
        self.products.compute([self._product("reverse", x, step, spare=spare)])

    def _product(
        self, kind: str, x: Tensor, step: int, sent: int | None = None, *, truly: bool = False, spare: Tensor | None
    ) -> Product:
        """Describe how rows [N, ...] are mixed, and count what is sent for it."""
        flat, size = self.products.flat(x), self._personal.row_bytes(x) if sent is None else sent
        mixer, error, size = self.disturbances.mixing(kind, flat, step, size, truly=truly)
        self._send(kind, step, size)
        return self.products.product(mixer, x, flat, spare, None if error is None else error.view(x.shape))

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
        if self.disturbances.attackers is not None:
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

    def welcome(self, who: np.ndarray, step: int) -> None:
        """Let agents go on from the weighted mean of the neighbours that they hear, if there are any.

        Args:
            who: bool [R, K].
            step: The step.
        """
        x, neighbors = self._state.parameters, self.neighbors(step)
        self.bytes_beside += self.links.outages.messages_to(who, "graph", step) * self._personal.row_bytes(x)
        total = neighbors.weights.sum(1, keepdim=True)
        rows = torch.from_numpy(who[self._placement.row_replicas, self._placement.row_agents]).to(x.device)
        rows = (rows & (total[:, 0] > 0)).nonzero()[:, 0]
        weights = (neighbors.weights / total)[rows]
        for columns, heard in self.disturbances.broadcast(x, step)[0]:
            x[rows, columns] = torch.einsum("nd,ndp->np", weights, heard[rows])

    def neighbors(self, step: int) -> Neighbors:
        """Return the agents' neighbours at a step, in slots; those whose messages are lost are not heard."""
        return self.links.neighbors("graph", step)

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
        received, size = self.disturbances.exchange(messages, step, size)
        self._send("graph", step, size)
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
        heard, size = self.disturbances.broadcast(x, step)
        self._send("graph", step, size)
        return heard

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
