"""Rotary embeddings: queries and keys turn with their position, so that products depend on distances only."""

import torch
from torch import Tensor

__all__ = ["Turn", "rotate", "turn"]

Turn = tuple[Tensor, Tensor]
"""Cosines and sines of the angles, [..., T, width]; the first half of the sines is negative."""


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
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat([cosine, cosine], -1).to(dtype), torch.cat([-sine, sine], -1).to(dtype)


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
    return torch.addcmul(x * cosine, x.roll(x.shape[-1] // 2, -1), sine)
