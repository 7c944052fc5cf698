"""The model that pre-trains a hierarchical vision transformer: it predicts the pixels of units that it does not see."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from basinet.sim.models.attention.relative_positions import fitted_to_grid, numbered_distances, sines_and_cosines
from basinet.sim.models.model import MODELS
from basinet.sim.models.vision.masked.hierarchical_encoder import (
    UNIT,
    AttentionBlock,
    Depths,
    Expansions,
    HierarchicalEncoder,
    Locality,
    Number,
    initialize,
)


@MODELS.register("masked_hivit")
class MaskedHiViT(nn.Module):
    """Encodes the units of an image that were kept, and predicts the pixels of others from them and their places.

    The tokens of the three stages, each averaged over a unit and projected, are added (`fusion`). The decoder puts them
    at their places, a learned token at those that are wanted, and attends among all. The parameters `encoder.*` have
    the names and shapes of those of `hivit`; fusion and decoder are of use in pre-training only. What was learned on
    square images of another size is resampled when it is loaded.

    The defaults have 335,128 parameters for images of 3 × 64 × 64 pixels, of which the encoder has 269,220.

    Args:
        input_shapes: (kept, channels, 16, 16), (kept,) and (wanted,): the units that are kept, their places, and the
            places that are wanted; the simulator supplies them.
        width: Features of a patch; merging four of them doubles the features, twice.
        depths: Number of blocks of each stage.
        heads: Attention heads, a divisor of 4 · width.
        expansions: Hidden units of the MLPs of each stage, for each feature.
        contrast: Whether the local contrast of each unit is seen beside its pixels, which is our own.
        locality: Strength with which each head's attention is drawn to one neighbour of a unit at first, which is our
            own here.
        fusion: Whether the decoder gets the tokens of all stages, or only those of the last one.
        decoder_width: Features of a token of the decoder, a multiple of `heads`.
        decoder_depth: Number of blocks of the decoder.
        grid: (rows, columns) of units; by default a square of as many as are kept or wanted.

    Raises:
        ValueError: The inputs are not units and places, or there is no such square.

    Example:
        >>> model = MaskedHiViT([(4, 3, 16, 16), (4,), (12,)])
        >>> places = torch.arange(16).expand(5, 16)
        >>> model(torch.zeros(5, 4, 3, 16, 16), places[:, :4], places[:, 4:]).shape
        torch.Size([5, 12, 768])

    References:
        K. He, X. Chen, S. Xie, Y. Li, P. Dollár, R. Girshick: Masked autoencoders are scalable vision learners, CVPR
        2022, arXiv:2111.06377; X. Zhang et al.: HiViT: A simpler and more efficient design of hierarchical vision
        transformer, ICLR 2023, arXiv:2205.14949.
    """

    def __init__(
        self,
        input_shapes: Sequence[tuple[int, ...]],
        *,
        width: Number = 24,
        depths: Depths = (1, 1, 3),
        heads: Number = 4,
        expansions: Expansions = (3, 3, 2),
        contrast: bool = False,
        locality: Locality = 0.0,
        fusion: bool = True,
        decoder_width: Number = 48,
        decoder_depth: Number = 1,
        grid: tuple[Number, Number] | None = None,
    ) -> None:
        super().__init__()
        channels, grid = _check(input_shapes, grid)
        self.encoder = HierarchicalEncoder(
            channels,
            grid,
            width=width,
            depths=depths,
            heads=heads,
            expansions=expansions,
            contrast=contrast,
            locality=locality,
        )
        stages = range(3) if fusion else (2,)
        self.fusion = nn.ModuleDict(
            {str(stage): nn.Linear(self.encoder.widths[stage], decoder_width) for stage in stages}
        )
        self.decoder = _Decoder(decoder_width, decoder_depth, heads, grid, locality, channels * UNIT**2)
        initialize(self.fusion)

    def forward(self, units: Tensor, places: Tensor, wanted: Tensor) -> Tensor:
        """Predict pixels.

        Args:
            units: Those that are kept, [B, kept, channels, 16, 16].
            places: Numbers of their places in the image, row by row, int64 [B, kept].
            wanted: Numbers of the places of those to predict, int64 [B, wanted].

        Returns:
            Pixels [B, wanted, channels · 16 · 16].
        """
        first, second, third = self.encoder(units, places)
        means = {"0": first.mean(2), "1": second.mean(2), "2": third}
        fused = sum(projection(means[stage]) for stage, projection in self.fusion.items())
        pixels: Tensor = self.decoder(fused, places, wanted)
        return pixels

    def fitted(self, name: str, value: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """Resample what was learned on images of another size; see `FitsValues`."""
        return fitted_to_grid(name, value, self.encoder.grid, values)


class _Decoder(nn.Module):
    """Attends among the tokens of units and learned ones at wanted places, and predicts the pixels of the latter."""

    def __init__(self, width: int, depth: int, heads: int, grid: tuple[int, int], locality: float, pixels: int) -> None:
        super().__init__()
        self.grid = grid
        self.positions = nn.Parameter(torch.empty(math.prod(grid), width))
        self.positions.data.copy_(sines_and_cosines(grid, width))
        self.mask = nn.Parameter(torch.empty(width))
        nn.init.trunc_normal_(self.mask, std=0.02)
        self.blocks = nn.ModuleList(AttentionBlock(width, _EXPANSION, heads, grid, locality) for _ in range(depth))
        self.norm, self.pixels = nn.LayerNorm(width), nn.Linear(width, pixels)
        initialize(self)

    def forward(self, tokens: Tensor, places: Tensor, wanted: Tensor) -> Tensor:
        kept, places = places.shape[1], torch.cat((places, wanted), 1)
        masks = self.mask.expand(*wanted.shape, -1)
        x = torch.cat((tokens, masks), 1) + nn.functional.embedding(places, self.positions)
        distances = numbered_distances(places, self.grid)
        for block in self.blocks:
            x = block(x, distances)
        found: Tensor = self.pixels(self.norm(x[:, kept:]))
        return found


_EXPANSION = 2
"""Hidden units of the decoder's MLPs, for each feature."""


def _check(shapes: Sequence[tuple[int, ...]], grid: tuple[int, int] | None) -> tuple[int, tuple[int, int]]:
    """Return the number of channels, and the grid of units."""
    given = ", ".join(str(tuple(shape)) for shape in shapes)
    units, *places = shapes
    if len(units) != 4 or units[2:] != (UNIT, UNIT) or [len(shape) for shape in places] != [1, 1]:
        raise ValueError(
            f"masked_hivit needs inputs of shapes (kept, channels, {UNIT}, {UNIT}), (kept,) and (wanted,), but got"
            f" {given}"
        )
    count = units[0] + places[1][0]
    side = math.isqrt(count)
    if grid is None and side**2 != count:
        raise ValueError(f"grid: the {count} units that are kept or wanted are no square; give the rows and columns")
    rows, columns = grid or (side, side)
    if rows * columns < count:
        raise ValueError(f"grid: got {rows} × {columns} units, of which {count} cannot be kept or wanted")
    return units[1], (rows, columns)
