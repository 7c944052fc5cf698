"""The samples of each agent's loss, cut into chunks and divided among the workers of a run."""

import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from basinet.sim.data.nests import leaves
from basinet.sim.data.rows import take
from basinet.sim.experiment.mistakes import first_line, in_words, place_of
from basinet.sim.models.modules import layer_at_fault
from basinet.sim.run.interruptions import WorkStopped, go_on
from basinet.sim.tasks.task import Batch

__all__ = ["AttemptError", "Chunk", "Samples", "Share"]

T = TypeVar("T")

_STOPPED = ("", "")
"""Stands for an interruption among the reasons and tracebacks of failures."""


class AttemptError(Exception):
    """Raised in every process when shared work has failed in one of them; holds the reason and the traceback."""


class _OthersFailedError(Exception):
    """Raised when another process has failed and will not join the next collective operation."""


@dataclass(frozen=True)
class Share:
    """The part of the samples that this process sums over; the processes' sums are added.

    All processes must make the same calls in the same order.

    Attributes:
        rank: Index of this process.
        workers: Number of processes; several are joined by torch.distributed.
    """

    rank: int = 0
    workers: int = 1

    def part(self, count: int) -> slice:
        """Choose this process's part of some samples.

        Args:
            count: Number of samples.

        Returns:
            The process's samples; each sample belongs to exactly one process.
        """
        return slice(count * self.rank // self.workers, count * (self.rank + 1) // self.workers)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes (all-reduce).

        Args:
            tensor: A tensor of the same shape everywhere; it is overwritten.

        Returns:
            The sum, the same everywhere.
        """
        go_on()
        if self.workers > 1:
            self._go_on()
            dist.all_reduce(tensor)
        return tensor

    def agree(self, tensor: Tensor) -> Tensor:
        """Broadcast a tensor from the first process, so that all decide alike whatever their rounding.

        Args:
            tensor: A tensor of the same shape everywhere; it is overwritten.

        Returns:
            The tensor of the first process.
        """
        if self.workers > 1:
            self._go_on()
            dist.broadcast(tensor, 0)
        return tensor

    def gather(self, items: list[T]) -> list[T]:
        """Join the lists of all processes (all-gather).

        Args:
            items: This process's part of a list, as cut by `part`.

        Returns:
            The whole list, the same everywhere.
        """
        if self.workers == 1:
            return items
        self._go_on()
        return self._gathered(items)

    def attempt(self, work: Callable[[], T]) -> T:
        """Do work that may fail: if it fails in one process, it fails in all, and none is left waiting.

        Args:
            work: The work, of which every process does its part. Attempts cannot be nested: a process that has failed
                would not reach the inner one.

        Returns:
            The result of the work.

        Raises:
            AttemptError: If the work fails; its arguments are the reason, a sentence, and the traceback.
            WorkStopped: If one of the processes was asked to stop.
        """
        failures: list[tuple[str, str]] = []
        together = True
        try:
            value = work()
        except _OthersFailedError:
            together = False  # the others know already
        except WorkStopped:
            failures = [_STOPPED]
        except Exception as error:
            failures = [(_reason(error), traceback.format_exc())]
        if self.workers > 1 and not (together and self._all_well(well=not failures)):
            failures = self._gathered(failures)
        if failures[:1] == [_STOPPED]:
            raise WorkStopped
        if failures:
            raise AttemptError(*failures[0])
        return value

    def _go_on(self) -> None:
        """Before a collective operation, raise unless all processes will join it."""
        if not self._all_well(well=True):
            raise _OthersFailedError

    def _all_well(self, *, well: bool) -> bool:
        device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else None
        failed = torch.tensor([not well], dtype=torch.int32, device=device)
        dist.all_reduce(failed)
        return not failed.item()

    def _gathered(self, items: list[T]) -> list[T]:
        found: list[list[T]] = [[] for _ in range(self.workers)]
        dist.all_gather_object(found, items)
        return [item for part in found for item in part]


def _reason(error: Exception) -> str:
    """Describe an error in one sentence, with the layer and the place in the user's code if known."""
    said, layer = first_line(error) if isinstance(error, ValueError) else in_words(error), layer_at_fault(error)
    return (f"in its {layer} {said}" if layer else said) + place_of(error)


@dataclass(frozen=True)
class Chunk:
    """Samples that are differentiated together.

    Attributes:
        batch: Tensors [b, ...] shared by all points, or [N, b, ...] if each point has its own.
        start: Index of the first sample among those of the point.
        share: Weight of a shared batch in the mean over all samples.
        weights: Weight of each sample in its point's mean, [N, b], if each point has its own; 0 for padding.
        shared_weights: Weights of shared samples in the mean, [b], if they are not all equal.
    """

    batch: Batch
    share: float = 1.0
    start: int = 0
    weights: Tensor | None = None
    shared_weights: Tensor | None = None

    @property
    def size(self) -> int:
        """Number of samples per point."""
        return leaves(self.batch)[0].shape[0 if self.weights is None else 1]

    def sample_weights(self, like: Tensor) -> Tensor:
        """Return the weight of each sample in its point's mean.

        Args:
            like: A tensor of the desired dtype and device.

        Returns:
            [N, b]; N is 1 if all points share the samples.
        """
        if self.weights is not None:
            return self.weights.to(like)
        if self.shared_weights is not None:
            return self.shared_weights.to(like)[None]
        return like.new_full((1, self.size), self.share / self.size)


class Samples:
    """The samples of N points: all samples for every point, perhaps in fixed batches, or each point's own.

    Attributes:
        data: Tensors [n, ...] that share their first dimension.

    Args:
        data: See above.
        holdings: The sample indices of each point; None gives all samples to every point.
        chunk: Maximum number of a point's samples per chunk; None for all.
        share: The part of the samples that is this process's.
        dtype: Dtype of the weights.
        counts: How much each sample counts in a mean, [n]; None for equal weights.
        batches: The samples of each batch over whose losses the mean is, indices into the data; None for a mean over
            samples.

    Raises:
        ValueError: If data, holdings, chunk or batches are empty.
    """

    def __init__(
        self,
        data: Batch,
        holdings: Sequence[Any] | None,
        chunk: int | None,
        share: Share,
        dtype: torch.dtype,
        counts: Tensor | None = None,
        batches: Sequence[Tensor] | None = None,
    ) -> None:
        sizes = [len(t) for t in leaves(data)]
        if len(set(sizes)) != 1 or sizes[0] == 0:
            raise ValueError(f"The data must be tensors with equally many samples, at least one, got {sizes}.")
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk must be at least 1 sample, or None for all of them, got {chunk}.")
        if counts is not None and not counts.any():
            raise ValueError("The data must have labels that count, but all of them are ignored.")
        if batches is not None and (holdings is not None or max(map(len, batches), default=0) > (chunk or math.inf)):
            raise ValueError("The loss is that of whole batches: leave out holdings, and a chunk smaller than a batch.")
        self.data = data
        self._batches = batches if batches is None else [rows.to(leaves(data)[0].device) for rows in batches]
        self._counts = counts
        # Running totals of the counts, on the CPU so that no chunk waits for the device.
        self._counted = None if counts is None else nn.functional.pad(counts.double().cumsum(0), (1, 0)).cpu()
        self._indices: Tensor | None = None
        self._weights: Tensor | None = None
        if holdings is not None:
            self._indices, self._weights = _padded(holdings, leaves(data)[0].device, dtype, counts)
        self._count = sizes[0] if self._indices is None else self._indices.shape[1]
        if self._batches is not None:
            self._count = len(self._batches)
        self._mine = share.part(self._count)
        self._step = 1 if self._batches is not None else chunk or self._count

    @property
    def has_holdings(self) -> bool:
        """Whether each point has its own samples."""
        return self._indices is not None

    @property
    def has_batches(self) -> bool:
        """Whether the mean is over the losses of fixed batches."""
        return self._batches is not None

    def few(self) -> Batch:
        """Take a few samples for a trial: two, or a batch if it has a loss.

        Returns:
            The samples.
        """
        return take(self.data, slice(0, 2) if self._batches is None else self._batches[0])

    @property
    def num_points(self) -> int:
        """N if each point has its own samples, otherwise 1."""
        return 1 if self._indices is None else len(self._indices)

    def places(self, row: int) -> Tensor:
        """List the samples of a point.

        Args:
            row: Index of the point.

        Returns:
            Indices into the data, int64.
        """
        if self._indices is None or self._weights is None:
            places = torch.arange(self._count, device=leaves(self.data)[0].device)
            return places if self._counts is None else places[self._counts > 0]
        return self._indices[row][self._weights[row] > 0]

    @property
    def is_one_chunk(self) -> bool:
        """Whether this process's share is a single chunk."""
        return 0 < len(range(self._count)[self._mine]) <= self._step

    def chunks(self, rows: slice, chunk: int | None = None) -> Iterator[Chunk]:
        """Cut this process's share into chunks.

        Args:
            rows: The points, if each has its own samples.
            chunk: Maximum number of samples per chunk; by default that of the constructor.

        Yields:
            The chunks; possibly none, if there are more processes than samples.
        """
        if self._batches is not None:
            for k in range(self._count)[self._mine]:
                go_on()
                yield Chunk(take(self.data, self._batches[k]), 1 / self._count, k)
            return
        step = chunk or self._step
        for start in range(self._mine.start, self._mine.stop, step):
            go_on()
            columns = slice(start, min(start + step, self._mine.stop))
            if self._indices is None or self._weights is None:
                batch = take(self.data, columns)
                if self._counts is None or self._counted is None:
                    yield Chunk(batch, (columns.stop - columns.start) / self._count, start)
                else:
                    counts, total = self._counts[columns], self._counted[-1].item()
                    part = (self._counted[columns.stop] - self._counted[columns.start]).item()
                    yield Chunk(batch, part / total, start, shared_weights=counts.double() / total)
            else:
                batch = take(self.data, self._indices[rows, columns])
                yield Chunk(batch, start=start, weights=self._weights[rows, columns])


def _padded(
    holdings: Sequence[Any], device: torch.device, dtype: torch.dtype, counts: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Pad unequal sets of samples to indices [N, m], with each sample's weight in its row's mean."""
    held = [torch.as_tensor(indices, dtype=torch.int64, device=device) for indices in holdings]
    empty = [k for k, rows in enumerate(held) if not len(rows) or (counts is not None and not counts[rows].any())]
    if empty:
        raise ValueError(f"Each point needs at least one sample; point {empty[0]} has none.")
    longest = max(map(len, held))
    # Padding repeats the first sample with weight zero: its loss is finite if the others' are.
    indices = torch.stack([torch.cat([rows, rows[:1].expand(longest - len(rows))]) for rows in held])
    weights = torch.zeros(len(held), longest, device=device, dtype=dtype)
    for row, mine in zip(weights, held, strict=True):
        row[: len(mine)] = 1 / len(mine) if counts is None else counts[mine].to(dtype) / counts[mine].sum()
    return indices, weights
