"""A small residual network that enlarges images."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from basinet.sim.models.model import MODELS
from basinet.sim.models.vision.restoration.upscaler import Upscaler

Count = Annotated[int, Field(ge=1, le=10_000)]


@MODELS.register("residual_upscaler")
class ResidualUpscaler(Upscaler):
    """A 3 × 3 convolution, residual blocks without normalisation, and a tail that adds details to the bicubic image.

    A block is h ← h + conv(relu(conv(h))), as in EDSR. The defaults have 88,752 parameters for three colours and factor
    4. Untrained, it is bicubic interpolation.

    Args:
        input_shape: (channels, height, width) of an image; the simulator supplies it. Images may have other sizes.
        num_outputs: Number of pixels of the enlarged image, of all channels; the simulator supplies it.
        features: Number of feature maps.
        blocks: Number of residual blocks, of two convolutions each.

    Example:
        >>> import torch
        >>> model = ResidualUpscaler((3, 24, 24), 3 * 96 * 96)
        >>> sum(parameter.numel() for parameter in model.parameters())
        88752
        >>> model(torch.zeros(1, 3, 10, 15)).shape
        torch.Size([1, 3, 40, 60])

    References:
        B. Lim, S. Son, H. Kim, S. Nah, K. M. Lee: Enhanced deep residual networks for single image super-resolution,
        CVPR workshops 2017, arXiv:1707.02921.
    """

    def __init__(
        self, input_shape: tuple[int, ...], num_outputs: int, *, features: Count = 32, blocks: Count = 4
    ) -> None:
        super().__init__("residual_upscaler", input_shape, num_outputs, features)
        first = nn.Conv2d(input_shape[0], features, 3, padding=1)
        self.body = nn.Sequential(first, *(_Block(features) for _ in range(blocks)))

    def features(self, low: Tensor) -> Tensor:
        """Compute the feature maps; see `Upscaler`."""
        found: Tensor = self.body(low)
        return found


class _Block(nn.Module):
    """h ← h + conv(relu(conv(h)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.residual(x)
        return x + y
