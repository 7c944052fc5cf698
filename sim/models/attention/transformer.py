"""A transformer encoder, with softmax attention of quadratic cost."""

from torch import Tensor, nn

from basinet.sim.models.attention.classifier import Number, SequenceClassifier, Share
from basinet.sim.models.attention.heads import MultiHead, join_heads
from basinet.sim.models.model import MODELS

__all__ = ["SoftmaxAttention", "Transformer"]


class SoftmaxAttention(MultiHead):
    """softmax(Q Kᵀ / √size) V, over the tokens that are not padded; over all of them if all are."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None) -> Tensor:
        """Attend to all tokens; see `MultiHead`."""
        seen = None if padding is None else (~padding | padding.all(1, keepdim=True))[:, None, None, :]
        return join_heads(nn.functional.scaled_dot_product_attention(query, key, value, seen))


@MODELS.register("transformer")
class Transformer(SequenceClassifier):
    """A transformer encoder that classifies sequences: softmax attention of all tokens to all.

    Args:
        input_shape: (T,) or (T, channels), or with tokens also (2, T) for a pair; the simulator supplies it.
        num_outputs: Number of outputs; the simulator supplies it.
        vocabulary: Number of different tokens, None for numbers; the simulator supplies it.
        padding: The token that fills up short sequences, or None; the simulator supplies it.
        width: Features of a token.
        layers: Number of blocks.
        heads: Attention heads of a block, a divisor of the width.
        hidden: Hidden units of the MLPs.
        dropout: Probability of dropping a feature in training.

    Example:
        >>> import torch
        >>> model = Transformer((20,), 10, vocabulary=16, padding=0)
        >>> model(torch.ones(5, 20, dtype=torch.int64)).shape
        torch.Size([5, 10])

    References:
        A. Vaswani et al.: Attention is all you need, NeurIPS 2017, arXiv:1706.03762.
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
        dropout: Share = 0.0,
    ) -> None:
        super().__init__(
            input_shape, num_outputs, vocabulary, padding, width=width, layers=layers, hidden=hidden, dropout=dropout,
            mix=lambda length, layer: SoftmaxAttention(width, heads),
        )  # fmt: skip
