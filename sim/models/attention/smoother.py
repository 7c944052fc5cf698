"""The smoothing half of S³Attention: a Fourier convolution of segment means, and a convolution stem."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["ConvolutionStem", "FourierConvolution", "Norm"]

Norm = Literal["position", "channel", "layer"]
"""What a stem normalises over: each position of a batch, each channel of a batch, or the channels of a token."""


class FourierConvolution(nn.Module):
    """Convolves segment means with a learned filter as long as the sequence: irFFT(L ⊙ rFFT(X S)).

    S replaces each feature by the mean over its segment of width/segments features, so that only one transform per
    segment is computed. The convolution is circular: the end of a sequence reaches its start, and it is not causal.

    Args:
        length: Number of tokens n.
        width: Number of features d.
        segments: Number of segments r, a divisor of the width.

    Raises:
        ValueError: `segments` does not divide `width`.
    """

    def __init__(self, length: int, width: int, segments: int) -> None:
        super().__init__()
        if width % segments:
            raise ValueError(f"segments: got {segments}, which does not divide the width {width}")
        self.length, self.segments = length, segments
        self.filter = nn.Parameter(torch.empty(2, width, length // 2 + 1))
        """Real and imaginary parts of L, for each feature and frequency."""
        nn.init.normal_(self.filter, std=1 / math.sqrt(width))  # He et al.: two numbers for each feature

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: Tokens, [B, length, width].

        Returns:
            A tensor of the same shape.
        """
        # No lower precision, which transforms do not have; and time last, where they are twice as fast.
        means = torch.unflatten(x.to(self.filter.dtype), -1, (self.segments, -1)).mean(-1).mT.contiguous()
        filters = torch.unflatten(torch.complex(self.filter[0], self.filter[1]), 0, (self.segments, -1))
        spectrum = torch.fft.rfft(means).unsqueeze(2) * filters
        smooth: Tensor = torch.fft.irfft(spectrum.flatten(1, 2), n=self.length).mT
        return smooth


class ConvolutionStem(nn.Module):
    """Mixes the smooth tokens with the given ones: dropout(ReLU(norm(Conv([X_smooth, X])))), with kernels of 3 tokens.

    Args:
        length: Number of tokens.
        width: Number of features.
        norm: The normalisation. "position" and "channel" take statistics of the batch, those of "position" for a fixed
            length, and keep running statistics; padded tokens, which count as zeros, are part of them.
        dropout: Probability of dropping a number in training.
    """

    def __init__(self, length: int, width: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.norm = norm
        self.taps = nn.Linear(2 * width, 3 * width, bias=False)
        """The three matrices of the kernel, one below the other: a convolution as one product over all tokens."""
        self.bias = nn.Parameter(torch.empty(width))
        for parameter in (self.taps.weight, self.bias):
            nn.init.uniform_(parameter, -1 / math.sqrt(6 * width), 1 / math.sqrt(6 * width))  # as in nn.Conv1d
        kinds = {"position": nn.BatchNorm1d, "channel": nn.BatchNorm1d, "layer": nn.LayerNorm}
        self.normalization = kinds[norm](length if norm == "position" else width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, smooth: Tensor, x: Tensor) -> Tensor:
        """Apply the stem.

        Args:
            smooth: Smooth tokens, [B, length, width].
            x: The tokens themselves, of the same shape.

        Returns:
            A tensor of the same shape.
        """
        before, here, after = self.taps(torch.cat((smooth, x), -1)).chunk(3, -1)
        pad = nn.functional.pad
        y = here + pad(before[:, :-1], (0, 0, 1, 0)) + pad(after[:, 1:], (0, 0, 0, 1)) + self.bias
        y = self.normalization(y.mT).mT if self.norm == "channel" else self.normalization(y)
        dropped: Tensor = self.dropout(torch.relu(y))
        return dropped
