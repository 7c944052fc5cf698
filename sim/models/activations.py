"""The activations that a model can name."""

from typing import Literal

from torch import nn

Activation = Literal["relu", "tanh", "gelu", "silu", "softplus"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}
