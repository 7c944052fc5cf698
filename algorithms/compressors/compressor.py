"""What a compressor is: rows in few bytes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from basinet.topologies.registry import Registry

__all__ = ["COMPRESSORS", "Compressor", "Layers", "bytes_of_bits"]

Layers = Callable[[Tensor], list[Tensor]]
"""Takes rows [N, P] apart into the model's layers, views [N, *shape]."""


@dataclass(frozen=True)
class Compressor(ABC):
    """A contraction of rows, E‖C(v) − v‖² ≤ (1 − δ) ‖v‖² with δ > 0, and the bytes that one then takes.

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
            keys: One key a row for random draws, int64 [N].
            layers: Takes rows apart into the model's layers.

        Returns:
            New rows [N, P], and the bytes of one as it would travel.
        """

    def unbiasing(self, size: int) -> float:
        """Return the factor 1 + ω with which a random compressor has no bias: E (1 + ω) C(v) = v.

        Args:
            size: How many numbers a row has.

        Returns:
            The factor; 1 where none takes the bias away.
        """
        return 1.0


COMPRESSORS: Registry[Compressor] = Registry()
"""What compresses, by name."""


def bytes_of_bits(bits: int) -> int:
    """Return how many bytes hold some bits."""
    return math.ceil(bits / 8)
