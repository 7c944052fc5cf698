"""Directions along which matrices are compared: a few products tell any two apart that differ, at a fraction of all."""

import torch
from torch import Tensor


def directions(size: int, count: int = 3) -> Tensor:
    """Draw orthonormal vectors of float64, [count, size]."""
    generator = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(size, count, generator=generator, dtype=torch.float64)).Q.T
