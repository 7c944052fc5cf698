"""S³Attention: attention of linear cost to a sequence that a Fourier convolution has smoothed."""

from torch import Tensor, nn

from basinet.sim.models.attention.skeleton import SkeletonAttention
from basinet.sim.models.attention.smoother import ConvolutionStem, FourierConvolution, Norm

__all__ = ["S3Attention"]


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
