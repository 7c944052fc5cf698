"""Sums, means and distances over the agents of each replica, across workers."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from basinet.sim.agents.messages.wire import Group, Wire
from basinet.sim.agents.personal import Personal
from basinet.sim.agents.placement import Placement

__all__ = ["Replicas"]

_PIECE = 2**18
"""Numbers that are averaged at a time, so that they stay in the cache."""


class Replicas:
    """Reduces the rows of each replica's agents to one.

    Args:
        placement: The rows of this worker.
        weights: Weights π of the agents in the centroid of each replica, [R, K]; agents of weight 0 are left out,
            whatever their values.
        personal: The parameters that agents do not share.
        like: A tensor of the device and type of the weights.
        wire: Carries sums between workers.
    """

    def __init__(self, placement: Placement, weights: np.ndarray, personal: Personal, like: Tensor, wire: Wire) -> None:
        self._placement = placement
        self._personal = personal
        self._wire = wire
        self._replica, _ = placement.index(like.device)
        self._sharers: list[Group] | None = None
        self._like = like.new_empty(0)
        self.weigh(weights)

    def weigh(self, weights: np.ndarray) -> None:
        """Change the weights of the agents in the centroids.

        Args:
            weights: π of each replica, [R, K].
        """
        placement, device = self._placement, self._like.device
        mine = placement.row_replicas, placement.row_agents
        counted = weights > 0
        self._weights = torch.from_numpy(weights[mine]).to(self._like)
        self._left_out = None if counted.all() else torch.from_numpy(~counted[mine]).to(device)
        first = counted.argmax(axis=1)[placement.row_replicas]
        self._firsts = torch.from_numpy(np.flatnonzero(placement.row_agents == first)).to(device)

    def sums(self, rows: Tensor) -> Tensor:
        """Sum rows over the agents of each replica; every worker gets the same result.

        Args:
            rows: [N, ...], this worker's rows.

        Returns:
            The sums, [R, ...].
        """
        total = self._sums_here(rows)
        self._share([total])
        return total

    def _sums_here(self, rows: Tensor) -> Tensor:
        """Sum this worker's rows over the agents of each replica, [R, ...]."""
        p = self._placement
        total = rows.new_zeros(p.replicas, *rows.shape[1:])
        if p.whole:
            total[np.unique(p.row_replicas)] = rows.view(-1, p.agents, *rows.shape[1:]).sum(1, dtype=rows.dtype)
        else:
            total.index_add_(0, self._replica, rows)
        return total

    def _share(self, totals: Sequence[Tensor]) -> None:
        """Sum tensors [R, ...] over all workers, in place."""
        if self._placement.workers > 1:
            self._wire.sum(totals)

    def _share_own(self, totals: Sequence[Tensor]) -> None:
        """Sum tensors [R, ...] in place, each replica over its workers only: right for replicas that live here."""
        if self._sharers is None:
            self._sharers = self._connect()
        if self._sharers:
            self._wire.sum(totals, self._sharers)

    def _connect(self) -> list[Group]:
        """Prepare sums over the workers that share replicas; return those of this worker, and which replicas."""
        p = self._placement
        groups: dict[tuple[int, ...], list[int]] = {}
        for replica, owners in enumerate(p.owner.reshape(p.replicas, p.agents)):
            groups.setdefault(tuple(np.unique(owners).tolist()), []).append(replica)
        shared = sorted(ranks for ranks in groups if len(ranks) > 1)
        if shared:
            self._wire.connect(shared)
        device = self._replica.device
        return [(ranks, torch.tensor(groups[ranks], device=device)) for ranks in shared if p.rank in ranks]

    def any(self, flags: Tensor) -> Tensor:
        """Return for each row whether any agent of its replica has a flag.

        Args:
            flags: bool [N], of this worker's rows.

        Returns:
            bool [N].
        """
        total = self._sums_here(flags.int())
        self._share_own([total])
        return (total > 0).index_select(0, self._replica)

    def average(self, *items: tuple[Tensor, Tensor | None]) -> None:
        """Replace the mixed parameters of each row by their mean over all agents of the replica.

        All items travel together, and only between workers that share a replica.

        Args:
            *items: Rows x [N, P], changed in place, and how much each row counts, [N]; None for all alike. Where
                nothing counts, the mean is 0.
        """
        totals, counts = [], []
        for x, weights in items:
            totals.append(self._sums_here(x if weights is None else x * weights[:, None].to(x)))
            counts.append(None if weights is None else self._sums_here(weights).to(x))
        self._share_own([*totals, *(count for count in counts if count is not None)])
        for (x, _), total, count in zip(items, totals, counts, strict=True):
            mean = total / (self._placement.agents if count is None else count.where(count > 0, 1)[:, None])
            for columns in self._personal.shared(x):
                torch.index_select(mean[..., columns], 0, self._replica, out=x[..., columns])

    def centroid(self, x: Tensor) -> Tensor:
        """Average the agents of each replica with the weights π; see `centroids`.

        Args:
            x: [N, ...], this worker's rows.

        Returns:
            The centroids, [R, ...]; integers are rounded.
        """
        return self.centroids([x])[0]

    def centroids(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Average the agents of each replica with the weights π; every worker gets the same result.

        If all agents agree, the centroid is exactly their common value: the differences from the first agent with
        nonzero weight are averaged. All tensors travel together.

        Args:
            tensors: [N, ...] each, this worker's rows.

        Returns:
            The centroids, [R, ...]; integers are rounded.
        """
        rows = [x if x.is_floating_point() else x.double() for x in tensors]
        firsts = [x.new_zeros(self._placement.replicas, *x.shape[1:]) for x in rows]
        for first, x in zip(firsts, rows, strict=True):
            first[self._replica[self._firsts]] = x[self._firsts]
        self._share(firsts)
        totals = [self._differences(x, first) for x, first in zip(rows, firsts, strict=True)]
        self._share(totals)
        found = [first + total for first, total in zip(firsts, totals, strict=True)]
        return [
            mean if x.is_floating_point() else mean.round().to(x.dtype) for mean, x in zip(found, tensors, strict=True)
        ]

    def _differences(self, x: Tensor, first: Tensor) -> Tensor:
        """Sum π_k (x_k − first) over this worker's rows, [R, ...]."""
        total = torch.zeros_like(first)
        for rows in self._pieces(x):
            difference = x[rows] - first[self._replica[rows]]
            ones = [1 for _ in x.shape[1:]]
            difference *= self._weights[rows].view(-1, *ones)
            if self._left_out is not None:
                difference.masked_fill_(self._left_out[rows].view(-1, *ones), 0)
            total.index_add_(0, self._replica[rows], difference)
        return total

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
