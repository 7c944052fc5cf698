"""The skeleton half of S³Attention: attention to a few sampled tokens, and to a few sampled features."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from basinet.algorithms import draws

__all__ = ["SkeletonAttention", "join_heads", "split_heads"]


class SkeletonAttention(nn.Module):
    """Row and column attention, each normalised, and their mean: LN(R)/2 + LN(C)/2, projected.

    With queries Q, keys K and values V of a head, and fixed sets of s₁ tokens I and s₂ features J of a head:
    R = softmax(Q K[I]ᵀ / √d) V[I] and C = V[:, J] softmax(K[:, J]ᵀ Q / √n), where the softmax is over J for each
    feature of Q. The cost is linear in the number n of tokens. Padded tokens have no weight, in R as if their scores
    were −∞; if all of I is padded, R is 0. n is the number of tokens that are not padded.

    Args:
        length: Number of tokens.
        width: Number of features of all heads together.
        heads: Number of heads, a divisor of the width.
        rows: s₁, the number of sampled tokens.
        columns: s₂, the number of sampled features of a head.
        seed: What the sets are drawn from. They are buffers, and so part of the state of a model.

    Raises:
        ValueError: A number does not fit to the others.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, length: int, width: int, *, heads: int, rows: int, columns: int, seed: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads: got {heads}, which does not divide the width {width}")
        self.heads, self.size = heads, width // heads
        if rows > length:
            raise ValueError(f"rows: got {rows}, but there are only {length} tokens to sample from")
        if columns > self.size:
            raise ValueError(f"columns: got {columns}, but a head has only {self.size} features to sample from")
        self.register_buffer("rows", _sample(length, rows, draws.key(seed, "rows")))
        self.register_buffer("columns", _sample(self.size, columns, draws.key(seed, "columns")))
        self.projections = nn.Linear(width, 3 * width)
        self.row_norm, self.column_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: Tokens, [B, length, width].
            padding: Whether a token is padded, bool [B, length]; None if none is.

        Returns:
            A tensor of the shape of `x`.
        """
        query, key, value = (split_heads(part, self.heads) for part in self.projections(x).chunk(3, -1))
        if padding is not None:
            key, value = (part.masked_fill(padding[:, None, :, None], 0) for part in (key, value))
        row = self.row_norm(join_heads(self.attend_rows(query, key, value, padding)))
        column = self.column_norm(join_heads(self.attend_columns(query, key, value, padding)))
        out: Tensor = self.output((row + column) / 2)
        return out

    def attend_rows(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Tensor:
        """Compute R.

        Args:
            query: Q, [B, heads, length, size].
            key: K, of the same shape.
            value: V, of the same shape; 0 at padded tokens.
            padding: Whether a token is padded, bool [B, length]; None if none is.

        Returns:
            A tensor of the shape of `query`.
        """
        scores = query @ key.index_select(2, self.rows).mT / math.sqrt(self.size)
        if padding is not None:
            # A finite bound: their weights are 0 all the same, or if none is left, all values are.
            padded = padding.index_select(1, self.rows)[:, None, None, :]
            scores = scores.masked_fill(padded, torch.finfo(scores.dtype).min)
        return scores.softmax(-1) @ value.index_select(2, self.rows)

    def attend_columns(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Tensor:
        """Compute C.

        Args:
            query: Q, [B, heads, length, size].
            key: K, of the same shape; 0 at padded tokens.
            value: V, of the same shape; 0 at padded tokens.
            padding: Whether a token is padded, bool [B, length]; None if none is.

        Returns:
            A tensor of the shape of `query`.
        """
        scores = query.mT @ key.index_select(3, self.columns)
        if padding is None:
            scores = scores / math.sqrt(query.shape[2])
        else:
            count = (~padding).sum(1).clamp(min=1).to(scores.dtype)
            scores = scores * count.rsqrt()[:, None, None, None]
        return value.index_select(3, self.columns) @ scores.softmax(-1).mT


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Split features into heads.

    Args:
        x: [B, n, width].
        heads: Number of heads.

    Returns:
        [B, heads, n, width/heads].
    """
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """Join the features of all heads.

    Args:
        x: [B, heads, n, size].

    Returns:
        [B, n, heads · size].
    """
    return x.transpose(1, 2).flatten(2)


def _sample(size: int, count: int, seed: int) -> Tensor:
    """Draw different numbers below `size`, in order."""
    drawn = np.random.default_rng(seed).choice(size, count, replace=False)
    return torch.from_numpy(np.sort(drawn).astype(np.int64))
