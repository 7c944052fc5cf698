"""Interface of a compressor."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from basinet.topologies.registry import Registry

__all__ = ["COMPRESSORS", "Compressor", "Layers", "bytes_of_bits"]

Layers = Callable[[Tensor], list[Tensor]]
"""Splits rows [N, P] into the model's layers, views [N, *shape]."""


@dataclass(frozen=True)
class Compressor(ABC):
    """A contraction of rows, E‖C(v) − v‖² ≤ (1 − δ) ‖v‖² with δ > 0, and the bytes of one on the wire.

    Args:
        share: See `basinet.algorithms.compression.Compression`.
        levels: See `basinet.algorithms.compression.Compression`.
        rank: See `basinet.algorithms.compression.Compression`.
    """

    share: float
    levels: int
    rank: int

    @abstractmethod
    def compress(self, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
        """Compress rows.

        Args:
            rows: [N, P].
            keys: One key per row for random draws, int64 [N].
            layers: Splits rows into the model's layers.

        Returns:
            New rows [N, P], and the bytes of one on the wire.
        """

    def unbiasing(self, size: int) -> float:
        """Return the factor 1 + ω that makes a random compressor unbiased: E (1 + ω) C(v) = v.

        Args:
            size: Number of entries of a row.

        Returns:
            The factor; 1 if none removes the bias.
        """
        return 1.0


COMPRESSORS: Registry[Compressor] = Registry("COMPRESSORS")
"""The compressors, by name."""


def bytes_of_bits(bits: int) -> int:
    """Return the number of bytes that hold some bits."""
    return math.ceil(bits / 8)
