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

__all__ = ["COMPRESSORS", "Compression"]


@dataclass(frozen=True)
class Compression:
    """A way of compressing rows.

    Args:
        compressor: "none"; "top_k" or "random_k", which keep a share of the numbers; "sign", one bit a number and
            their mean size; "qsgd", random rounding of the numbers over their norm.
        share: Share of the numbers that top_k and random_k keep, in (0, 1].
        levels: Levels of qsgd.

    References:
        S. U. Stich, J.-B. Cordonnier, M. Jaggi: Sparsified SGD with memory, NeurIPS 2018, arXiv:1809.07599.
        J. Bernstein et al.: signSGD, ICML 2018, arXiv:1802.04434. D. Alistarh et al.: QSGD, NeurIPS 2017,
        arXiv:1610.02132.
    """

    compressor: Literal["none", "top_k", "random_k", "sign", "qsgd"] = "top_k"
    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    levels: Annotated[int, Field(ge=1)] = 16

    def compress(self, rows: Tensor, keys: Tensor) -> tuple[Tensor, int]:
        """Compress rows.

        Args:
            rows: [N, P].
            keys: One key a row for random draws, int64 [N].

        Returns:
            Rows [N, P], and the bytes of one as it would travel.
        """
        return COMPRESSORS[self.compressor](self, rows, keys)


def _none(compression: Compression, rows: Tensor, keys: Tensor) -> tuple[Tensor, int]:
    return rows.clone(), rows.shape[1] * rows.element_size()


def _top_k(compression: Compression, rows: Tensor, keys: Tensor) -> tuple[Tensor, int]:
    """Keep the largest numbers; each travels with its place."""
    k = math.ceil(compression.share * rows.shape[1])
    places = rows.abs().topk(k, dim=1, sorted=False).indices
    kept = torch.zeros_like(rows).scatter_(1, places, rows.gather(1, places))
    return kept, k * rows.element_size() + _bytes(k * math.ceil(math.log2(max(2, rows.shape[1]))))


def _random_k(compression: Compression, rows: Tensor, keys: Tensor) -> tuple[Tensor, int]:
    """Keep random numbers, whose places the receiver draws by the same key."""
    k = math.ceil(compression.share * rows.shape[1])
    places = draws.uniform(keys, (rows.shape[1],)).topk(k, dim=1, sorted=False).indices
    kept = torch.zeros_like(rows).scatter_(1, places, rows.gather(1, places))
    return kept, k * rows.element_size() + 8


def _sign(compression: Compression, rows: Tensor, keys: Tensor) -> tuple[Tensor, int]:
    """Keep the signs, and the mean size of the numbers."""
    return rows.sign() * rows.abs().mean(1, keepdim=True), _bytes(rows.shape[1]) + rows.element_size()


def _qsgd(compression: Compression, rows: Tensor, keys: Tensor) -> tuple[Tensor, int]:
    """Round |v| / ‖v‖ up or down to one of the levels, without bias, and scale down so that it contracts."""
    size, levels = rows.shape[1], compression.levels
    norms = rows.norm(dim=1, keepdim=True)
    scaled = levels * rows.abs() / norms.clamp_min(torch.finfo(rows.dtype).tiny)
    rounded = (scaled + draws.uniform(keys, (size,), dtype=rows.dtype)).floor()
    contraction = 1 + min(size / levels**2, math.sqrt(size) / levels)
    bits = size * (1 + math.ceil(math.log2(levels + 1)))
    return rows.sign() * norms * rounded / (levels * contraction), _bytes(bits) + rows.element_size()


def _bytes(bits: int) -> int:
    return math.ceil(bits / 8)


COMPRESSORS: dict[str, Callable[[Compression, Tensor, Tensor], tuple[Tensor, int]]] = {
    "none": _none,
    "top_k": _top_k,
    "random_k": _random_k,
    "sign": _sign,
    "qsgd": _qsgd,
}
"""What compresses, by name."""
