"""A transformer encoder whose keys and values are projected to a fixed number, as in Linformer."""

import math

import torch
from torch import Tensor, nn

from basinet.sim.models.attention.classifier import Number, SequenceClassifier, Share
from basinet.sim.models.attention.heads import MultiHead, join_heads, without_padding
from basinet.sim.models.model import MODELS

__all__ = ["Linformer", "ProjectedAttention"]


class ProjectedAttention(MultiHead):
    """softmax(Q (E K)ᵀ / √size) F V with learned matrices E and F [rank, n], the same for all heads.

    Args:
        length: Number of tokens n.
        width: Number of features of all heads together.
        heads: Number of heads, a divisor of the width.
        rank: Number of mixtures of tokens.
    """

    def __init__(self, length: int, width: int, heads: int, rank: int) -> None:
        super().__init__(width, heads)
        self.keys, self.values = (nn.Parameter(torch.randn(rank, length) / math.sqrt(length)) for _ in range(2))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None) -> Tensor:
        """Attend to mixtures of tokens; see `MultiHead`."""
        key, value = self.keys @ without_padding(key, padding), self.values @ without_padding(value, padding)
        scores = query @ key.mT / math.sqrt(self.size)
        return join_heads(scores.softmax(-1) @ value)


@MODELS.register("linformer")
class Linformer(SequenceClassifier):
    """A transformer encoder that attends to learned mixtures of the tokens, at linear cost.

    Args:
        input_shape: (T,) or (T, channels), or with tokens also (2, T) for a pair; the simulator supplies it.
        num_outputs: Number of outputs; the simulator supplies it.
        vocabulary: Number of different tokens, None for numbers; the simulator supplies it.
        padding: The token that fills up short sequences, or None; the simulator supplies it.
        width: Features of a token.
        layers: Number of blocks.
        heads: Attention heads of a block, a divisor of the width.
        hidden: Hidden units of the MLPs.
        rank: Number of mixtures.
        dropout: Probability of dropping a feature in training.

    Example:
        >>> import torch
        >>> Linformer((20, 1), 10, vocabulary=None, padding=None)(torch.zeros(5, 20, 1)).shape
        torch.Size([5, 10])

    References:
        S. Wang, B. Z. Li, M. Khabsa, H. Fang, H. Ma: Linformer: Self-attention with linear complexity, 2020,
        arXiv:2006.04768.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        vocabulary: int | None,
        padding: int | None,
        *,
        width: Number = 64,
        layers: Number = 2,
        heads: Number = 2,
        hidden: Number = 128,
        rank: Number = 32,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__(
            input_shape, num_outputs, vocabulary, padding, width=width, layers=layers, hidden=hidden, dropout=dropout,
            mix=lambda length, layer: ProjectedAttention(length, width, heads, rank),
        )  # fmt: skip
