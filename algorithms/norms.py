"""Norms of the agents' rows, safe at any scale."""

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

__all__ = ["inverse_norms"]

_CHUNK = 1024
"""Numbers whose squares are summed in single precision; sums of chunks are double."""


def inverse_norms(parts: Sequence[Tensor]) -> Tensor:
    """Compute 1 / ‖v_n‖ of each row, with which g / ‖g‖ has length one, or is zero where g is.

    Args:
        parts: Tensors [N, ...]: row n is what all of them hold of agent n.

    Returns:
        [N], in the widest type of the parts, at least float32; 0 where a norm is zero.
    """
    dtype = reduce(torch.promote_types, (part.dtype for part in parts), torch.float32)
    rows = [part.reshape(len(part), -1) for part in parts]
    norms = _fast(rows) if dtype == torch.float32 and rows[0].device.type == "cpu" else _exact(rows)
    return torch.where(norms > 0, norms.reciprocal(), 0).clamp_max(torch.finfo(dtype).max).to(dtype)


def _exact(rows: Sequence[Tensor]) -> Tensor:
    """Sum squares in double precision: that of a small float32 is zero in single."""
    norms: list[Tensor] = [torch.linalg.vector_norm(row, dim=1, dtype=torch.float64) for row in rows]
    return norms[0] if len(norms) == 1 else torch.stack(norms).norm(dim=0)


def _fast(rows: Sequence[Tensor]) -> Tensor:
    """Sum squares in single precision where that is as good; on the CPU it is 25 times as fast."""
    pieces = []
    for row in rows:
        count, rest = divmod(row.shape[1], _CHUNK)
        if count:
            whole = row[:, : row.shape[1] - rest] if rest else row
            pieces.append(torch.linalg.vector_norm(whole.view(len(row), count, _CHUNK), dim=2, dtype=torch.float32))
        if rest:
            some = row[:, -rest:] if count else row
            pieces.append(torch.linalg.vector_norm(some, dim=1, keepdim=True, dtype=torch.float32))
    if not pieces or not len(pieces[0]):
        return _exact(rows)
    norms: Tensor = torch.linalg.vector_norm(torch.cat(pieces, 1), dim=1, dtype=torch.float64)
    # Each square may have lost as much as the least normal number: together no more than a rounding.
    limits = torch.finfo(torch.float32)
    least = math.sqrt(sum(row.shape[1] for row in rows) * limits.tiny / limits.eps)
    low, high = (float(end) for end in norms.aminmax())
    if not least < low <= high < math.inf:
        poor = ~((norms > least) & (norms < math.inf))
        norms[poor] = _exact([row[poor] for row in rows])
    return norms
