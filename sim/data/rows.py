"""Rows of data, whether the samples are tensors in memory or are read when they are needed."""

from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from torch import Tensor

from basinet.sim.data.nests import Nest, leaves, map_nest

__all__ = ["IGNORED", "Data", "Stored", "length", "singles", "take"]

IGNORED = -100
"""The label for "none", as in torch's cross-entropy: ignored by the loss and the metrics."""


class Stored(ABC):
    """Samples that are read when they are needed, since they do not fit into memory."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples n."""

    @property
    def labels(self) -> Tensor | None:
        """Class of each sample, int64 [n] on the CPU, if it is known without reading the samples."""
        return None

    @abstractmethod
    def read(self, rows: Tensor) -> Nest:
        """Read samples.

        Args:
            rows: Their indices, int64 [B], on any device.

        Returns:
            A nest of tensors [B, ...], on the device and in the floating type that `to` has set.
        """

    @abstractmethod
    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the same samples, to be read to a device and in a floating type.

        Args:
            device: The target device.
            dtype: Type of floating-point tensors; integers keep theirs.

        Returns:
            Samples that share everything else with these.
        """


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


def take(data: Data, rows: Tensor | slice | int) -> Nest:
    """Take samples.

    Args:
        data: The samples.
        rows: Indices of any shape, int64; a slice; or one index.

    Returns:
        A nest of tensors [*rows.shape, ...].
    """
    if not isinstance(rows, Tensor):
        if not isinstance(data, Stored):
            return map_nest(lambda t: t[rows], data)
        rows = torch.arange(len(data))[rows]
    flat, shape = rows.reshape(-1), rows.shape
    if isinstance(data, Stored):
        return map_nest(lambda t: t.view(*shape, *t.shape[1:]), data.read(flat))
    return map_nest(lambda t: t.index_select(0, flat).view(*shape, *t.shape[1:]), data)


def singles(batch: Nest) -> list[Nest]:
    """Cut a batch into batches of one sample.

    Args:
        batch: Tensors [B, ...].

    Returns:
        Nests of tensors [1, ...].
    """
    return [take(batch, slice(place, place + 1)) for place in range(length(batch))]
