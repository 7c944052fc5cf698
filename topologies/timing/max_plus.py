"""A round of waiting: each agent's latest arrival, as a product in the max-plus algebra."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from basinet.topologies.compiling import kept

__all__ = ["Arcs"]


@dataclass(frozen=True, eq=False)
class Arcs:
    """Who waits for whom, and for how long: a sparse max-plus matrix by rows.

    Attributes:
        starts: The first arc into each agent, then the number of arcs, int64 [K + 1].
        senders: Sender of each arc, int64 [E].
        delays: Its delay in nanoseconds, int64 [E].

    Example:
        >>> path = Arcs.of(3, receivers=[1, 0, 2, 1], senders=[0, 1, 1, 2], delays=[1, 1, 2, 2])
        >>> path.latest(np.array([1, 2, 4]))  # diffusion, if the agents adapt for 1, 2 and 4 ns
        array([3, 6, 4])
    """

    starts: NDArray[np.int64]
    senders: NDArray[np.int64]
    delays: NDArray[np.int64]

    @classmethod
    def of(cls, agents: int, receivers: Any, senders: Any, delays: Any) -> Self:
        """Sort arcs by receiver.

        Args:
            agents: Number of agents K.
            receivers: Receiver of each arc, integers [E]; an agent may receive from another several times.
            senders: Its sender, integers [E].
            delays: Its delay, integers [E].

        Returns:
            The arcs.

        Raises:
            ValueError: An arc names an agent that does not exist.
        """
        to, whence, took = (np.asarray(each, dtype=np.int64) for each in (receivers, senders, delays))
        for numbers in (to, whence):
            if len(numbers) and not 0 <= numbers.min() <= numbers.max() < agents:
                wrong = numbers[(numbers < 0) | (numbers >= agents)][0]
                raise ValueError(f"an arc names agent {wrong}; the {agents} agents are numbered from 0")
        order = np.argsort(to, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(to, minlength=agents))])
        return cls(starts, whence[order], took[order])

    @property
    def agents(self) -> int:
        """Number of agents K."""
        return len(self.starts) - 1

    @property
    def receivers(self) -> NDArray[np.int64]:
        """Receiver of each arc, int64 [E]."""
        return np.repeat(np.arange(self.agents), np.diff(self.starts))

    def latest(self, sent: NDArray[np.int64], own: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return when each agent has everything that it waits for: max(own_k, max_l (sent_l + D_lk)).

        Args:
            sent: When each agent sends, int64 [K, R] or [K], for R replicas.
            own: When it has what it waits for at home; by default, when it sends.

        Returns:
            The times, of the shape of `sent`.
        """
        times = (sent if own is None else own).copy()
        shape = self.agents, -1
        _loop()(sent.reshape(shape), self.starts, self.senders, self.delays, times.reshape(shape))
        return times


@cache
def _loop() -> Any:
    from numba import njit  # slow to import

    return kept(lambda **more: njit(nogil=True, **more)(_latest))


def _latest(sent, starts, senders, delays, times):  # type: ignore[no-untyped-def]
    for k in range(len(starts) - 1):
        for r in range(times.shape[1]):
            time = times[k, r]
            for arc in range(starts[k], starts[k + 1]):
                time = max(time, sent[senders[arc], r] + delays[arc])
            times[k, r] = time
