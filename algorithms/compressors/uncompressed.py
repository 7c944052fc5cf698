"""No compression."""

from torch import Tensor

from basinet.algorithms.compressors.compressor import COMPRESSORS, Compressor, Layers

__all__ = ["Uncompressed"]


@COMPRESSORS.register("none")
class Uncompressed(Compressor):
    """Send rows as they are."""

    def compress(self, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
        """Compress rows."""
        return rows.clone(), rows.shape[1] * rows.element_size()
