"""Colours: the luma by which super-resolution is scored."""

from torch import Tensor

__all__ = ["luma"]


def luma(rgb: Tensor) -> Tensor:
    r"""Compute the luma $Y = 16 + 65.481 R + 128.553 G + 24.966 B$ of ITU-R BT.601, from 16 (black) to 235 (white).

    Args:
        rgb: Floating-point colours [..., 3, height, width], from 0 to 1.

    Returns:
        Y, not rounded, [..., height, width].

    Example:
        >>> import torch
        >>> luma(torch.ones(3, 1, 1, dtype=torch.float64)).item()
        235.0
    """
    red, green, blue = rgb.unbind(-3)
    return 16 + 65.481 * red + 128.553 * green + 24.966 * blue
