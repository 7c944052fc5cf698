"""A network of attention in windows that enlarges images, as in SwinIR."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from basinet.sim.models.attention.relative_positions import numbered_distances, table_size
from basinet.sim.models.model import MODELS
from basinet.sim.models.vision.restoration.upscaler import Upscaler
from basinet.sim.vision.resizing import mirrored

Count = Annotated[int, Field(ge=1, le=10_000)]


@MODELS.register("window_upscaler")
class WindowUpscaler(Upscaler):
    """Attention among the pixels of a window, in residual groups, and a tail that adds details to the bicubic image.

    A group is a number of transformer layers, x ← x + attention(norm(x)), x ← x + mlp(norm(x)), and a convolution, with
    a way past them. The windows of every other layer are shifted by half their size, around the image; pixels that only
    meet by that do not see each other. A learned number for each distance between two pixels is added to their score.
    Images are filled up to whole windows by their mirror images.

    The defaults have 118,192 parameters for three colours and factor 4. The published light network, of 60 features, 4
    groups of 6 layers and 6 heads, has 929,628. Untrained, it is bicubic interpolation.

    Args:
        input_shape: (channels, height, width) of an image; the simulator supplies it. Images may have other sizes.
        num_outputs: Number of pixels of the enlarged image, of all channels; the simulator supplies it.
        features: Number of features of a pixel.
        groups: Number of residual groups.
        layers: Number of transformer layers of a group.
        heads: Attention heads of a layer, a divisor of `features`.
        window: Height and width of a window, in pixels of the small image.
        expansion: Hidden units of the MLPs, for each feature.

    Example:
        >>> model = WindowUpscaler((3, 24, 24), 3 * 96 * 96)
        >>> sum(parameter.numel() for parameter in model.parameters())
        118192

    References:
        J. Liang, J. Cao, G. Sun, K. Zhang, L. Van Gool, R. Timofte: SwinIR: Image restoration using Swin transformer,
        ICCV workshops 2021, arXiv:2108.10257.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        features: Count = 32,
        groups: Count = 2,
        layers: Count = 4,
        heads: Count = 4,
        window: Annotated[int, Field(ge=2, le=64)] = 8,
        expansion: Annotated[int, Field(ge=1, le=100)] = 2,
    ) -> None:
        super().__init__("window_upscaler", input_shape, num_outputs, features)
        self.window = window
        self.first = nn.Conv2d(input_shape[0], features, 3, padding=1)
        self.enter, self.leave = nn.LayerNorm(features), nn.LayerNorm(features)
        self.groups = nn.ModuleList(_Group(features, layers, heads, window, expansion) for _ in range(groups))
        self.last = nn.Conv2d(features, features, 3, padding=1)

    def features(self, low: Tensor) -> Tensor:
        """Compute the feature maps; see `Upscaler`."""
        height, width = low.shape[-2:]
        first = self.first(_filled(_filled(low, -2, self.window), -1, self.window))
        x = self.enter(_last(first))
        places = torch.arange(self.window**2, device=low.device)
        distances = numbered_distances(places, (self.window, self.window))
        apart = _apart(x.shape[1], x.shape[2], self.window, low.device)
        for group in self.groups:
            x = group(x, distances, apart)
        found: Tensor = self.last(_first(self.leave(x))) + first
        return found[..., :height, :width]


class _Group(nn.Module):
    """x ← x + conv(layers(x))."""

    def __init__(self, width: int, layers: int, heads: int, window: int, expansion: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _Layer(width, heads, window, window // 2 * (layer % 2), expansion) for layer in range(layers)
        )
        self.convolution = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, distances: Tensor, apart: Tensor) -> Tensor:
        y = x
        for layer in self.layers:
            y = layer(y, distances, apart)
        return x + _last(self.convolution(_first(y)))


class _Layer(nn.Module):
    """x ← x + attention(norm(x)); x ← x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, window: int, shift: int, expansion: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads: got {heads}, which does not divide the {width} features")
        self.heads, self.window, self.shift = heads, window, shift
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.projections, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.nearness = nn.Parameter(torch.empty(table_size((window, window)), heads))
        self.mlp = nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))
        nn.init.trunc_normal_(self.nearness, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, distances: Tensor, apart: Tensor) -> Tensor:
        x = x + self._attend(self.attention_norm(x), distances, apart)
        y: Tensor = self.mlp(self.mlp_norm(x))
        return x + y

    def _attend(self, x: Tensor, distances: Tensor, apart: Tensor) -> Tensor:
        """Attend in windows of images [B, H, W, C]."""
        batch, height, width, features = x.shape
        size, shift = self.window, self.shift
        rows, columns = height // size, width // size
        if shift:
            x = torch.roll(x, (-shift, -shift), (1, 2))
        x = x.reshape(batch, rows, size, columns, size, features).transpose(2, 3)
        tokens = x.reshape(batch, rows * columns, size * size, features)
        # [3, B, windows, heads, tokens, size of a head]
        parts = self.projections(tokens).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        query, key, value = parts.unbind(0)
        nearness = nn.functional.embedding(distances, self.nearness).permute(2, 0, 1)
        if shift:
            nearness = nearness.masked_fill(apart, -math.inf)
        # Written out, so that it can be differentiated twice, also with respect to what is added.
        scores = (query / math.sqrt(features // self.heads)) @ key.mT + nearness
        found = self.output((scores.softmax(-1) @ value).transpose(2, 3).flatten(-2))
        found = found.reshape(batch, rows, columns, size, size, features).transpose(2, 3)
        found = found.reshape(batch, height, width, features)
        return torch.roll(found, (shift, shift), (1, 2)) if shift else found


def _filled(x: Tensor, axis: int, window: int) -> Tensor:
    """Fill an axis up to a multiple of the window by mirror images, which begin with the last pixel."""
    size = x.shape[axis]
    return mirrored(x, axis, 0, -(-size // window) * window) if size % window else x


def _apart(height: int, width: int, window: int, device: torch.device) -> Tensor:
    """Find which pixels meet in a shifted window only around the image, bool [windows, 1, window², window²]."""

    def parts(size: int) -> Tensor:
        places = torch.arange(size, device=device)
        return (places >= size - window // 2).long().view(-1, window)

    # What came around is at the end of the last window of each axis.
    of = 2 * parts(height)[:, None, :, None] + parts(width)[None, :, None, :]
    of = of.reshape(-1, 1, window**2)
    return of[..., None] != of[..., None, :]


def _last(x: Tensor) -> Tensor:
    """Move the channels to the last axis."""
    return x.permute(0, 2, 3, 1)


def _first(x: Tensor) -> Tensor:
    """Move them back."""
    return x.permute(0, 3, 1, 2)
