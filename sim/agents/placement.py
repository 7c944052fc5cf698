"""Placement: which rows of the state live on which worker."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Placement"]

_UNEVEN = 1.1
"""How many times as many rows as its share a worker may host, so that replicas remain whole."""


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
        sizes = _sizes(replicas * agents, np.ones(workers))
        return cls(agents, np.repeat(np.arange(workers), sizes), workers, rank)

    @classmethod
    def of_groups(
        cls,
        replicas: int,
        agents: int,
        groups: Sequence[object],
        arrange: Callable[[list[int], list[int]], np.ndarray] | None = None,
        shares: Sequence[float] | None = None,
    ) -> "Placement":
        """Split the rows such that few replicas, and these between few groups of workers, are shared.

        Whole replicas where nobody gets many more rows than its share; otherwise, a replica is split where its rows
        would be too many.

        Args:
            replicas: R.
            agents: K.
            groups: Group of each worker, such as its machine.
            arrange: Splits the agents of a replica: called with the number of them that each of its workers hosts, and
                the groups of these, it returns the place of each agent's worker, int64 [K]. None for their own order.
            shares: How many rows each worker gets in relation to the others; None for all alike.

        Returns:
            A placement, of the first worker.
        """
        names = list(dict.fromkeys(groups))
        number = np.array([names.index(group) for group in groups])
        workers = np.argsort(number, kind="stable")  # those of a group one after another
        weights = np.ones(len(workers)) if shares is None else np.asarray(shares, float)[workers]
        sizes = _sizes(replicas, weights) * agents
        if sizes.min() == 0 or (sizes / weights).max() * weights.sum() > _UNEVEN * replicas * agents:
            sizes = _sizes(replicas * agents, weights)
        owner = np.repeat(workers, sizes).reshape(replicas, agents)
        known: dict[tuple[int, ...], np.ndarray] = {}
        for row in owner if arrange is not None else ():
            starts = np.flatnonzero(np.diff(row, prepend=-1))
            hosts, counts = row[starts], np.diff(starts, append=agents).tolist()
            key = (*counts, *number[hosts])
            if arrange is not None and key not in known:
                known[key] = arrange(counts, number[hosts].tolist())
            row[:] = hosts[known[key]]
        return cls(agents, owner.ravel(), len(workers))

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

    def join(self, parts: Sequence[Any]) -> Any:
        """Put the workers' rows together in the order of the full state.

        Args:
            parts: Of each worker by rank, its rows: tensors [N, ...], or lists.

        Returns:
            A tensor [R·K, ...], or a list; the part itself if it is the only one.
        """
        if len(parts) == 1:
            return parts[0]
        together = torch.cat([*parts]) if isinstance(parts[0], Tensor) else [item for part in parts for item in part]
        if (self.order[1:] > self.order[:-1]).all():
            return together
        if isinstance(together, Tensor):
            return together[torch.from_numpy(self.order)]
        return [together[row] for row in self.order]

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


def _sizes(rows: int, weights: np.ndarray) -> np.ndarray:
    """Return how many rows each worker gets, in proportion to its weight up to rounding."""
    ends = rows * np.cumsum(weights) / weights.sum()
    return np.diff(ends.round().astype(int), prepend=0)
