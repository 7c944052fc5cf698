"""Classifiers of sequences: an encoder of blocks that each mix the tokens in a way of their own."""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

__all__ = ["Number", "SequenceClassifier", "Share"]

Number = Annotated[int, Field(ge=1, le=10**5)]
"""A number of features, layers or heads."""

Share = Annotated[float, Field(ge=0, lt=1)]
"""A probability of dropping."""


class SequenceClassifier(nn.Module):
    """Embeds tokens or numbers, adds learned positions, applies blocks, averages over tokens, and classifies.

    Padded tokens do not change the outputs. A pair of sequences is encoded by one encoder, and classified by a, b,
    a ⊙ b and a − b.

    Args:
        input_shape: (T,) or (T, channels), or with tokens also (2, T) for a pair of sequences.
        num_outputs: Number of outputs.
        vocabulary: Number of different tokens; None if inputs are numbers.
        padding: The token that fills up short sequences; None if there is none.
        width: Features of a token.
        layers: Number of blocks.
        hidden: Hidden units of the MLPs of blocks and head.
        dropout: Probability of dropping a feature after the embedding and in the branches of a block, in training.
        mix: Makes what mixes the tokens of a block, from the length of the sequences and the number of the block: a
            module that maps [B, T, width] and the padding, bool [B, T] or None, to [B, T, width]. None to mix nothing.

    Raises:
        ValueError: The inputs are no sequences.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        vocabulary: int | None,
        padding: int | None,
        *,
        width: int,
        layers: int,
        hidden: int,
        dropout: float,
        mix: Callable[[int, int], nn.Module] | None,
    ) -> None:
        super().__init__()
        self.pair = vocabulary is not None and len(input_shape) == 2
        if len(input_shape) not in (1, 2) or (self.pair and input_shape[0] != 2):
            allowed = "(T,) or (T, channels)" if vocabulary is None else "(T,) or (2, T)"
            raise ValueError(f"a model of sequences needs inputs of shape {allowed}, but got {tuple(input_shape)}")
        length = input_shape[-1] if self.pair else input_shape[0]
        self.padding = padding if vocabulary is not None else None
        channels = input_shape[1] if len(input_shape) == 2 else 1
        self.numbers = vocabulary is None and len(input_shape) == 1
        self.embedding = nn.Linear(channels, width) if vocabulary is None else nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(length, width))
        nn.init.normal_(self.positions, std=0.02)
        self.dropout = nn.Dropout(dropout)
        mixers = [None if mix is None else mix(length, layer) for layer in range(layers)]
        self.blocks = nn.ModuleList(_Block(width, hidden, dropout, mixer) for mixer in mixers)
        self.norm = nn.LayerNorm(width)
        features = 4 * width if self.pair else width
        self.head = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Classify.

        Args:
            x: Inputs [B, *input_shape].

        Returns:
            Tensor [B, num_outputs].
        """
        if self.pair:
            a, b = torch.unflatten(self._encode(x.flatten(0, 1)), 0, (-1, 2)).unbind(1)
            out: Tensor = self.head(torch.cat((a, b, a * b, a - b), -1))
        else:
            out = self.head(self._encode(x.unsqueeze(-1) if self.numbers else x))
        return out

    def _encode(self, x: Tensor) -> Tensor:
        """Map sequences [B, T] or [B, T, channels] to features [B, width]."""
        padding = None if self.padding is None else x == self.padding
        x = self.dropout(self.embedding(x) + self.positions)
        for block in self.blocks:
            x = block(x, padding)
        x = self.norm(x)
        if padding is None:
            return x.mean(1)
        count = (~padding).sum(1, keepdim=True).clamp(min=1).to(x.dtype)
        return x.masked_fill(padding.unsqueeze(-1), 0).sum(1) / count


class _Block(nn.Module):
    """x ← x + dropout(mix(norm(x))), then x ← x + dropout(MLP(norm(x)))."""

    def __init__(self, width: int, hidden: int, dropout: float, mixer: nn.Module | None) -> None:
        super().__init__()
        self.mixer = mixer
        self.mixer_norm = None if mixer is None else nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width), nn.Dropout(dropout)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        if self.mixer is not None and self.mixer_norm is not None:
            x = x + self.dropout(self.mixer(self.mixer_norm(x), padding))
        out: Tensor = x + self.mlp(x)
        return out
