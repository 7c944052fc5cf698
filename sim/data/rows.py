"""Rows of data, whether the samples are tensors in memory or are read when they are needed."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from basinet.sim.data.nests import Nest, leaves, map_nest

__all__ = ["IGNORED", "Data", "Stored", "at_once", "first", "in_memory", "length", "singles", "some", "spread", "take"]

IGNORED = -100
"""The label for "none", as in torch's cross-entropy: ignored by the loss and the metrics."""

_BYTES_AT_ONCE = 2**23


class Stored(ABC):
    """Samples that are read when they are needed, since they do not fit into memory."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples n."""

    @property
    def labels(self) -> Tensor | None:
        """Class of each sample, int64 [n] on the CPU, if it is known without reading the samples."""
        return None

    @property
    def relabels(self) -> bool:
        """Whether a sample may have another label when an agent draws it than in `labels`."""
        return False

    @property
    def is_uniform(self) -> bool:
        """Whether all samples have the same shapes, so that several can be in a batch together."""
        return True

    @property
    def window(self) -> int | None:
        """Number of consecutive samples that agents draw from at a time, if samples cannot be read in any order."""
        return None

    @abstractmethod
    def fetch(self, rows: Tensor, keys: Tensor | None = None) -> Nest:
        """Read samples, in whichever process.

        Args:
            rows: Their indices, int64 [B], on the CPU.
            keys: A key for the random changes of each sample, int64 [B] on the CPU; None for no such changes.

        Returns:
            A nest of tensors [B, ...] on the CPU.
        """

    @abstractmethod
    def place(self, batch: Nest) -> Nest:
        """Move what was fetched to the device and the floating type that `to` has set.

        Args:
            batch: Tensors on the CPU.

        Returns:
            A nest of the same structure.
        """

    def read(self, rows: Tensor, keys: Tensor | None = None) -> Nest:
        """Read samples.

        Args:
            rows: Their indices, int64 [B], on any device.
            keys: See `fetch`; on any device.

        Returns:
            A nest of tensors [B, ...], on the device and in the floating type that `to` has set.
        """
        return self.place(self.fetch(rows.cpu(), None if keys is None else keys.cpu()))

    def at_step(self, batch: Nest, step: int) -> Nest:
        """Say in a batch what depends on the step of training at which it is drawn, such as which loss counts.

        Args:
            batch: A nest of tensors [..., B, ...] that was read.
            step: The step.

        Returns:
            A nest of the same structure; by default the batch as it is.
        """
        return batch

    def chosen(self, rows: Tensor) -> "Stored":
        """Choose samples.

        Args:
            rows: Indices of the chosen ones, int64 [m] on the CPU.

        Returns:
            These.
        """
        return Some(self, rows)

    def check(self) -> None:
        """Read a sample, which raises an ExperimentError if that is not possible."""
        self.fetch(torch.tensor([0]))

    @abstractmethod
    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the same samples, to be read to a device and in a floating type.

        Args:
            device: The target device.
            dtype: Type of floating-point tensors; integers keep theirs.

        Returns:
            Samples that share everything else with these.
        """


@dataclass(frozen=True, eq=False)
class Some(Stored):
    """Some of the samples that are read when they are needed.

    Attributes:
        whole: All samples.
        rows: Which ones, int64 [m] on the CPU.
    """

    whole: Stored
    rows: Tensor

    def __len__(self) -> int:
        """Return their number m."""
        return len(self.rows)

    @property
    def labels(self) -> Tensor | None:
        """Class of each sample, if it is known; see `Stored`."""
        return None if self.whole.labels is None else self.whole.labels[self.rows]

    @property
    def relabels(self) -> bool:
        """Whether a sample may have another label when an agent draws it; see `Stored`."""
        return self.whole.relabels

    @property
    def is_uniform(self) -> bool:
        """Whether all samples have the same shapes; see `Stored`."""
        return self.whole.is_uniform

    def fetch(self, rows: Tensor, keys: Tensor | None = None) -> Nest:
        """Read samples; see `Stored`."""
        return self.whole.fetch(self.rows[rows], keys)

    def place(self, batch: Nest) -> Nest:
        """Move what was fetched; see `Stored`."""
        return self.whole.place(batch)

    def at_step(self, batch: Nest, step: int) -> Nest:
        """Say in a batch what depends on the step; see `Stored`."""
        return self.whole.at_step(batch, step)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the same samples, to be read to a device and in a floating type; see `Stored`."""
        return replace(self, whole=self.whole.to(device, dtype))


