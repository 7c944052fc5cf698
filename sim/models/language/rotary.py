"""Rotary embeddings: queries and keys turn with their position, so that products depend on distances only."""

import torch
from torch import Tensor

__all__ = ["Turn", "rotate", "turn"]

Turn = tuple[Tensor, Tensor]
"""Cosines and sines of the angles, [..., T, width], the second half like the first."""


def turn(positions: Tensor, width: int, base: float, dtype: torch.dtype) -> Turn:
    """Compute the angles p · base^(−2i/width) of positions p, for i < width/2.

    Args:
        positions: [..., T].
        width: Width of a head, an even number.
        base: The slowest pair of numbers turns by 1/base a position, nearly.
        dtype: Type of the result; angles of far positions need float64 until then.

    Returns:
        Cosines and sines.
    """
    powers = torch.arange(0, width, 2, device=positions.device, dtype=torch.float64) / -width
    angles = positions.unsqueeze(-1) * base**powers
    angles = torch.cat([angles, angles], -1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, by: Turn) -> Tensor:
    """Turn the pair of numbers i and i + width/2 of each vector, for i < width/2.

    Args:
        x: [..., T, width].
        by: What `turn` returns, which is broadcast to x.

    Returns:
        Tensor of the shape of x.

    Source:
        Su et al. (2021), arXiv:2104.09864; the order of the numbers is that of transformers.
    """
    cosine, sine = by
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], -1) * sine
