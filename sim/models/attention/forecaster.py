"""A model of time series: S³Attention, and extrapolation by a Fourier series."""

import math
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.sim.models.attention.classifier import Number, Share
from basinet.sim.models.attention.s3attention import S3Attention
from basinet.sim.models.attention.smoother import Norm
from basinet.sim.models.linear import forecast_lengths
from basinet.sim.models.model import MODELS

__all__ = ["S3Forecaster", "extrapolate"]

_ADDED = {"soft": 1.0, "unit": 1e-5}
"""What is added to the variance of a window."""


@MODELS.register("s3forecaster")
class S3Forecaster(nn.Module):
    """Continues windows of a time series: x ← S3(x) + x for each layer, and the Fourier series of the result.

    Each window is standardised, its values are embedded linearly, and sinusoidal positions added. What the layers make
    of it is mapped linearly to the channels, again over the times of the window. The mean and the lowest frequencies of
    that are extrapolated, and the standardisation is undone.

    Args:
        input_shape: (L, C): length of a window, and number of channels; the simulator supplies it.
        num_outputs: Length of a forecast times the number of channels; the simulator supplies it.
        seed: What the sampled sets are drawn from, the same for all agents; the simulator supplies it.
        width: Features of a time.
        layers: Number of layers.
        heads: Attention heads of a layer, a divisor of the width.
        segments: r, the segments of features whose means are smoothed, a divisor of the width.
        rows: s₁, the sampled times.
        columns: s₂, the sampled features of a head.
        norm: What the stem normalises over; see `s3attention`.
        dropout: Probability of dropping a number after the stem, in training.
        harmonics: Number of frequencies 1/L, 2/L, … that are extrapolated besides the mean. All have the period L, and
            so has the extrapolation; more than L/2 change nothing.
        standardize: What the values of a window are divided by after their mean is subtracted: √(variance + 1), the
            deviation (√(variance + 10⁻⁵)), or "none" for no standardisation.

    Raises:
        ValueError: The inputs are not windows of channels.

    Example:
        >>> import torch
        >>> S3Forecaster((24, 3), 36, seed=0)(torch.zeros(5, 24, 3)).shape
        torch.Size([5, 12, 3])

    References:
        X. Wang, T. Zhou, J. Zhu, J. Liu, K. Yuan, T. Yao, W. Yin, R. Jin, H. Cai: S³Attention: Improving long sequence
        attention with smoothed skeleton sketching, 2024, arXiv:2408.08567.
    """

    positions: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        seed: int,
        *,
        width: Number = 32,
        layers: Number = 2,
        heads: Number = 2,
        segments: Number = 8,
        rows: Number = 8,
        columns: Number = 8,
        norm: Norm = "layer",
        dropout: Share = 0.0,
        harmonics: Annotated[int, Field(ge=0, le=10**6)] = 16,
        standardize: Literal["soft", "unit", "none"] = "soft",
    ) -> None:
        super().__init__()
        length, self.horizon = forecast_lengths("s3forecaster", input_shape, num_outputs)
        self.harmonics, self.standardize = harmonics, standardize
        self.embedding = nn.Linear(input_shape[1], width)  # a convolution with kernels of one time
        self.register_buffer("positions", _sinusoids(length, width))
        self.layers = nn.ModuleList(
            S3Attention(
                length, width, heads=heads, segments=segments, rows=rows, columns=columns, norm=norm, dropout=dropout,
                seed=draws.key(seed, "layer", layer),
            )
            for layer in range(layers)
        )  # fmt: skip
        self.head = nn.Linear(width, input_shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """Continue windows [B, L, C] by forecasts [B, H, C]."""
        if self.standardize == "none":
            return extrapolate(self._encode(x), self.horizon, self.harmonics)
        mean = x.mean(1, keepdim=True)
        centred = x - mean
        scale = (centred.square().mean(1, keepdim=True) + _ADDED[self.standardize]).sqrt()
        return extrapolate(self._encode(centred / scale), self.horizon, self.harmonics) * scale + mean

    def _encode(self, x: Tensor) -> Tensor:
        """Map windows to what is extrapolated, [B, L, C]."""
        x = self.embedding(x) + self.positions
        for layer in self.layers:
            x = layer(x) + x
        found: Tensor = self.head(x)
        return found


def extrapolate(x: Tensor, horizon: int, harmonics: int) -> Tensor:
    """Continue the discrete Fourier series of a window, without its high frequencies.

    These frequencies are multiples of 1/L, so that what they add up to has the period L. A sum of cosines of whole
    periods, none of them too high, is continued exactly.

    Args:
        x: Windows [B, L, C].
        horizon: Number of times H to continue it to.
        harmonics: Number of frequencies that are kept besides the mean: 1/L, 2/L, …

    Returns:
        The series at the times L, …, L + H − 1: [B, H, C].

    Example:
        >>> x = torch.tensor([3.0, 1.0, 1.0, 3.0, 5.0, 5.0]).reshape(1, 6, 1)
        >>> [round(v, 4) for v in extrapolate(x, 3, 1).flatten().tolist()]
        [3.0, 1.0, 1.0]
    """
    length = x.shape[1]
    values = x.to(torch.promote_types(x.dtype, torch.float32)).mT.contiguous()  # no transforms in lower precision
    spectrum = torch.fft.rfft(values)[..., : harmonics + 1]
    period: Tensor = torch.fft.irfft(spectrum, n=length)
    return period.repeat(1, 1, -(-horizon // length))[..., :horizon].mT


def _sinusoids(length: int, width: int) -> Tensor:
    """Compute sin and cos of each time at geometrically spaced frequencies, [length, width] (Vaswani et al., 2017)."""
    rates = np.exp(np.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = np.arange(length)[:, None] * rates
    found = np.stack((np.sin(angles), np.cos(angles)), -1).reshape(length, -1)[:, :width]
    return torch.from_numpy(found).to(torch.get_default_dtype())
