"""Routes: the lines, shared with others, that the messages of each pair of agents pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from basinet.topologies.networks.units import transfer

__all__ = ["Routes"]

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Routes:
    """The lines that messages pass, in order; a line carries one direction and is shared by all who pass it.

    Attributes:
        starts: Where the route of each link begins in ``lines`` [E + 1].
        lines: Numbers of the lines, in the order in which a message passes them.
        latency: Latency of each line [M], nanoseconds.
        capacity: Capacity of each line [M], bytes per second.
    """

    starts: Numbers
    lines: Numbers
    latency: Numbers
    capacity: NDArray[np.float64]

    @classmethod
    def of_layers(
        cls,
        layers: Sequence[Numbers],
        latency: Sequence[int] | Numbers,
        capacity: Sequence[float] | NDArray[np.float64],
    ) -> "Routes":
        """Build routes from the line that each link passes first, second, and so on.

        Args:
            layers: For each place of a route, the line of each link [E], or -1 where it has none.
            latency: Latency of each line [M], nanoseconds.
            capacity: Capacity of each line [M], bytes per second.

        Returns:
            The routes.
        """
        table = np.stack([np.asarray(layer, dtype=np.int64) for layer in layers], axis=1)
        used = table >= 0
        starts = np.concatenate([[0], np.cumsum(used.sum(axis=1))]).astype(np.int64)
        return cls(starts, table[used], np.asarray(latency, np.int64), np.asarray(capacity, np.float64))

    @property
    def hops(self) -> Numbers:
        """Number of lines of each route [E]."""
        return np.diff(self.starts)

    def of(self, links: Numbers) -> "Routes":
        """Return the routes of some links.

        Args:
            links: Numbers of the links [n].

        Returns:
            Their routes, over the same lines.
        """
        hops = self.hops[links]
        starts = np.concatenate([[0], np.cumsum(hops)]).astype(np.int64)
        places = np.arange(starts[-1]) + np.repeat(self.starts[links] - starts[:-1], hops)
        return Routes(starts, self.lines[places], self.latency, self.capacity)

    def sums(self, values: Numbers) -> Numbers:
        """Add up a quantity of the lines along each route.

        Args:
            values: A number for each line [M].

        Returns:
            Sums [E]; 0 for an empty route.
        """
        before = np.concatenate([[0], np.cumsum(values[self.lines])])
        return np.asarray(before[self.starts[1:]] - before[self.starts[:-1]])

    def narrowest(self) -> NDArray[np.float64]:
        """Return the least capacity along each route [E], bytes per second; infinite for an empty route."""
        least = np.full(len(self.starts) - 1, np.inf)
        np.minimum.at(least, np.repeat(np.arange(least.size), self.hops), self.capacity[self.lines])
        return least

    def incidence(self) -> csr_array:
        """Return which routes pass which line [M, E], ones and zeros."""
        passes = np.repeat(np.arange(len(self.starts) - 1), self.hops)
        shape = (self.capacity.size, len(self.starts) - 1)
        return csr_array((np.ones(passes.size), (self.lines, passes)), shape=shape)

    def transfers(self, size: int) -> Numbers:
        """Return how long a message occupies each line [M], nanoseconds.

        Args:
            size: Bytes of the message.

        Returns:
            Nanoseconds.
        """
        return np.asarray(transfer(size, self.capacity))
