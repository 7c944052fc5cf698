"""The wire: carries rows and sums between workers, and counts what it carries and how long this worker waits."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from basinet.sim.agents.messages.gloo_threads import let_gloo_wait

__all__ = ["Flight", "Group", "Route", "Routes", "Wire"]

_UNREAD = 1024
"""Waits of a GPU whose length has not been read yet, at most."""


@dataclass(frozen=True)
class Route:
    """What is exchanged with one other worker.

    Attributes:
        send: Places of the rows that it needs, int64.
        needed: How many of its rows are needed here.
    """

    send: Tensor
    needed: int


Routes = Mapping[int, Route]
"""The routes to other workers, by their ranks in ascending order."""

Group = tuple[tuple[int, ...], Tensor | slice]
"""Workers, and the replicas that they share."""


class Wire:
    """Carries rows and sums from worker to worker, in buffers that are kept.

    Attributes:
        bytes_sent: Bytes that this worker has sent to others; an all-reduce of n workers counts as 2 (n − 1) / n times
            its size, as in a ring.
    """

    def __init__(self) -> None:
        self.bytes_sent = 0
        self._seconds = 0.0
        self._unread: list[tuple[Any, Any]] = []
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}
        self._groups: dict[tuple[int, ...], Any] = {}  # which torch's annotations know in part

    @property
    def waiting_seconds(self) -> float:
        """Seconds for which this worker has waited for messages of others."""
        self._read(len(self._unread))
        return self._seconds

    def open(self) -> None:
        """Connect all workers, which do so at once: NCCL's first message between only two would not find the others."""
        if dist.is_initialized() and dist.get_backend() == "nccl":
            dist.barrier()
        let_gloo_wait()

    def send(self, parcels: Sequence[tuple[Routes, Tensor]]) -> "Flight":
        """Start sending rows, and receiving those that are needed here: one message per pair of workers.

        Args:
            parcels: Tensors [N, P] of the same type, of any width each, and the routes of their rows. All workers send
                the same parcels, and fetch one flight before the next.

        Returns:
            What is under way.
        """
        peers = sorted({rank for routes, _ in parcels for rank in routes})
        if not peers:
            return Flight(self, parcels, [[]] * len(parcels), [])
        like = parcels[0][1]
        pieces = [[(routes[rank], x) for routes, x in parcels if rank in routes] for rank in peers]
        leaving = [[len(route.send) * x.shape[1] for route, x in message] for message in pieces]
        coming = [[route.needed * x.shape[1] for route, x in message] for message in pieces]
        out = torch.split(self._buffer("out", sum(map(sum, leaving)), like), [*map(sum, leaving)])
        arriving = self._buffer("into", sum(map(sum, coming)), like)
        into = torch.split(arriving, [*map(sum, coming)])
        for packed, message, sizes in zip(out, pieces, leaving, strict=True):
            for piece, (route, x) in zip(torch.split(packed, sizes), message, strict=True):
                _pack(x, route.send, piece.view(len(route.send), x.shape[1]))
        if like.device != arriving.device:
            torch.cuda.current_stream(like.device).synchronize()  # the copies to and from the buffers are done
        receives = [dist.P2POp(dist.irecv, t, rank) for t, rank in zip(into, peers, strict=True) if len(t)]
        sends = [dist.P2POp(dist.isend, t, rank) for t, rank in zip(out, peers, strict=True) if len(t)]
        self.bytes_sent += sum(t.nbytes for t in out)
        works = dist.batch_isend_irecv(receives + sends)
        if len(parcels) == 1:
            return Flight(self, parcels, [[arriving]], works)
        parts = {rank: iter(torch.split(t, sizes)) for rank, t, sizes in zip(peers, into, coming, strict=True)}
        return Flight(self, parcels, [[next(parts[rank]) for rank in routes] for routes, _ in parcels], works)

    def connect(self, groups: Sequence[tuple[int, ...]]) -> None:
        """Prepare sums over groups of workers; does nothing for those that are known.

        Args:
            groups: The ranks of each, the same groups in the same order on all workers, whether they belong or not.
        """
        for ranks in groups:
            if ranks not in self._groups:
                everyone: Any = dist.group.WORLD
                limit = everyone._get_backend(_network()).options._timeout
                whole = len(ranks) == dist.get_world_size()
                self._groups[ranks] = everyone if whole else dist.new_group(list(ranks), timeout=limit)
        let_gloo_wait()

    def sum(self, tensors: Sequence[Tensor], groups: Sequence[Group] = ()) -> None:
        """Sum tensors [R, ...] over workers, in place: one all-reduce for all tensors of a type.

        Args:
            tensors: Of the same shapes and types on all workers.
            groups: The workers among which some of the R entries are summed, connected before, and which entries these
                are; without any, all are summed over all workers. Workers have their groups in the same order.
        """
        travelling = []
        for ranks, chosen in groups or [(tuple(range(dist.get_world_size())), slice(None))]:
            for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
                parts = [tensor[chosen] for tensor in tensors if tensor.dtype == dtype]
                flat = parts[0].contiguous() if len(parts) == 1 else torch.cat([part.flatten() for part in parts])
                work = dist.all_reduce(flat, group=self._groups.get(ranks), async_op=True)
                self.bytes_sent += 2 * (len(ranks) - 1) * flat.nbytes // len(ranks)
                travelling.append((chosen, dtype, flat, work))
        self.wait([work for *_, work in travelling])
        for chosen, dtype, flat, _ in travelling:
            same = [tensor for tensor in tensors if tensor.dtype == dtype]
            sizes = [tensor[chosen].numel() for tensor in same]
            for tensor, part in zip(same, torch.split(flat.flatten(), sizes), strict=True):
                tensor[chosen] = part.view_as(tensor[chosen])

    def wait(self, works: Sequence[dist.Work]) -> None:
        """Wait for messages, and measure how long: of NCCL, for which the GPU waits and not the host, on the GPU.

        Args:
            works: What was started.
        """
        if dist.is_initialized() and dist.get_backend() == "nccl":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            begin.record()
            for work in works:
                work.wait()
            end.record()
            self._unread.append((begin, end))
            if len(self._unread) > _UNREAD:
                self._read(_UNREAD // 2)
            return
        start = time.perf_counter()
        for work in works:
            work.wait()
        self._seconds += time.perf_counter() - start

    def _read(self, count: int) -> None:
        """Add the oldest waits of the GPU."""
        for begin, end in self._unread[:count]:
            end.synchronize()
            self._seconds += begin.elapsed_time(end) / 1e3
        del self._unread[:count]

    def _buffer(self, use: str, size: int, like: Tensor) -> Tensor:
        """Return memory from which the network reads or into which it writes, of the type of a tensor."""
        held = self._buffers.get((use, like.dtype))
        if held is None or len(held) < size:
            on_host = _network().type == "cpu"
            held = torch.empty(
                size,
                dtype=like.dtype,
                device="cpu" if on_host else like.device,
                pin_memory=on_host and like.device.type == "cuda",
            )
            self._buffers[use, like.dtype] = held
        return held[:size]


@dataclass(frozen=True)
class Flight:
    """Rows under way.

    Args:
        wire: Carries them.
        parcels: What was sent.
        halos: What will have been received for each parcel from each of its routes.
        works: The messages.
    """

    wire: Wire
    parcels: Sequence[tuple[Routes, Tensor]]
    halos: Sequence[Sequence[Tensor]]
    works: Sequence[dist.Work]

    def fetch(self) -> list[Tensor]:
        """Wait for the rows.

        Returns:
            For each parcel, the rows [H, P] of the other workers in the order of their ranks, on the parcel's device.
            They are overwritten by the next flight.
        """
        if self.works:
            self.wire.wait(self.works)
        found = []
        for (_, x), halo in zip(self.parcels, self.halos, strict=True):
            whole = halo[0] if len(halo) == 1 else torch.cat([*halo]) if halo else x.new_empty(0)
            found.append(whole.to(x.device, non_blocking=True).view(-1, x.shape[1]))
        return found


def _network() -> torch.device:
    """Return the kind of device from which the network sends: gloo only sends from host memory."""
    return torch.device("cpu" if dist.get_backend() == "gloo" else "cuda")


def _pack(x: Tensor, rows: Tensor, into: Tensor) -> None:
    """Copy rows into a message."""
    if x.device == into.device:
        torch.index_select(x, 0, rows, out=into)
    else:
        into.copy_(x.index_select(0, rows), non_blocking=True)
