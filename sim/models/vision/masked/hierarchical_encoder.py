"""The encoder of hierarchical vision transformers whose first stages do not mix units of 16 × 16 pixels."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from basinet.sim.models.attention.relative_positions import RelativeAttention, numbered_distances, sines_and_cosines
from basinet.sim.models.vision.video.video_heads import LocalContrast

__all__ = [
    "UNIT",
    "AttentionBlock",
    "Depths",
    "Expansion",
    "Expansions",
    "HierarchicalEncoder",
    "Locality",
    "Number",
    "grid_of",
    "initialize",
    "units_of",
]

Number = Annotated[int, Field(ge=1, le=10_000)]
_Depth = Annotated[int, Field(ge=0, le=100)]
Depths = tuple[_Depth, _Depth, Annotated[int, Field(ge=1, le=100)]]
Expansion = Annotated[int, Field(ge=1, le=100)]
Expansions = tuple[Expansion, Expansion, Expansion]
Locality = Annotated[float, Field(ge=0, le=100)]

_PATCH = 4
"""Height and width of what is embedded as a token of the first stage."""

UNIT = 4 * _PATCH
"""Height and width of a unit, a token of the third stage."""


def grid_of(name: str, size: tuple[int, ...]) -> tuple[int, int]:
    """Count the units of an image.

    Args:
        name: Name of the model, for the message.
        size: (height, width) of the image.

    Returns:
        (rows, columns).

    Raises:
        ValueError: It cannot be divided into units.
    """
    if any(length < UNIT or length % UNIT for length in size):
        raise ValueError(f"{name} needs images whose height and width are multiples of {UNIT}, but got {size}")
    return size[0] // UNIT, size[1] // UNIT


def units_of(images: Tensor) -> Tensor:
    """Divide images into units, row by row.

    Args:
        images: [..., channels, height, width].

    Returns:
        [..., units, channels, 16, 16].
    """
    parts = torch.unflatten(torch.unflatten(images, -1, (-1, UNIT)), -3, (-1, UNIT))  # [..., C, rows, 16, columns, 16]
    return parts.movedim(-5, -3).transpose(-4, -2).flatten(-5, -4)


class HierarchicalEncoder(nn.Module):
    """Three stages: MLPs on patches of 4 × 4 pixels, MLPs on 2 × 2 patches merged, and attention among units of 4 × 4.

    Since units meet only in the third stage, those that are left out need not be computed. Pixels in [0, 1] are mapped
    to [−2, 2] first. The published encoder sees these only. With `contrast` it sees their local contrast, within each
    unit, beside them: what distortions change, where brightness and colours change much more (our own).

    Args:
        channels: Number of channels of an image, of all its frames if there are several.
        grid: (rows, columns) of units.
        width: Features of a patch; merging doubles them, twice.
        depths: Number of blocks of each stage.
        heads: Attention heads of a block of the third stage, a divisor of its width.
        expansions: Hidden units of the MLPs of each stage, for each feature.
        contrast: Whether local contrast is seen beside the pixels.
        locality: Strength with which attention is drawn to neighbours at first; see `RelativeAttention`.
        frames: Number of frames.

    Attributes:
        widths: Features of a token of each stage.
    """

    def __init__(
        self,
        channels: int,
        grid: tuple[int, int],
        *,
        width: int,
        depths: tuple[int, int, int],
        heads: int,
        expansions: tuple[int, int, int],
        contrast: bool = False,
        locality: float = 0.0,
        frames: int = 1,
    ) -> None:
        super().__init__()
        self.grid, self.frames = grid, frames
        self.contrast = LocalContrast() if contrast else None
        self.widths = (width, 2 * width, 4 * width)
        self.positions = nn.Parameter(torch.empty(grid[0] * grid[1], self.widths[2]))
        self.positions.data.copy_(sines_and_cosines(grid, self.widths[2]))
        projection = nn.Linear((2 if contrast else 1) * channels * _PATCH**2, width)
        self.embedding = nn.Sequential(projection, nn.LayerNorm(width))
        first, second = (
            [Perceptron(self.widths[stage], expansions[stage]) for _ in range(depths[stage])] for stage in (0, 1)
        )
        third = [AttentionBlock(self.widths[2], expansions[2], heads, grid, locality) for _ in range(depths[2])]
        stages = (
            nn.Sequential(*first),
            nn.Sequential(_Merging(width), *second),
            nn.Sequential(_Merging(2 * width), *third),
        )
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(self.widths[2])
        initialize(self)
        nn.init.normal_(projection.bias)  # beside which normalisation leaves brightness and contrast of a patch

    def forward(self, units: Tensor, places: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Encode units.

        Args:
            units: [B, m, channels, 16, 16].
            places: Numbers of their places, row by row, int64 [B, m]; None for all places in order.

        Returns:
            The tokens of each stage, the last ones normalised: [B, m, 16, width], [B, m, 4, 2 width], [B, m, 4 width].
        """
        first = self.stages[0](self.embedding(_patches(self._seen(units))))
        second = self.stages[1](first)
        merging, *blocks = self.stages[2].children()
        x = merging(second).squeeze(2)
        if places is None:
            x = x + self.positions
            distances = numbered_distances(torch.arange(len(self.positions), device=x.device), self.grid)
        else:
            x = x + nn.functional.embedding(places, self.positions)
            distances = numbered_distances(places, self.grid)
        for block in blocks:
            x = block(x, distances)
        return first, second, self.norm(x)

    def _seen(self, units: Tensor) -> Tensor:
        """Scale pixels, and put their contrast beside the channels of each frame."""
        if self.contrast is None:
            return 4 * units - 2
        frames = torch.unflatten(units, -3, (self.frames, -1)).flatten(1, 2)  # [B, m · frames, channels, 16, 16]
        both = torch.cat([4 * frames - 2, self.contrast(frames)], 2)
        return torch.unflatten(both, 1, (-1, self.frames)).flatten(2, 3)


