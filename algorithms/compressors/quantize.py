"""Random rounding relative to the largest entry of a block."""

import math

import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.algorithms.compressors.compressor import COMPRESSORS, Compressor, Layers, bytes_of_bits

__all__ = ["Quantize"]

_BLOCK = 512
"""Entries of a block, which are rounded together."""


@COMPRESSORS.register("quantize")
class Quantize(Compressor):
    """Round |v| / max |v| up or down to one of the levels, without bias, block by block, and scale down."""

    def compress(self, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
        """Compress rows."""
        size, levels = rows.shape[1], self.levels
        blocks = torch.nn.functional.pad(rows, (0, -size % _BLOCK)).view(len(rows), -1, _BLOCK)
        largest = blocks.abs().amax(2, keepdim=True)
        scaled = levels * blocks.abs() / largest.clamp_min(torch.finfo(rows.dtype).tiny)
        rounded = (scaled + draws.uniform(keys, scaled.shape[1:], dtype=rows.dtype)).floor()
        result = (blocks.sign() * largest * rounded / (levels * self.unbiasing(size))).flatten(1)[:, :size]
        bits = size * (1 + math.ceil(math.log2(levels + 1)))
        return result.contiguous(), bytes_of_bits(bits) + blocks.shape[1] * rows.element_size()

    def unbiasing(self, size: int) -> float:
        """Return the factor that removes the bias."""
        return 1 + min(size, _BLOCK) / (4 * self.levels**2)
