"""A small convolutional network."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from basinet.sim.models.activations import ACTIVATIONS, Activation
from basinet.sim.models.model import MODELS
from basinet.sim.models.vision.convolutional.norms import NORMS, Norm


@MODELS.register("cnn")
class CNN(nn.Sequential):
    """Convolutions that each halve the image (stride 2), global average pooling, an affine layer.

    The pooling makes the number of parameters independent of the image size.

    Args:
        input_shape: (channels, height, width) of an image; the simulator supplies it.
        num_outputs: Number of outputs; the simulator supplies it.
        channels: Output channels of each convolution.
        kernel: Height and width of the kernels, an odd number.
        norm: Normalisation before each activation: over the batch, or over up to eight groups of channels.
        dropout: Probability of dropping a channel after each activation in training.
        activation: Activation of the convolutions.

    Raises:
        ValueError: The inputs are not images.

    Example:
        >>> import torch
        >>> model = CNN((3, 32, 32), 10)
        >>> model(torch.zeros(5, 3, 32, 32)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        channels: Annotated[Sequence[Annotated[int, Field(ge=1, le=10**6)]], Field(min_length=1)] = (16, 32),
        kernel: Literal[1, 3, 5, 7] = 3,
        norm: Norm = "none",
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        activation: Activation = "relu",
    ) -> None:
        if len(input_shape) != 3:
            raise ValueError(f"cnn needs inputs of shape (channels, height, width), but got {input_shape}")
        layers: list[nn.Module] = []
        width = input_shape[0]
        for maps in channels:
            layers.append(nn.Conv2d(width, maps, kernel, stride=2, padding=kernel // 2))
            if norm != "none":
                layers.append(NORMS[norm](maps))
            layers.append(ACTIVATIONS[activation]())
            if dropout > 0:
                layers.append(nn.Dropout2d(dropout))
            width = maps
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_outputs))
