"""The boundary: which rows cross between this worker and the others."""

import numpy as np
import torch

from basinet.sim.agents.messages.wire import Route, Routes
from basinet.sim.agents.placement import Placement

__all__ = ["Boundary", "crossing", "in_replicas"]


class Boundary:
    """The rows that cross along edges, each once however many agents of a worker need it.

    Args:
        receivers: Rows of the full state that receive, [E].
        senders: Rows that send to them, [E].
        placement: The rows of this worker.
        device: Device of the rows.

    Attributes:
        routes: To the other workers.
        size: H, how many rows of others arrive here.
    """

    def __init__(self, receivers: np.ndarray, senders: np.ndarray, placement: Placement, device: torch.device) -> None:
        self._owner = placement.owner
        by, of, here = self._owner[receivers], self._owner[senders], placement.rank
        total = len(self._owner)
        self._arriving = np.unique((of * total + senders)[(by == here) & (of != here)])
        leaving = np.unique((by * total + senders)[(by != here) & (of == here)])
        self.routes = crossing(leaving // total, placement.local(leaving % total), self._arriving // total, device)
        self.size = len(self._arriving)

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Find where rows of others arrive.

        Args:
            rows: Rows of the full state that are needed here.

        Returns:
            Their places among the H rows.
        """
        return np.asarray(np.searchsorted(self._arriving, self._owner[rows] * len(self._owner) + rows))


def crossing(targets: np.ndarray, places: np.ndarray, origins: np.ndarray, device: torch.device) -> Routes:
    """Sort what crosses by the other worker.

    Args:
        targets: The workers that need something, [S].
        places: What they need: places of rows here, [S].
        origins: The workers of the rows that are needed here, [H].
        device: Device of the rows.

    Returns:
        The routes; several rows for a worker keep their order.
    """
    return {
        int(rank): Route(torch.from_numpy(places[targets == rank]).to(device), int((origins == rank).sum()))
        for rank in np.union1d(targets, origins)
    }


def in_replicas(agents: np.ndarray, placement: Placement) -> np.ndarray:
    """Find the rows of agents in all replicas.

    Args:
        agents: Agents, [E].
        placement: The rows of this worker.

    Returns:
        Rows of the full state, [R·E].
    """
    rows: np.ndarray = (np.arange(placement.replicas)[:, None] * placement.agents + agents).ravel()
    return rows
