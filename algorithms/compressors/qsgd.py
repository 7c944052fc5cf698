"""Random rounding relative to the norm."""

import math

import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.algorithms.compressors.compressor import COMPRESSORS, Compressor, Layers, bytes_of_bits

__all__ = ["QSGD"]


@COMPRESSORS.register("qsgd")
class QSGD(Compressor):
    """Round |v| / ‖v‖ up or down to one of the levels, without bias, and scale down so that it contracts."""

    def compress(self, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
        """Compress rows."""
        size, levels = rows.shape[1], self.levels
        norms = rows.norm(dim=1, keepdim=True)
        scaled = levels * rows.abs() / norms.clamp_min(torch.finfo(rows.dtype).tiny)
        rounded = (scaled + draws.uniform(keys, (size,), dtype=rows.dtype)).floor()
        bits = size * (1 + math.ceil(math.log2(levels + 1)))
        return rows.sign() * norms * rounded / (levels * self.unbiasing(size)), bytes_of_bits(
            bits
        ) + rows.element_size()

    def unbiasing(self, size: int) -> float:
        """Return the factor that removes the bias."""
        return 1 + min(size / self.levels**2, math.sqrt(size) / self.levels)
