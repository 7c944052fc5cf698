"""Mixing: the product with W, and the communication between workers that it takes."""

import warnings
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array
from torch import Tensor

from basinet.sim.agents.messages import sparse_products
from basinet.sim.agents.messages.boundary import Boundary, in_replicas
from basinet.sim.agents.messages.wire import Routes, Wire
from basinet.sim.agents.placement import Placement
from basinet.sim.faults.outages import Outage

__all__ = ["Mixer", "Mixing", "mix"]

_DENSE_BELOW = 64
"""Up to this many agents, a dense product is faster than a sparse one on a GPU, whatever the graph."""

_TOLERANCE = 1e-8
"""Tolerance within which a row of W counts as summing to one, so that agents that agree stay exactly as they are."""


class Mixing(Protocol):
    """What computes products with W, as a `Mixer` does."""

    routes: Routes

    def leaving(self, x: Tensor) -> Tensor:
        """Return the rows that are sent to other workers."""

    def combine(self, x: Tensor, result: Tensor) -> None:
        """Compute what this worker's rows contribute."""

    def add(self, others: Tensor, x: Tensor, result: Tensor) -> None:
        """Add what the rows of other workers contribute."""


def mix(products: Sequence[tuple[Mixing, Tensor, Tensor]], wire: Wire) -> None:
    """Compute W x for several x at once: one message per pair of workers, in flight while local rows are mixed.

    Args:
        products: Mixers, the tensors x [N, P], of the same type, and what receives W x, not the same tensors as `x`.
        wire: Carries rows to other workers.
    """
    flight = wire.send([(mixer.routes, mixer.leaving(x)) for mixer, x, _ in products])
    for mixer, x, result in products:
        mixer.combine(x, result)
    for (mixer, x, result), others in zip(products, flight.fetch(), strict=True):
        mixer.add(others, x, result)


