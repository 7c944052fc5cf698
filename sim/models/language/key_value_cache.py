"""What a decoder remembers of the tokens that it has read, when it generates others one by one."""

import torch
from torch import Tensor

__all__ = ["KeyValueCache"]


class KeyValueCache:
    """Keys and values of each layer's attention.

    Attributes:
        held: Keys and values by layer, each [B, T, heads, width].
    """

    def __init__(self) -> None:
        self.held: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        """Number of tokens that have been read."""
        return self.held[0][0].shape[1] if self.held else 0

    def extended(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append those of further tokens.

        Args:
            layer: Number of the layer.
            key: [B, T, heads, width].
            value: Tensor of the same shape.

        Returns:
            Keys and values of all tokens.
        """
        if layer in self.held:
            before = self.held[layer]
            key, value = torch.cat([before[0], key], 1), torch.cat([before[1], value], 1)
        self.held[layer] = key, value
        return key, value