class Perceptron(nn.Module):
    """x ← x + MLP(norm(x)) for each token.

    Args:
        width: Features of a token.
        expansion: Hidden units for each.
    """

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [..., width]."""
        y: Tensor = self.mlp(self.norm(x))
        return x + y


class AttentionBlock(nn.Module):
    """x ← x + attention(norm(x)), then x ← x + MLP(norm(x)).

    Args:
        width: Features of a token.
        expansion: Hidden units of the MLP for each.
        heads: Number of heads, a divisor of the width.
        grid: (rows, columns) of the places that tokens may have.
        locality: Strength with which attention is drawn to neighbours at first; see `RelativeAttention`.
    """

    def __init__(self, width: int, expansion: int, heads: int, grid: tuple[int, int], locality: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = RelativeAttention(width, heads, grid, locality)
        self.perceptron = Perceptron(width, expansion)

    def forward(self, x: Tensor, distances: Tensor) -> Tensor:
        """Map tokens [B, n, width] at distances int64 [n, n] or [B, n, n]."""
        x = x + self.attention(self.norm(x), distances)
        y: Tensor = self.perceptron(x)
        return y


class _Merging(nn.Module):
    """Merges four tokens that follow each other into one of twice as many features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.reduction(self.norm(torch.unflatten(x, -2, (-1, 4)).flatten(-2)))
        return y


def initialize(model: nn.Module) -> None:
    """Draw the weights of linear layers as is usual for masked autoencoders: uniform (Glorot), without offsets.

    Args:
        model: The model; changed in place.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _patches(units: Tensor) -> Tensor:
    """Divide units [B, m, C, 16, 16] into patches [B, m, 16, 16 C], where four in a row make a square."""
    halves = (2, 2, _PATCH)
    parts = torch.unflatten(
        torch.unflatten(units, -1, halves), -4, halves
    )  # [B, m, C, rows: 2, 2, 4, columns: 2, 2, 4]
    return parts.permute(0, 1, 3, 6, 4, 7, 2, 5, 8).flatten(-3).flatten(2, 5)