Data = Any
"""A nest of tensors [n, ...] that share their first dimension, or samples that are read when they are needed."""


def length(data: Data) -> int:
    """Count samples.

    Args:
        data: The samples.

    Returns:
        n.
    """
    return len(data) if isinstance(data, Stored) else len(leaves(data)[0])


def take(data: Data, rows: Tensor | slice | int, keys: Tensor | None = None) -> Nest:
    """Take samples.

    Args:
        data: The samples.
        rows: Indices of any shape, int64; a slice; or one index.
        keys: A key for the random changes of each sample, int64 of the shape of `rows`, if they are read when needed.

    Returns:
        A nest of tensors [*rows.shape, ...].
    """
    if not isinstance(rows, Tensor):
        if not isinstance(data, Stored):
            return map_nest(lambda t: t[rows], data)
        rows = torch.arange(len(data))[rows]
    flat, shape = rows.reshape(-1), rows.shape
    if isinstance(data, Stored):
        drawn = None if keys is None else keys.reshape(-1)
        return map_nest(lambda t: t.view(*shape, *t.shape[1:]), data.read(flat, drawn))
    return map_nest(lambda t: t.index_select(0, flat).view(*shape, *t.shape[1:]), data)


def first(data: Data, count: int) -> Nest:
    """Take the first samples, to try something out.

    Args:
        data: The samples.
        count: How many; there are fewer if they differ in shape, or there are no more.

    Returns:
        A nest of tensors.
    """
    return take(data, slice(0, count if not isinstance(data, Stored) or data.is_uniform else 1))


def some(data: Data, rows: Tensor) -> Data:
    """Choose samples.

    Args:
        data: The samples.
        rows: Indices of the chosen ones, int64 [m].

    Returns:
        These: in memory if all are, and otherwise to be read when they are needed.
    """
    return data.chosen(rows) if isinstance(data, Stored) else take(data, rows.to(leaves(data)[0].device))


def in_memory(data: Data) -> Nest:
    """Read all samples, unless they are in memory.

    Args:
        data: The samples.

    Returns:
        A nest of tensors [n, ...].
    """
    return take(data, slice(None)) if isinstance(data, Stored) else data


def at_once(data: Data) -> int:
    """Count the samples that are held at a time where all are read.

    Args:
        data: The samples.

    Returns:
        As many as take some 8 MiB, at least one; one if they differ in shape; all of those that are in memory.
    """
    if not isinstance(data, Stored):
        return length(data)
    if not data.is_uniform:
        return 1
    return max(1, _BYTES_AT_ONCE // max(1, sum(t.nbytes for t in leaves(take(data, slice(0, 1))))))


def singles(batch: Nest) -> list[Nest]:
    """Cut a batch into batches of one sample.

    Args:
        batch: Tensors [B, ...].

    Returns:
        Nests of tensors [1, ...].
    """
    return [take(batch, slice(place, place + 1)) for place in range(length(batch))]


def spread(weights: Tensor, shape: tuple[int, ...], what: str) -> Tensor:
    """Repeat weights along the dimensions that they do not have.

    Args:
        weights: Weights [B, ...].
        shape: The shape of what they count; its first dimensions are those of the weights, or these have length one.
        what: What they count, for error messages.

    Returns:
        The weights in that shape.

    Raises:
        ValueError: If the shape does not begin like this.
    """
    aligned = weights.reshape(*weights.shape, *(1 for _ in shape[weights.ndim :]))
    if aligned.ndim > len(shape) or any(a not in (1, b) for a, b in zip(aligned.shape, shape, strict=True)):
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} for {what} of shape {tuple(shape)}; allowed are the same, or its"
            " first dimensions"
        )
    return aligned.expand(shape)
