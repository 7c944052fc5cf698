"""Linear models."""

import math
from typing import Literal

from torch import Tensor, nn

from basinet.sim.models.model import MODELS


@MODELS.register("linear")
class Linear(nn.Sequential):
    """A linear model, W x or W x + b.

    Args:
        input_shape: Shape of one input, which is flattened; the simulator supplies it.
        num_outputs: Number of outputs; the simulator supplies it.
        bias: Whether there is an intercept b.

    Example:
        >>> sum(parameter.numel() for parameter in Linear((8, 8), 1).parameters())
        64
    """

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, *, bias: bool = False) -> None:
        super().__init__(nn.Flatten(), nn.Linear(math.prod(input_shape), num_outputs, bias=bias))


@MODELS.register("softmax")
class Softmax(Linear):
    """Softmax regression: the logits W x + b, convex under the cross-entropy.

    Args:
        input_shape: Shape of one input, which is flattened; the simulator supplies it.
        num_outputs: Number of classes; the simulator supplies it.

    Example:
        >>> sum(parameter.numel() for parameter in Softmax((8, 8), 10).parameters())
        650
    """

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__(input_shape, num_outputs, bias=True)


@MODELS.register("linear_forecaster")
class LinearForecaster(nn.Module):
    """Each future value as an affine function of the window, the same for all channels.

    The window is shifted by its last value, or its mean, which is added to the forecast again; this is also the
    forecast before training, since weights are zero. Reference: Zeng, Chen, Zhang, Xu: Are transformers effective for
    time series forecasting?, AAAI 2023, arXiv:2205.13504 (there, NLinear).

    Args:
        input_shape: (L, C): length of a window, and number of channels; the simulator supplies it.
        num_outputs: Length of a forecast times the number of channels; the simulator supplies it.
        shift: What is subtracted from a window: its last value, its mean, or nothing.

    Raises:
        ValueError: The inputs are not windows of channels.

    Example:
        >>> import torch
        >>> LinearForecaster((24, 3), 36)(torch.zeros(5, 24, 3)).shape
        torch.Size([5, 12, 3])
    """

    def __init__(
        self, input_shape: tuple[int, ...], num_outputs: int, *, shift: Literal["last", "mean", "none"] = "last"
    ) -> None:
        super().__init__()
        length, horizon = forecast_lengths("linear_forecaster", input_shape, num_outputs)
        self.shift = shift
        self.linear = nn.Linear(length, horizon)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Continue windows [B, L, C] by forecasts [B, H, C]."""
        base = None if self.shift == "none" else x[:, -1:] if self.shift == "last" else x.mean(1, keepdim=True)
        forecast: Tensor = self.linear((x if base is None else x - base).transpose(1, 2)).transpose(1, 2)
        return forecast if base is None else forecast + base


def forecast_lengths(model: str, input_shape: tuple[int, ...], num_outputs: int) -> tuple[int, int]:
    """Return the lengths of windows and of forecasts.

    Args:
        model: Name of the model, for error messages.
        input_shape: (L, C).
        num_outputs: H · C.

    Returns:
        L and H.

    Raises:
        ValueError: The inputs are not windows of channels.
    """
    if len(input_shape) != 2 or num_outputs % input_shape[1]:
        raise ValueError(
            f"{model} needs inputs of shape (length, channels) and as many outputs for each channel, but got"
            f" {input_shape} and {num_outputs} outputs"
        )
    return input_shape[0], num_outputs // input_shape[1]
