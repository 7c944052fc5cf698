"""Compression of what agents send: each row by itself, with the bytes that it then takes.

A compressor maps rows [N, P] to rows of the same shape and the bytes of one of them as it would travel. All here are
contractions: E‖C(v) − v‖² ≤ (1 − δ) ‖v‖² with δ > 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from basinet.algorithms import draws

__all__ = ["COMPRESSORS", "Compression", "Compressor", "as_matrix", "orthonormal"]

Compressor = Literal["none", "top_k", "random_k", "sign", "qsgd", "quantize", "low_rank"]
Layers = Callable[[Tensor], list[Tensor]]

_BLOCK = 512
"""Numbers that quantize rounds together."""


@dataclass(frozen=True)
class Compression:
    """A way of compressing rows.

    Args:
        compressor: "none"; "top_k" or "random_k", which keep a share of the numbers; "sign", one bit a number and
            their mean size; "qsgd", random rounding of the numbers over their norm; "quantize", random rounding over
            the largest of each 512 numbers; "low_rank", each layer's matrix projected on the directions in which it is
            large.
        share: Share of the numbers that top_k and random_k keep, in (0, 1].
        levels: Levels of qsgd and quantize.
        rank: Rank of low_rank.

    References:
        S. U. Stich, J.-B. Cordonnier, M. Jaggi: Sparsified SGD with memory, NeurIPS 2018, arXiv:1809.07599.
        J. Bernstein et al.: signSGD, ICML 2018, arXiv:1802.04434. D. Alistarh et al.: QSGD, NeurIPS 2017,
        arXiv:1610.02132. X. Liu et al.: Linear convergent decentralized optimization with compression (quantize), ICLR
        2021, arXiv:2007.00232. T. Vogels, S. P. Karimireddy, M. Jaggi: PowerSGD, NeurIPS 2019, arXiv:1905.13727.
    """

    compressor: Compressor = "top_k"
    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    levels: Annotated[int, Field(ge=1)] = 16
    rank: Annotated[int, Field(ge=1)] = 1

    def compress(self, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
        """Compress rows.

        Args:
            rows: [N, P].
            keys: One key a row for random draws, int64 [N].
            layers: Takes rows apart into the model's layers, views [N, *shape].

        Returns:
            Rows [N, P], and the bytes of one as it would travel.
        """
        return COMPRESSORS[self.compressor](self, rows, keys, layers)

    def unbiasing(self, size: int) -> float:
        """Give the factor 1 + ω with which a random compressor has no bias: E (1 + ω) C(v) = v.

        Args:
            size: How many numbers a row has.

        Returns:
            The factor; 1 for top_k, sign and low_rank, whose bias no factor takes away.
        """
        if self.compressor == "random_k":
            return size / math.ceil(self.share * size)
        if self.compressor == "qsgd":
            return 1 + min(size / self.levels**2, math.sqrt(size) / self.levels)
        if self.compressor == "quantize":
            return 1 + min(size, _BLOCK) / (4 * self.levels**2)
        return 1.0


def _none(compression: Compression, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
    return rows.clone(), rows.shape[1] * rows.element_size()


def _top_k(compression: Compression, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
    """Keep the largest numbers; each travels with its place."""
    k = math.ceil(compression.share * rows.shape[1])
    places = rows.abs().topk(k, dim=1, sorted=False).indices
    kept = torch.zeros_like(rows).scatter_(1, places, rows.gather(1, places))
    return kept, k * rows.element_size() + _bytes(k * math.ceil(math.log2(max(2, rows.shape[1]))))


def _random_k(compression: Compression, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
    """Keep random numbers, whose places the receiver draws by the same key."""
    k = math.ceil(compression.share * rows.shape[1])
    places = draws.uniform(keys, (rows.shape[1],)).topk(k, dim=1, sorted=False).indices
    kept = torch.zeros_like(rows).scatter_(1, places, rows.gather(1, places))
    return kept, k * rows.element_size() + 8


def _sign(compression: Compression, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
    """Keep the signs, and the mean size of the numbers."""
    return rows.sign() * rows.abs().mean(1, keepdim=True), _bytes(rows.shape[1]) + rows.element_size()


def _qsgd(compression: Compression, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
    """Round |v| / ‖v‖ up or down to one of the levels, without bias, and scale down so that it contracts."""
    size, levels = rows.shape[1], compression.levels
    norms = rows.norm(dim=1, keepdim=True)
    scaled = levels * rows.abs() / norms.clamp_min(torch.finfo(rows.dtype).tiny)
    rounded = (scaled + draws.uniform(keys, (size,), dtype=rows.dtype)).floor()
    bits = size * (1 + math.ceil(math.log2(levels + 1)))
    return rows.sign() * norms * rounded / (levels * compression.unbiasing(size)), _bytes(bits) + rows.element_size()


def _quantize(compression: Compression, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
    """Round |v| / max |v| up or down to one of the levels, without bias, block by block, and scale down."""
    size, levels = rows.shape[1], compression.levels
    blocks = torch.nn.functional.pad(rows, (0, -size % _BLOCK)).view(len(rows), -1, _BLOCK)
    largest = blocks.abs().amax(2, keepdim=True)
    scaled = levels * blocks.abs() / largest.clamp_min(torch.finfo(rows.dtype).tiny)
    rounded = (scaled + draws.uniform(keys, scaled.shape[1:], dtype=rows.dtype)).floor()
    result = (blocks.sign() * largest * rounded / (levels * compression.unbiasing(size))).flatten(1)[:, :size]
    bits = size * (1 + math.ceil(math.log2(levels + 1)))
    return result.contiguous(), _bytes(bits) + blocks.shape[1] * rows.element_size()


def _low_rank(compression: Compression, rows: Tensor, keys: Tensor, layers: Layers) -> tuple[Tensor, int]:
    """Send each layer's matrix as M ≈ U (Mᵀ U)ᵀ, both factors, with U by subspace iteration from random directions."""
    # These directions alone keep a share r / min(m, n) of ‖M‖² in the mean, and the iteration keeps no less. Layers
    # that are no matrices, or that the factors do not shorten, travel whole.
    compressed, numbers = rows.clone(), 0
    for index, (layer, result) in enumerate(zip(layers(rows), layers(compressed), strict=True)):
        matrix = as_matrix(layer)
        if matrix is None or compression.rank * sum(matrix.shape[1:]) >= matrix[0].numel():
            numbers += layer[0].numel()
            continue
        start = draws.normal(draws.fold(keys, index), (matrix.shape[2], compression.rank), dtype=rows.dtype)
        left = orthonormal(matrix @ start)
        left = orthonormal(matrix @ (matrix.mT @ left))
        result.copy_((left @ (left.mT @ matrix)).view(layer.shape))
        numbers += compression.rank * sum(matrix.shape[1:])
    return compressed, numbers * rows.element_size()


def as_matrix(layer: Tensor) -> Tensor | None:
    """Take a layer as matrices with a row for each of its outputs.

    Args:
        layer: [N, *shape].

    Returns:
        A view [N, m, n], or None where the layer is a vector or a number.
    """
    return layer.flatten(2) if layer.ndim > 2 else None


def orthonormal(directions: Tensor) -> Tensor:
    """Make columns orthonormal that span the given ones; where these depend on each other, some are arbitrary.

    Args:
        directions: [..., m, r], r ≤ m.

    Returns:
        [..., m, r].
    """
    basis: Tensor = torch.linalg.qr(directions)[0]
    return basis


def _bytes(bits: int) -> int:
    return math.ceil(bits / 8)


COMPRESSORS: dict[str, Callable[[Compression, Tensor, Tensor, Layers], tuple[Tensor, int]]] = {
    "none": _none,
    "top_k": _top_k,
    "random_k": _random_k,
    "sign": _sign,
    "qsgd": _qsgd,
    "quantize": _quantize,
    "low_rank": _low_rank,
}
"""What compresses, by name."""
