"""A multilayer perceptron."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from basinet.sim.models.activations import ACTIVATIONS, Activation
from basinet.sim.models.model import MODELS


@MODELS.register("mlp")
class MLP(nn.Sequential):
    """Fully connected layers: h ← activation(norm(W h + b)) for each hidden layer, then an affine layer.

    Args:
        input_shape: Shape of one input, which is flattened; the simulator supplies it.
        num_outputs: Number of outputs; the simulator supplies it.
        hidden: Width of each hidden layer; an empty list gives softmax regression.
        activation: Activation of the hidden layers. ReLU has no curvature of its own; the others are smooth.
        dropout: Probability of dropping a hidden unit in training.
        norm: Normalisation before each activation: over the batch, or over the layer's units.

    Example:
        >>> import torch
        >>> model = MLP((1, 8, 8), 10, hidden=[32])
        >>> model(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        hidden: Sequence[Annotated[int, Field(ge=1, le=10**6)]] = (128,),
        activation: Activation = "relu",
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        norm: Literal["none", "batch", "layer"] = "none",
    ) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        width = math.prod(input_shape)
        for units in hidden:
            layers.append(nn.Linear(width, units))
            if norm != "none":
                layers.append(nn.BatchNorm1d(units) if norm == "batch" else nn.LayerNorm(units))
            layers.append(ACTIVATIONS[activation]())
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            width = units
        super().__init__(*layers, nn.Linear(width, num_outputs))
