"""Placement: which rows of the state live on which worker."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

__all__ = ["Placement"]


@dataclass(frozen=True, eq=False)
class Placement:
    """Which rows of the full state [R·K, P] a worker hosts; row r·K + k is agent k of replica r.

    Attributes:
        agents: K.
        owner: The worker of each row, int64 [R·K].
        workers: Number of workers.
        rank: This worker.
    """

    agents: int
    owner: np.ndarray
    workers: int = 1
    rank: int = 0

    @classmethod
    def split(cls, replicas: int, agents: int, workers: int = 1, rank: int = 0) -> "Placement":
        """Split the rows evenly among workers, in their order.

        Args:
            replicas: R.
            agents: K.
            workers: Number of workers, at most R·K.
            rank: This worker.

        Returns:
            A placement.
        """
        bounds = np.linspace(0, replicas * agents, workers + 1).round().astype(int)
        return cls(agents, np.repeat(np.arange(workers), np.diff(bounds)), workers, rank)

    @property
    def replicas(self) -> int:
        """R."""
        return len(self.owner) // self.agents

    @cached_property
    def rows(self) -> np.ndarray:
        """Rows of this worker in ascending order, int64 [N]."""
        return np.flatnonzero(self.owner == self.rank)

    @property
    def row_replicas(self) -> np.ndarray:
        """Replica of each row of this worker."""
        return self.rows // self.agents

    @property
    def row_agents(self) -> np.ndarray:
        """Agent of each row of this worker."""
        return self.rows % self.agents

    @cached_property
    def whole(self) -> bool:
        """Whether this worker shares no replica with another."""
        return bool((np.unique(self.row_replicas, return_counts=True)[1] == self.agents).all())

    @cached_property
    def order(self) -> np.ndarray:
        """Where each row of the full state is found when the workers' rows are put one after another, int64 [R·K]."""
        return np.argsort(np.argsort(self.owner, kind="stable"))

    def local(self, rows: np.ndarray) -> np.ndarray:
        """Find rows of this worker among those that it hosts.

        Args:
            rows: Rows of the full state that live here.

        Returns:
            Their places in the worker's own state.
        """
        return np.searchsorted(self.rows, rows)

    def index(self, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Return the replica and the agent of each row of this worker, int64 [N] each, on a device."""
        return torch.from_numpy(self.row_replicas).to(device), torch.from_numpy(self.row_agents).to(device)
