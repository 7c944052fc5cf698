"""Compression of what agents send, row by row, and the bytes on the wire."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from torch import Tensor

from basinet.algorithms.compressors import COMPRESSORS, Compressor, Layers

__all__ = ["Compression", "CompressorName"]

if TYPE_CHECKING:
    CompressorName = str
else:
    CompressorName = Literal[tuple(COMPRESSORS)]


@dataclass(frozen=True)
class Compression:
    """A way of compressing rows.

    Args:
        compressor: "none"; "top_k" or "random_k", which keep a share of the entries; "sign", one bit per entry and
            their mean magnitude; "qsgd", random rounding relative to the norm; "quantize", random rounding relative to
            the largest of each 512 entries; "low_rank", each layer's matrix projected on its dominant directions.
        share: Share of the entries that top_k and random_k keep, in (0, 1].
        levels: Levels of qsgd and quantize.
        rank: Rank of low_rank.

    References:
        S. U. Stich, J.-B. Cordonnier, M. Jaggi: Sparsified SGD with memory, NeurIPS 2018, arXiv:1809.07599.
        J. Bernstein et al.: signSGD, ICML 2018, arXiv:1802.04434. D. Alistarh et al.: QSGD, NeurIPS 2017,
        arXiv:1610.02132. X. Liu et al.: Linear convergent decentralized optimization with compression (quantize), ICLR
        2021, arXiv:2007.00232. T. Vogels, S. P. Karimireddy, M. Jaggi: PowerSGD, NeurIPS 2019, arXiv:1905.13727.
    """

    compressor: CompressorName = "top_k"
    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    levels: Annotated[int, Field(ge=1)] = 16
    rank: Annotated[int, Field(ge=1)] = 1

    def compress(self, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
        """Compress rows, see `Compressor.compress`."""
        return self._compressor().compress(rows, keys, layers)

    def unbiasing(self, size: int) -> float:
        """Return the factor that makes a random compressor unbiased, see `Compressor.unbiasing`."""
        return self._compressor().unbiasing(size)

    def _compressor(self) -> Compressor:
        return COMPRESSORS[self.compressor](self.share, self.levels, self.rank)
