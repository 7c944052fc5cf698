"""Residual networks for small images."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from basinet.sim.models.model import MODELS
from basinet.sim.models.vision.convolutional.norms import NORMS, Norm

Count = Annotated[int, Field(ge=1, le=10_000)]


@MODELS.register("resnet")
class ResNet(nn.Sequential):
    """A 3 × 3 convolution, stages of basic blocks, global average pooling, an affine layer.

    Each stage but the first halves the image. The defaults are those of ResNet-18 for images of 32 × 32 pixels, with
    11,173,962 parameters for norm "batch", three channels and ten classes.

    Args:
        input_shape: (channels, height, width) of an image; the simulator supplies it.
        num_outputs: Number of outputs; the simulator supplies it.
        norm: Normalisation after each convolution: over the batch, or over up to eight groups of channels. There is no
            default, since running statistics are averaged in a centroid and its outputs depend on them.
        widths: Channels of each stage.
        blocks: Number of basic blocks, of two convolutions each, in each stage; one for each width.

    Raises:
        ValueError: The inputs are not images, or widths and blocks differ in number.

    Example:
        >>> model = ResNet((3, 32, 32), 10, norm="batch")
        >>> sum(parameter.numel() for parameter in model.parameters())
        11173962

    References:
        K. He, X. Zhang, S. Ren, J. Sun: Deep residual learning for image recognition, CVPR 2016, arXiv:1512.03385.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        norm: Norm,
        widths: Annotated[Sequence[Count], Field(min_length=1)] = (64, 128, 256, 512),
        blocks: Annotated[Sequence[Count], Field(min_length=1)] = (2, 2, 2, 2),
    ) -> None:
        if len(input_shape) != 3:
            raise ValueError(f"resnet needs inputs of shape (channels, height, width), but got {input_shape}")
        if len(widths) != len(blocks):
            raise ValueError(
                f"resnet has {len(widths)} widths and {len(blocks)} numbers of blocks; give as many of both"
            )
        layers = [*convolution(input_shape[0], widths[0], 3, 1, norm), nn.ReLU()]
        before = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for index in range(count):
                layers.append(_Basic(before, width, 2 if stage > 0 and index == 0 else 1, norm))
                before = width
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_outputs))
        initialize(self)


class _Basic(nn.Module):
    """h ← relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))."""

    def __init__(self, before: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        first, second = convolution(before, width, 3, stride, norm), convolution(width, width, 3, 1, norm)
        self.residual = nn.Sequential(*first, nn.ReLU(), *second)
        same = stride == 1 and before == width
        self.shortcut = nn.Identity() if same else nn.Sequential(*convolution(before, width, 1, stride, norm))
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.shortcut(x) + self.residual(x))
        return y


def convolution(before: int, width: int, kernel: int, stride: int, norm: Norm) -> list[nn.Module]:
    """Build a convolution followed by its normalisation, which replaces the bias.

    Args:
        before: Number of input channels.
        width: Number of output channels.
        kernel: Height and width of the kernel.
        stride: The stride.
        norm: The normalisation.

    Returns:
        The layers.
    """
    plain = norm == "none"
    layer = nn.Conv2d(before, width, kernel, stride=stride, padding=kernel // 2, bias=plain)
    return [layer] if plain else [layer, NORMS[norm](width)]


def initialize(model: nn.Module) -> None:
    """Draw the kernels so that gradients keep their scale through a ReLU (He et al., ICCV 2015, arXiv:1502.01852).

    Args:
        model: The model; its convolutions are changed in place.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
