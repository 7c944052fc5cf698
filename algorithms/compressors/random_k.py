"""Random entries of a row."""

import math

import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.algorithms.compressors.compressor import COMPRESSORS, Compressor, Layers

__all__ = ["RandomK"]


@COMPRESSORS.register("random_k")
class RandomK(Compressor):
    """Keep random entries, whose positions the receiver draws with the same key."""

    def compress(self, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
        """Compress rows."""
        k = math.ceil(self.share * rows.shape[1])
        places = draws.uniform(keys, (rows.shape[1],)).topk(k, dim=1, sorted=False).indices
        kept = torch.zeros_like(rows).scatter_(1, places, rows.gather(1, places))
        return kept, k * rows.element_size() + 8

    def unbiasing(self, size: int) -> float:
        """Return the factor that removes the bias."""
        return size / math.ceil(self.share * size)
