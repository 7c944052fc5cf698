"""Linear models."""

import math

from torch import nn

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
