"""One bit per entry."""

from torch import Tensor

from basinet.algorithms.compressors.compressor import COMPRESSORS, Compressor, Layers, bytes_of_bits

__all__ = ["Sign"]


@COMPRESSORS.register("sign")
class Sign(Compressor):
    """Keep the signs, and the mean magnitude of the entries."""

    def compress(self, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
        """Compress rows."""
        return rows.sign() * rows.abs().mean(1, keepdim=True), bytes_of_bits(rows.shape[1]) + rows.element_size()
