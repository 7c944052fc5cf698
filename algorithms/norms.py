"""Norms of the agents' rows, safe at any scale."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["inverse_norms"]


def inverse_norms(parts: Sequence[Tensor]) -> Tensor:
    """Compute 1 / ‖v_n‖ of each row, with which g / ‖g‖ has length one, or is zero where g is.

    Args:
        parts: Tensors [N, ...]: row n is what all of them hold of agent n.

    Returns:
        [N], in the type of the parts; 0 where a norm is zero.
    """
    dtype = parts[0].dtype
    # In double precision: the square of a small float32 is zero.
    rows = [torch.linalg.vector_norm(part.reshape(len(part), -1), dim=1, dtype=torch.float64) for part in parts]
    norms = rows[0] if len(rows) == 1 else torch.stack(rows).norm(dim=0)
    return torch.where(norms > 0, 1 / norms, 0).clamp_max(torch.finfo(dtype).max).to(dtype)
