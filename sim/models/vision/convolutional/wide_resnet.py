"""Wide residual networks for small images."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from basinet.sim.models.model import MODELS
from basinet.sim.models.vision.convolutional.norms import NORMS, Norm
from basinet.sim.models.vision.convolutional.resnet import initialize


@MODELS.register("wide_resnet")
class WideResNet(nn.Sequential):
    """A 3 × 3 convolution, three stages of pre-activation blocks, global average pooling, an affine layer.

    The stages have 16, 32 and 64 channels times a factor; the second and third halve the image. WRN-28-10 has
    36,479,194 parameters and WRN-16-8 has 10,961,370, for norm "batch", three channels and ten classes.

    Args:
        input_shape: (channels, height, width) of an image; the simulator supplies it.
        num_outputs: Number of outputs; the simulator supplies it.
        norm: Normalisation before each convolution: over the batch, or over up to eight groups of channels; see
            `ResNet`.
        depth: Number of layers, 6 n + 4, with n blocks in each stage.
        widen_factor: The factor on the channels.
        dropout: Probability of dropping an activation between the convolutions of a block in training.

    Raises:
        ValueError: The inputs are not images, or the depth is not 6 n + 4.

    Example:
        >>> model = WideResNet((3, 32, 32), 10, norm="batch", depth=16, widen_factor=8)
        >>> sum(parameter.numel() for parameter in model.parameters())
        10961370

    References:
        S. Zagoruyko, N. Komodakis: Wide residual networks, BMVC 2016, arXiv:1605.07146.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        norm: Norm,
        depth: Annotated[int, Field(ge=10, le=10_000)] = 28,
        widen_factor: Annotated[int, Field(ge=1, le=10_000)] = 10,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        if len(input_shape) != 3:
            raise ValueError(f"wide_resnet needs inputs of shape (channels, height, width), but got {input_shape}")
        if (depth - 4) % 6:
            raise ValueError(f"wide_resnet needs a depth of 6 n + 4, such as 10, 16, 22 or 28, but got {depth}")
        bias = norm == "none"
        layers: list[nn.Module] = [nn.Conv2d(input_shape[0], 16, 3, padding=1, bias=bias)]
        before = 16
        for stage in range(3):
            width = 16 * 2**stage * widen_factor
            for index in range((depth - 4) // 6):
                layers.append(_Wide(before, width, 2 if stage > 0 and index == 0 else 1, norm, dropout))
                before = width
        layers += [NORMS[norm](before), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_outputs))
        initialize(self)


class _Wide(nn.Module):
    """a ← relu(norm(x)); h ← x + conv(dropout(relu(norm(conv(a))))). If sizes differ, x is a 1 × 1 convolution of a."""

    def __init__(self, before: int, width: int, stride: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        bias = norm == "none"
        self.activate = nn.Sequential(NORMS[norm](before), nn.ReLU())
        self.residual = nn.Sequential(
            nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=bias),
            NORMS[norm](width),
            nn.ReLU(),
            nn.Dropout(dropout) if dropout > 0 else nn.Identity(),
            nn.Conv2d(width, width, 3, padding=1, bias=bias),
        )
        same = stride == 1 and before == width
        self.shortcut = None if same else nn.Conv2d(before, width, 1, stride=stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        a = self.activate(x)
        y: Tensor = self.residual(a)
        return y + (x if self.shortcut is None else self.shortcut(a))
