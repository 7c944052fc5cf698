"""The skeleton half of S³Attention: attention to a few sampled tokens, and to a few sampled features."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.sim.models.attention.heads import MultiHead, join_heads, without_padding

__all__ = ["SkeletonAttention"]


class SkeletonAttention(MultiHead):
    """Row and column attention, each normalised, and their mean: LN(R)/2 + LN(C)/2.

    With queries Q, keys K and values V of a head, and fixed sets of s₁ tokens I and s₂ features J of a head:
    R = softmax(Q K[I]ᵀ / √size) V[I] and C = V[:, J] softmax(K[:, J]ᵀ Q / √n), where the softmax is over J for each
    feature of Q. The cost is linear in the number n of tokens. Padded tokens have no weight, in R as if their scores
    were −∞; if all of I is padded, R is 0. n counts the tokens that are not padded.

    Args:
        length: Number of tokens.
        width: Number of features of all heads together.
        heads: Number of heads, a divisor of the width.
        rows: s₁, the number of sampled tokens.
        columns: s₂, the number of sampled features of a head.
        seed: What the sets are drawn from. They are buffers, and so part of the state of a model.

    Raises:
        ValueError: There are fewer tokens or features than are to be sampled, or `heads` does not divide `width`.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, length: int, width: int, *, heads: int, rows: int, columns: int, seed: int) -> None:
        super().__init__(width, heads)
        if rows > length:
            raise ValueError(f"rows: got {rows}, but there are only {length} tokens to sample from")
        if columns > self.size:
            raise ValueError(f"columns: got {columns}, but a head has only {self.size} features to sample from")
        self.register_buffer("rows", _sample(length, rows, draws.key(seed, "rows")))
        self.register_buffer("columns", _sample(self.size, columns, draws.key(seed, "columns")))
        self.row_norm, self.column_norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None) -> Tensor:
        """Attend to rows and columns; see `MultiHead`."""
        key, value = without_padding(key, padding), without_padding(value, padding)
        rows: Tensor = self.row_norm(join_heads(self.attend_rows(query, key, value, padding)))
        columns: Tensor = self.column_norm(join_heads(self.attend_columns(query, key, value, padding)))
        return (rows + columns) / 2

    def attend_rows(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Tensor:
        """Compute R.

        Args:
            query: Q, [B, heads, n, size].
            key: K, of the same shape; 0 at padded tokens.
            value: V, of the same shape; 0 at padded tokens.
            padding: Whether a token is padded, bool [B, n]; None if none is.

        Returns:
            A tensor of the shape of `query`.
        """
        scores = query @ key.index_select(2, self.rows).mT / math.sqrt(self.size)
        if padding is not None:
            # With a finite bound their weights are 0 as well; if none is left, all values are, and nothing is NaN.
            padded = padding.index_select(1, self.rows)[:, None, None, :]
            scores = scores.masked_fill(padded, torch.finfo(scores.dtype).min)
        return scores.softmax(-1) @ value.index_select(2, self.rows)

    def attend_columns(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Tensor:
        """Compute C.

        Args:
            query: Q, [B, heads, n, size].
            key: K, of the same shape; 0 at padded tokens.
            value: V, of the same shape; 0 at padded tokens.
            padding: Whether a token is padded, bool [B, n]; None if none is.

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


def _sample(size: int, count: int, seed: int) -> Tensor:
    """Draw different numbers below `size`, in order."""
    drawn = np.random.default_rng(seed).choice(size, count, replace=False)
    return torch.from_numpy(np.sort(drawn).astype(np.int64))
