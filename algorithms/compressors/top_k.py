"""The largest entries of a row."""

import math

import torch
from torch import Tensor

from basinet.algorithms.compressors.compressor import COMPRESSORS, Compressor, Layers, bytes_of_bits

__all__ = ["TopK"]


@COMPRESSORS.register("top_k")
class TopK(Compressor):
    """Keep the entries of largest magnitude; each is sent with its position."""

    def compress(self, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
        """Compress rows."""
        k = math.ceil(self.share * rows.shape[1])
        places = rows.abs().topk(k, dim=1, sorted=False).indices
        kept = torch.zeros_like(rows).scatter_(1, places, rows.gather(1, places))
        return kept, k * rows.element_size() + bytes_of_bits(k * math.ceil(math.log2(max(2, rows.shape[1]))))
