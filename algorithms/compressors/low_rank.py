"""Projection of each layer's matrix on its dominant directions."""

import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.algorithms.compressors.compressor import COMPRESSORS, Compressor, Layers

__all__ = ["LowRankCompressor", "as_matrix", "orthonormal"]


@COMPRESSORS.register("low_rank")
class LowRankCompressor(Compressor):
    """Send each layer's matrix as M ≈ U (Mᵀ U)ᵀ, both factors, with U by subspace iteration from random directions."""

    def compress(self, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
        """Compress rows."""
        # Random directions alone keep a share r / min(m, n) of ‖M‖² on average, and the iteration keeps no less. Layers
        # that are not matrices, or that the factors do not shorten, are sent whole.
        compressed, numbers = rows.clone(), 0
        for index, (layer, result) in enumerate(zip(layers(rows), layers(compressed), strict=True)):
            matrix = as_matrix(layer)
            if matrix is None or self.rank * sum(matrix.shape[1:]) >= matrix[0].numel():
                numbers += layer[0].numel()
                continue
            start = draws.normal(draws.fold(keys, index), (matrix.shape[2], self.rank), dtype=rows.dtype)
            left = orthonormal(matrix @ start)
            left = orthonormal(matrix @ (matrix.mT @ left))
            result.copy_((left @ (left.mT @ matrix)).view(layer.shape))
            numbers += self.rank * sum(matrix.shape[1:])
        return compressed, numbers * rows.element_size()


def as_matrix(layer: Tensor) -> Tensor | None:
    """View a layer as matrices with one row per output.

    Args:
        layer: [N, *shape].

    Returns:
        A view [N, m, n], or None if the layer is a vector or a scalar.
    """
    return layer.flatten(2) if layer.ndim > 2 else None


def orthonormal(directions: Tensor) -> Tensor:
    """Return orthonormal columns that span the given ones; if these are dependent, some are arbitrary.

    Args:
        directions: [..., m, r], r ≤ m.

    Returns:
        [..., m, r].
    """
    basis: Tensor = torch.linalg.qr(directions)[0]
    return basis
