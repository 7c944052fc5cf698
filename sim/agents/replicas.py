"""Sums, means and distances over the agents of each replica, across workers."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from basinet.sim.agents.personal import Personal
from basinet.sim.agents.placement import Placement

__all__ = ["Replicas"]

_PIECE = 2**18
"""Numbers that are averaged at a time, so that they stay in the cache."""


class Replicas:
    """Reduces the rows of each replica's agents to one; every worker gets the same result.

    Args:
        placement: The rows of this worker.
        weights: Weights π of the agents in the centroid of each replica, [R, K]; agents of weight 0 are left out,
            whatever their values.
        personal: The parameters that agents do not share.
        like: A tensor of the device and type of the weights.
    """

    def __init__(self, placement: Placement, weights: np.ndarray, personal: Personal, like: Tensor) -> None:
        self._placement = placement
        self._personal = personal
        self._replica, _ = placement.index(like.device)
        mine = placement.row_replicas, placement.row_agents
        counted = weights > 0
        self._weights = torch.from_numpy(weights[mine]).to(like)
        self._left_out = None if counted.all() else torch.from_numpy(~counted[mine]).to(like.device)
        first = counted.argmax(axis=1)[placement.row_replicas]
        self._firsts = torch.from_numpy(np.flatnonzero(placement.row_agents == first)).to(like.device)

    def sums(self, rows: Tensor) -> Tensor:
        """Sum rows over the agents of each replica.

        Args:
            rows: [N, ...], this worker's rows.

        Returns:
            The sums, [R, ...].
        """
        p = self._placement
        total = rows.new_zeros(p.replicas, *rows.shape[1:])
        if p.whole:
            total[np.unique(p.row_replicas)] = rows.view(-1, p.agents, *rows.shape[1:]).sum(1)
        else:
            total.index_add_(0, self._replica, rows)
        if p.workers > 1:
            dist.all_reduce(total)
        return total

    def any(self, flags: Tensor) -> Tensor:
        """Return for each row whether any agent of its replica has a flag.

        Args:
            flags: bool [N], of this worker's rows.

        Returns:
            bool [N].
        """
        return (self.sums(flags.int()) > 0).index_select(0, self._replica)

    def average(self, x: Tensor, weights: Tensor | None = None) -> None:
        """Replace the mixed parameters of each row by their mean over all agents of the replica.

        Args:
            x: [N, P], this worker's rows; changed in place.
            weights: How much each row counts, [N]; None for all alike. Where nothing counts, the mean is 0.
        """
        if weights is None:
            mean = self.sums(x) / self._placement.agents
        else:
            total = self.sums(weights).to(x)
            mean = self.sums(x * weights[:, None].to(x)) / total.where(total > 0, 1)[:, None]
        for columns in self._personal.shared(x):
            torch.index_select(mean[..., columns], 0, self._replica, out=x[..., columns])

    def centroid(self, x: Tensor) -> Tensor:
        """Average the agents of each replica with the weights π.

        If all agents agree, the centroid is exactly their common value: the differences from the first agent with
        nonzero weight are averaged.

        Args:
            x: [N, ...], this worker's rows.

        Returns:
            The centroids, [R, ...]; integers are rounded.
        """
        if not x.is_floating_point():
            return self.centroid(x.double()).round().to(x.dtype)
        first = x.new_zeros(self._placement.replicas, *x.shape[1:])
        first[self._replica[self._firsts]] = x[self._firsts]
        if self._placement.workers > 1:
            dist.all_reduce(first)
        total = torch.zeros_like(first)
        for rows in self._pieces(x):
            difference = x[rows] - first[self._replica[rows]]
            ones = [1 for _ in x.shape[1:]]
            difference *= self._weights[rows].view(-1, *ones)
            if self._left_out is not None:
                difference.masked_fill_(self._left_out[rows].view(-1, *ones), 0)
            total.index_add_(0, self._replica[rows], difference)
        if self._placement.workers > 1:
            dist.all_reduce(total)
        return first + total

    def distances(self, x: Tensor, centroids: Tensor) -> Tensor:
        """Compute the consensus distance of each replica, Σ_k π_k ‖x_k − x̄‖², over the mixed parameters.

        Args:
            x: [N, P], this worker's rows.
            centroids: [R, P].

        Returns:
            The distances, [R].
        """
        return self.centroid(self._squares(x, centroids))

    def distances_left_out(self, x: Tensor, centroids: Tensor) -> Tensor:
        """Compute the mean squared distance from the centroid over the agents of weight 0.

        Args:
            x: [N, P], this worker's rows.
            centroids: [R, P].

        Returns:
            The distances, [R]; NaN for replicas without such agents.
        """
        squares = self._squares(x, centroids)
        out = torch.zeros_like(squares, dtype=torch.bool) if self._left_out is None else self._left_out
        total, count = self.sums(torch.stack([squares.where(out, 0), out.to(squares)], 1)).unbind(1)
        return total / count

    def _squares(self, x: Tensor, centroids: Tensor) -> Tensor:
        """Compute ‖x_k − x̄‖², [N]."""
        squares = []
        for rows in self._pieces(x):
            difference = x[rows] - centroids[self._replica[rows]]
            for columns in self._personal.columns:
                difference[:, columns] = 0
            squares.append(difference.norm(dim=1).square())
        return torch.cat(squares)

    def _pieces(self, x: Tensor) -> Iterator[slice]:
        """Cut the rows into pieces, so that temporaries stay small."""
        length = max(1, _PIECE // max(1, x[0].numel()))
        for start in range(0, len(x), length):
            yield slice(start, start + length)
