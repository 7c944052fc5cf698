"""Links that carry numbers with few bits."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from basinet.algorithms.compression import Compression
from basinet.sim.faults.fault import FAULTS, Fault

__all__ = ["LinkRounding"]


@FAULTS.register("link_rounding")
@dataclass(frozen=True, kw_only=True)
class LinkRounding(Fault):
    """Each row that agents send is rounded at random to a few levels, without bias: E Q(x) = x.

    A number v of a block of 512 ("quantize"), or of the row ("qsgd"), is rounded to ±s i / L with i one of 0 … L, up or
    down such that its mean is v; s is the largest magnitude of the block, or the norm of the row. Its variance is
    s² / L² · f (1 − f), with f the part of L |v| / s that is not whole. Messages are as short as these numbers allow.
    What follows the parameters, such as optimizer state that is mixed, is not rounded.

    Args:
        levels: L.
        compressor: What is rounded together: "quantize" or "qsgd".

    References:
        A. Reisizadeh, A. Mokhtari, H. Hassani, R. Pedarsani: An exact quantized decentralized gradient descent
        algorithm, IEEE TSP 67 (2019), doi:10.1109/TSP.2019.2932876.
    """

    levels: Annotated[int, Field(ge=1)] = 16
    compressor: Literal["quantize", "qsgd"] = "quantize"

    def rounded(self, rows: Tensor, keys: Tensor) -> tuple[Tensor, int]:
        """Round rows.

        Args:
            rows: [N, w].
            keys: One key per row for random draws, int64 [N].

        Returns:
            New rows [N, w], and the bytes of one on the wire.
        """
        compression = Compression(compressor=self.compressor, levels=self.levels)
        found, size = compression.compress(rows, keys, lambda x: [x])
        return found * compression.unbiasing(rows.shape[1]), size
