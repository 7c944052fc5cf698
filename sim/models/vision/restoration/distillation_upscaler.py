"""A light network that enlarges images by distilling features, as in RFDN."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from basinet.sim.models.model import MODELS
from basinet.sim.models.vision.restoration.upscaler import Upscaler


@MODELS.register("distillation_upscaler")
class DistillationUpscaler(Upscaler):
    """Residual feature distillation: blocks whose outputs are fused, and a tail that adds to the bicubic image.

    A block goes through three shallow residual blocks h ← act(h + conv(h)) of 3 × 3 convolutions and a last
    convolution. Half as many features are distilled from what each of the four gets, by 1 × 1 convolutions except the
    last, and joined by another; the result is weighted by spatial attention, which looks at a coarse image of it. The
    blocks' outputs are joined by a 1 × 1 and a 3 × 3 convolution and added to the first features. Activations are leaky
    rectifiers of slope 0.05. The defaults, those of the published light network, have 433,448 parameters for three
    colours and factor 4; 24 features have 106,560. Untrained, it is bicubic interpolation.

    Args:
        input_shape: (channels, height, width) of an image; the simulator supplies it. Images may have other sizes.
        num_outputs: Number of pixels of the enlarged image, of all channels; the simulator supplies it.
        features: Number of feature maps.
        blocks: Number of distillation blocks.

    Example:
        >>> model = DistillationUpscaler((3, 24, 24), 3 * 96 * 96)
        >>> sum(parameter.numel() for parameter in model.parameters())
        433448

    References:
        J. Liu, J. Tang, G. Wu: Residual feature distillation network for lightweight image super-resolution, ECCV
        workshops 2020, arXiv:2009.11551.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        features: Annotated[int, Field(ge=4, le=10_000)] = 50,
        blocks: Annotated[int, Field(ge=1, le=10_000)] = 4,
    ) -> None:
        super().__init__("distillation_upscaler", input_shape, num_outputs, features)
        self.first = nn.Conv2d(input_shape[0], features, 3, padding=1)
        self.blocks = nn.ModuleList(_Distillation(features) for _ in range(blocks))
        self.fuse = nn.Sequential(
            nn.Conv2d(blocks * features, features, 1), _activation(), nn.Conv2d(features, features, 3, padding=1)
        )

    def features(self, low: Tensor) -> Tensor:
        """Compute the feature maps; see `Upscaler`."""
        first: Tensor = self.first(low)
        x, found = first, []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        fused: Tensor = self.fuse(torch.cat(found, 1))
        return fused + first


class _Distillation(nn.Module):
    """Distils features from four depths, joins them, and weights them by spatial attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.distil = nn.ModuleList(nn.Conv2d(width, half, 1) for _ in range(3))
        self.refine = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.last = nn.Conv2d(width, half, 3, padding=1)
        self.join = nn.Conv2d(4 * half, width, 1)
        self.attention = _SpatialAttention(width)
        self.activation = _activation()

    def forward(self, x: Tensor) -> Tensor:
        act = self.activation
        distilled = []
        for distil, refine in zip(self.distil, self.refine, strict=True):
            distilled.append(act(distil(x)))
            x = act(refine(x) + x)
        distilled.append(act(self.last(x)))
        joined: Tensor = self.attention(self.join(torch.cat(distilled, 1)))
        return joined


class _SpatialAttention(nn.Module):
    """Multiplies by a mask in (0, 1) that is found on an image of a sixth of the size, and from each pixel itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // 4
        self.narrow = nn.Conv2d(width, inner, 1)
        self.past = nn.Conv2d(inner, inner, 1)
        self.halve = nn.Conv2d(inner, inner, 3, stride=2)
        self.coarse = nn.Sequential(
            nn.Conv2d(inner, inner, 3, padding=1), nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1), nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1),
        )  # fmt: skip
        self.widen = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.narrow(x)
        height, width = narrow.shape[-2:]
        least = nn.functional.pad(narrow, (0, max(0, 3 - width), 0, max(0, 3 - height)), mode="replicate")
        halved = self.halve(least)
        window = min(7, halved.shape[-2]), min(7, halved.shape[-1])
        coarse = self.coarse(nn.functional.max_pool2d(halved, window, stride=3))
        wide = nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.widen(wide + self.past(narrow)))


def _activation() -> nn.Module:
    return nn.LeakyReLU(0.05)
