"""Placement: which rows of the state live on which worker."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Placement", "wire"]


@dataclass(frozen=True)
class Placement:
    """Which rows of the full state [R·K, P] a worker hosts; row r·K + k is agent k of replica r.

    Attributes:
        replicas: R.
        agents: K.
        bounds: Worker w hosts the rows from bounds[w] to bounds[w + 1].
        rank: This worker.
    """

    replicas: int
    agents: int
    bounds: tuple[int, ...]
    rank: int = 0

    @classmethod
    def split(cls, replicas: int, agents: int, workers: int = 1, rank: int = 0) -> "Placement":
        """Split the rows evenly among workers.

        Args:
            replicas: R.
            agents: K.
            workers: Number of workers, at most R·K.
            rank: This worker.

        Returns:
            A placement.
        """
        bounds = np.linspace(0, replicas * agents, workers + 1).round().astype(int)
        return cls(replicas, agents, tuple(bounds.tolist()), rank)

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self.bounds) - 1

    @property
    def rows(self) -> range:
        """Rows of this worker."""
        return range(self.bounds[self.rank], self.bounds[self.rank + 1])

    @property
    def row_replicas(self) -> np.ndarray:
        """Replica of each row of this worker."""
        return np.asarray(self.rows) // self.agents

    @property
    def row_agents(self) -> np.ndarray:
        """Agent of each row of this worker."""
        return np.asarray(self.rows) % self.agents

    @property
    def whole(self) -> bool:
        """Whether this worker shares no replica with another."""
        return self.rows.start % self.agents == 0 and self.rows.stop % self.agents == 0

    def index(self, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Return the replica and the agent of each row of this worker, int64 [N] each, on a device."""
        return torch.from_numpy(self.row_replicas).to(device), torch.from_numpy(self.row_agents).to(device)


def wire(like: Tensor) -> torch.device:
    """Return the device from which the network sends tensors: gloo only sends from host memory.

    Args:
        like: A tensor to send.

    Returns:
        The device.
    """
    return torch.device("cpu") if dist.get_backend() == "gloo" else like.device
