"""Attention with several heads."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

__all__ = ["MultiHead", "join_heads", "split_heads", "without_padding"]


class MultiHead(nn.Module):
    """Projects tokens to queries, keys and values, attends in each head, and projects the result.

    Args:
        width: Number of features of all heads together.
        heads: Number of heads, a divisor of the width.

    Raises:
        ValueError: `heads` does not divide `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads: got {heads}, which does not divide the width {width}")
        self.heads, self.size = heads, width // heads
        self.projections = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: Tokens, [B, n, width].
            padding: Whether a token is padded, bool [B, n]; None if none is.

        Returns:
            A tensor of the shape of `x`; what it has at other tokens does not depend on padded ones.
        """
        query, key, value = (split_heads(part, self.heads) for part in self.projections(x).chunk(3, -1))
        out: Tensor = self.output(self.attend(query, key, value, padding))
        return out

    @abstractmethod
    def attend(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None) -> Tensor:
        """Attend in all heads.

        Args:
            query: Queries, [B, heads, n, size].
            key: Keys, of the same shape.
            value: Values, of the same shape.
            padding: Whether a token is padded, bool [B, n]; None if none is.

        Returns:
            The results of all heads next to each other, [B, n, width].
        """


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Split features into heads.

    Args:
        x: [B, n, width].
        heads: Number of heads.

    Returns:
        [B, heads, n, width/heads].
    """
    return torch.unflatten(x, -1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """Join the features of all heads.

    Args:
        x: [B, heads, n, size].

    Returns:
        [B, n, heads · size].
    """
    return x.transpose(1, 2).flatten(2)


def without_padding(x: Tensor, padding: Tensor | None) -> Tensor:
    """Put zeros in the place of padded tokens.

    Args:
        x: [B, heads, n, size].
        padding: Whether a token is padded, bool [B, n]; None if none is.

    Returns:
        A tensor of the same shape.
    """
    return x if padding is None else x.masked_fill(padding[:, None, :, None], 0)