class _Sparse:
    """Some columns of W, stored so that products are fast on the device.

    Products are written with differences, x_k ← s_k x_k + Σ_l W[k, l] (x_l − x_k) with s the row sums of W, so that
    agents that agree stay as they are: weights rounded to the floating type of x do not sum to one exactly, and an
    algorithm that corrects itself from step to step would accumulate the error.

    Args:
        matrix: The off-diagonal entries of W in this worker's rows, and in the columns of some rows.
        sums: The row sums s of W.
        like: A tensor of the device and type of the products.
        pool: Threads that share a product, if there are several.
    """

    def __init__(self, matrix: csr_array, sums: np.ndarray, like: Tensor, pool: ThreadPoolExecutor | None) -> None:
        self.on_cpu = like.device.type == "cpu"
        self.pool = pool
        count = pool._max_workers if pool else 1
        bounds = [matrix.shape[0] * share // count for share in range(count + 1)]
        if self.on_cpu:
            rounded = torch.from_numpy(sums).to(like.dtype).numpy()
            starts, columns, weights = sparse_products.pad(matrix)
            self.entries = columns, torch.from_numpy(weights).to(like.dtype).numpy()
            # Each thread has its own rows, so that their number does not change the result.
            self.shares = [(slice(a, b), starts[a : b + 1], rounded[a:b]) for a, b in pairwise(bounds)]
        else:
            self.matrix = _to_torch(matrix, like)

    def without(self, arrives: np.ndarray, sums: np.ndarray) -> "_Sparse":
        """Return the product of some entries only.

        Args:
            arrives: Which entries these are, as `sparse_products.pad` lays them out.
            sums: The row sums.

        Returns:
            The product, on the CPU.
        """
        found = copy(self)
        columns, weights = self.entries
        found.entries = columns, np.where(arrives, weights, 0).astype(weights.dtype)
        rounded = sums.astype(weights.dtype)
        found.shares = [(rows, starts, rounded[rows]) for rows, starts, _ in self.shares]
        return found

    def multiply(self, x: Tensor, own: Tensor, out: Tensor, *, add: bool) -> None:
        """Compute W x for some rows x, given this worker's `own`; or add it to the product already in `out`."""
        if self.on_cpu:
            columns, weights = self.entries
            source, mine, target = x.numpy(), own.numpy(), out.numpy()

            def mix(share: tuple[slice, np.ndarray, np.ndarray]) -> None:
                rows, starts, sums = share
                sparse_products.mix(starts, columns, weights, source, mine[rows], sums, target[rows], add)

            deque((self.pool.map if self.pool else map)(mix, self.shares))
        else:
            torch.addmm(out if add else own, self.matrix, x, out=out)


class Mixer:
    """Computes x ← W x for the rows of one worker.

    Sums run over local neighbours first, then over those on other workers, so that placements agree up to rounding.

    Args:
        weights: The mixing matrix W [K, K], sparse.
        placement: The rows of this worker.
        like: A tensor [N, P] of the device and type of the products.
        pool: Threads that share a sparse product, if there are several.
        differences: Whether products are written with differences between agents, so that those that agree stay as
            they are; without them, what is nonnegative stays nonnegative.
        dense_share: Share of nonzero entries from which the product with full replicas is dense; on a GPU, it is also
            dense for few agents.

    Attributes:
        routes: Of the rows that other workers need, and that are needed from them.
    """

    def __init__(
        self,
        weights: csr_array,
        placement: Placement,
        like: Tensor,
        pool: ThreadPoolExecutor | None = None,
        *,
        differences: bool = True,
        dense_share: float = 0.5,
    ) -> None:
        self.placement = placement
        self.pool = pool
        self.differences = differences
        self._like = like.new_empty(0)
        self._others = weights - diags_array(weights.diagonal(), format="csr")
        self._others.eliminate_zeros()
        if differences:
            self._others.data = torch.from_numpy(self._others.data).to(like.dtype).double().numpy()
            self._sums = np.asarray(weights.sum(axis=1)).ravel()
            self._sums[abs(self._sums - 1) < _TOLERANCE] = 1
            # That of W − I, whose rows sum to s − 1.
            self._diagonal = self._sums - 1 - np.asarray(self._others.sum(axis=1)).ravel()
        else:
            self._sums, self._diagonal = np.zeros(placement.agents), weights.diagonal()
        agents = placement.agents
        self.dense: Tensor | None = None
        self.outside: _Sparse | None = None
        self.routes: Routes = {}
        self._numbers: list[np.ndarray] | None = None
        dense = weights.nnz >= dense_share * agents**2 or (agents <= _DENSE_BELOW and like.device.type != "cpu")
        if placement.whole and dense and differences:
            self.dense = torch.from_numpy(weights.toarray()).to(like)
            self.row_sums = None if (self._sums == 1).all() else torch.from_numpy(self._sums[:, None]).to(like)
            self.scratch = like.new_empty(0)
        else:
            entries = self._others.tocoo()
            row, column = in_replicas(entries.row, placement), in_replicas(entries.col, placement)
            self._boundary = Boundary(row, column, placement, like.device)
            self.routes = self._boundary.routes
            self._split_weights()

    def _parts(self, values: np.ndarray) -> tuple[csr_array, csr_array]:
        """Sort values of the off-diagonal entries of I ⊗ W, in this worker's rows, by whether their column is here."""
        p = self.placement
        entries = self._others.tocoo()
        row, column = in_replicas(entries.row, p), in_replicas(entries.col, p)
        mine, inside = p.owner[row] == p.rank, p.owner[column] == p.rank

        def part(chosen: np.ndarray, places: np.ndarray, size: int) -> csr_array:
            return csr_array((values[chosen], (p.local(row[chosen]), places)), shape=(len(p.rows), size))

        here, there = mine & inside, mine & ~inside
        return (
            part(here, p.local(column[here]), len(p.rows)),
            part(there, self._boundary.places(column[there]), self._boundary.size),
        )

    def _split_weights(self, outage: Outage | None = None) -> None:
        """Prepare the products with the rows that live here and with those of other workers."""
        p = self.placement
        values = np.tile(self._others.data, p.replicas)
        sums, diagonal = self._sums[p.row_agents], self._diagonal[p.row_agents]
        if outage is not None:
            values[outage.lost.ravel()] = 0
            diagonal = diagonal + outage.added[p.row_replicas, p.row_agents]
            sums = self._sums_without(outage)
        local, from_others = self._parts(values)
        if self._like.device.type != "cpu" or not self.differences:
            local = csr_array(local + diags_array(diagonal))
        self.local = _Sparse(local, sums, self._like, self.pool)
        if self._boundary.size:
            self.outside = _Sparse(from_others, sums, self._like, self.pool)

    def _sums_without(self, outage: Outage) -> np.ndarray:
        """Return the row sums of this worker's rows."""
        p = self.placement
        sums: np.ndarray = self._sums[p.row_agents]
        if self.differences and outage.added is not outage.missing:
            sums = sums + (outage.added - outage.missing)[p.row_replicas, p.row_agents]
        return sums

    def without(self, outage: Outage) -> "Mixer":
        """Return the product in which some messages do not arrive; what travels between workers is the same.

        Args:
            outage: The messages.

        Returns:
            The mixer of another W in each replica.
        """
        found = copy(self)
        if self.dense is not None:
            found.dense, found.row_sums = self._dense_without(outage)
        elif self.differences and self.local.on_cpu:
            if self._numbers is None:  # of the entries, from 1, as they are laid out in the products
                numbers = np.arange(1.0, outage.lost.size + 1)
                self._numbers = [sparse_products.pad(part)[2].astype(np.int64) for part in self._parts(numbers)]
            arrives, sums = np.append(False, ~outage.lost.ravel()), self._sums_without(outage)
            found.local = self.local.without(arrives[self._numbers[0]], sums)
            if self.outside is not None:
                found.outside = self.outside.without(arrives[self._numbers[1]], sums)
        else:
            found._split_weights(outage)
        return found

    def _dense_without(self, outage: Outage) -> tuple[Tensor, Tensor | None]:
        """Return the matrix of each replica, [R, K, K], and its row sums."""
        assert self.dense is not None
        here, agents = np.unique(self.placement.row_replicas), np.arange(self.placement.agents)
        entries = self._others.tocoo()
        replicas, edges = outage.lost[here].nonzero()
        dense = self.dense.repeat(len(here), 1, 1)
        dense[replicas, entries.row[edges], entries.col[edges]] = 0
        dense[:, agents, agents] += torch.from_numpy(outage.added[here]).to(self._like)
        if outage.added is outage.missing:
            return dense, self.row_sums
        sums = self._sums + outage.added[here] - outage.missing[here]
        return dense, torch.from_numpy(sums[:, :, None]).to(self._like)

    def leaving(self, x: Tensor) -> Tensor:
        """Return the rows that are sent to other workers, of which these take what they need: those of `x`."""
        return x

    def combine(self, x: Tensor, result: Tensor) -> None:
        """Compute what this worker's rows contribute to W x: all of it if none come from others.

        Args:
            x: [N, P], this worker's rows.
            result: [N, P], receives the product; not the same tensor as `x`.
        """
        if self.dense is None:
            self.local.multiply(x, self._own(x), result, add=False)
            return
        shape = (-1, self.placement.agents, x.shape[1])
        first = x.view(shape)[:, :1]
        differences = torch.sub(x.view(shape), first, out=self.scratch.resize_(result.view(shape).shape))
        base = first if self.row_sums is None else first * self.row_sums
        torch.baddbmm(base, self.dense.expand(len(first), -1, -1), differences, out=result.view(shape))

    def add(self, others: Tensor, x: Tensor, result: Tensor) -> None:
        """Add what the rows of other workers contribute to W x.

        Args:
            others: [H, P], the rows that have arrived along `routes`.
            x: [N, P], this worker's rows.
            result: [N, P], holds the contribution of these.
        """
        if self.outside is not None:
            self.outside.multiply(others, self._own(x), result, add=True)

    def _own(self, x: Tensor) -> Tensor:
        """Return from which rows differences are taken, if products are written with them."""
        return x if self.differences else torch.zeros_like(x)


def _to_torch(matrix: csr_array, like: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int64)),
            torch.from_numpy(matrix.indices.astype(np.int64)),
            torch.from_numpy(matrix.data).to(like.dtype),
            size=matrix.shape,
            device=like.device,
            check_invariants=True,
        )
