"""A model of sequences that does not mix tokens."""

from basinet.sim.models.attention.classifier import Number, SequenceClassifier, Share
from basinet.sim.models.model import MODELS

__all__ = ["Tokenwise"]


@MODELS.register("tokenwise")
class Tokenwise(SequenceClassifier):
    """An MLP of each token and its position, averaged over tokens: what can be told without mixing any.

    Args:
        input_shape: (T,) or (T, channels), or with tokens also (2, T) for a pair; the simulator supplies it.
        num_outputs: Number of outputs; the simulator supplies it.
        vocabulary: Number of different tokens, None for numbers; the simulator supplies it.
        padding: The token that fills up short sequences, or None; the simulator supplies it.
        width: Features of a token.
        layers: Number of residual MLPs.
        hidden: Hidden units of the MLPs.
        dropout: Probability of dropping a feature in training.

    Example:
        >>> import torch
        >>> Tokenwise((20, 3), 10, vocabulary=None, padding=None)(torch.zeros(5, 20, 3)).shape
        torch.Size([5, 10])
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
        hidden: Number = 128,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__(
            input_shape, num_outputs, vocabulary, padding, width=width, layers=layers, hidden=hidden, dropout=dropout,
            mix=None,
        )  # fmt: skip
