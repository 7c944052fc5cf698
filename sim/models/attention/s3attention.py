"""S³Attention: attention of linear cost to a sequence that a Fourier convolution has smoothed."""

from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.sim.models.attention.classifier import Number, SequenceClassifier, Share
from basinet.sim.models.attention.skeleton import SkeletonAttention
from basinet.sim.models.attention.smoother import ConvolutionStem, FourierConvolution, Norm
from basinet.sim.models.model import MODELS

__all__ = ["S3Attention", "S3Classifier"]


class S3Attention(nn.Module):
    """Smoothed skeleton sketching attention: smooth the tokens, then attend to a few tokens and features.

    A Fourier convolution makes tokens alike, so that few of them stand for all; a convolution stem adds the tokens
    themselves; skeleton attention follows. See `FourierConvolution`, `ConvolutionStem` and `SkeletonAttention`.

    Args:
        length: Number of tokens of a sequence; shorter ones are padded.
        width: Number of features of a token.
        heads: Number of heads.
        segments: r, the number of segments of features whose means are smoothed.
        rows: s₁, the number of sampled tokens.
        columns: s₂, the number of sampled features of a head.
        norm: What the stem normalises over; "position" is that of the paper.
        dropout: Probability of dropping a number after the stem, in training.
        seed: What the sampled sets are drawn from: the same for all agents, whose averages are then of one function.

    Example:
        >>> import torch
        >>> attention = S3Attention(32, 16)
        >>> attention(torch.zeros(2, 32, 16)).shape
        torch.Size([2, 32, 16])

    References:
        X. Wang, T. Zhou, J. Zhu, J. Liu, K. Yuan, T. Yao, W. Yin, R. Jin, H. Cai: S³Attention: Improving long sequence
        attention with smoothed skeleton sketching, 2024, arXiv:2408.08567.
    """

    def __init__(
        self,
        length: int,
        width: int,
        *,
        heads: int = 2,
        segments: int = 8,
        rows: int = 8,
        columns: int = 8,
        norm: Norm = "layer",
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.length = length
        self.smoother = FourierConvolution(length, width, segments)
        self.stem = ConvolutionStem(length, width, norm, dropout)
        self.attention = SkeletonAttention(length, width, heads=heads, rows=rows, columns=columns, seed=seed)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: Tokens, [B, length, width].
            padding: Whether a token is padded, bool [B, length]; None if none is.

        Returns:
            A tensor of the shape of `x`, which does not depend on padded tokens.

        Raises:
            ValueError: The sequence has another length.
        """
        if x.shape[1] != self.length:
            raise ValueError(f"S3Attention is for {self.length} tokens, not {x.shape[1]}; pad shorter sequences")
        if padding is not None:
            x = x.masked_fill(padding.unsqueeze(-1), 0)
        out: Tensor = self.attention(self.stem(self.smoother(x), x), padding)
        return out


@MODELS.register("s3attention")
class S3Classifier(SequenceClassifier):
    """An encoder of S³Attention that classifies sequences, at linear cost; the defaults are those of the paper.

    Args:
        input_shape: (T,) or (T, channels), or with tokens also (2, T) for a pair; the simulator supplies it.
        num_outputs: Number of outputs; the simulator supplies it.
        vocabulary: Number of different tokens, None for numbers; the simulator supplies it.
        padding: The token that fills up short sequences, or None; the simulator supplies it.
        seed: What the sampled sets are drawn from, the same for all agents; the simulator supplies it.
        width: Features of a token.
        layers: Number of blocks.
        heads: Attention heads of a block, a divisor of the width.
        hidden: Hidden units of the MLPs.
        segments: r, the segments of features whose means are smoothed, a divisor of the width.
        rows: s₁, the sampled tokens.
        columns: s₂, the sampled features of a head.
        norm: What the stem normalises over: a token's channels, or as in the paper the positions of a batch, or the
            channels of a batch. The last two keep running statistics, which are averaged in a centroid.
        dropout: Probability of dropping a feature in training.
        smoother_dropout: Probability of dropping a number after the stem, in training.

    Example:
        >>> import torch
        >>> model = S3Classifier((2, 32), 2, vocabulary=16, padding=0, seed=0)
        >>> model(torch.ones(5, 2, 32, dtype=torch.int64)).shape
        torch.Size([5, 2])

    References:
        X. Wang et al.: S³Attention: Improving long sequence attention with smoothed skeleton sketching, 2024,
        arXiv:2408.08567.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        vocabulary: int | None,
        padding: int | None,
        seed: int,
        *,
        width: Number = 64,
        layers: Number = 2,
        heads: Number = 2,
        hidden: Number = 128,
        segments: Number = 8,
        rows: Number = 8,
        columns: Number = 8,
        norm: Norm = "layer",
        dropout: Share = 0.0,
        smoother_dropout: Share = 0.0,
    ) -> None:
        super().__init__(
            input_shape, num_outputs, vocabulary, padding, width=width, layers=layers, hidden=hidden, dropout=dropout,
            mix=lambda length, layer: S3Attention(
                length, width, heads=heads, segments=segments, rows=rows, columns=columns, norm=norm,
                dropout=smoother_dropout, seed=draws.key(seed, "layer", layer),
            ),
        )  # fmt: skip
