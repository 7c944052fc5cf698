"""A hierarchical vision transformer that rates images."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from basinet.sim.models.attention.relative_positions import fitted_to_grid
from basinet.sim.models.model import MODELS
from basinet.sim.models.vision.masked.hierarchical_encoder import (
    Depths,
    Expansions,
    HierarchicalEncoder,
    Locality,
    Number,
    grid_of,
    units_of,
)
from basinet.sim.models.vision.video.video_heads import score_layer

__all__ = ["HiViT", "rating_head"]


def rating_head(width: int, hidden: int, dropout: float, num_outputs: int) -> nn.Sequential:
    """Make the head that rates the mean of the tokens.

    Args:
        width: Features of a token.
        hidden: Hidden units.
        dropout: Probability of dropping one in training.
        num_outputs: Number of scores.

    Returns:
        The layers.
    """
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.GELU(),
        nn.Dropout(dropout) if dropout > 0 else nn.Identity(),
        score_layer(hidden, num_outputs),
    )


@MODELS.register("hivit")
class HiViT(nn.Module):
    """Two stages of MLPs on the patches of each unit, one of attention among units, and a rating of their mean.

    Units are of 16 × 16 pixels, patches of 4 × 4. Attention adds a learned number for each distance between two units
    to their score. The defaults have 275,493 parameters for images of 3 × 64 × 64, and the published size T, of width
    96, depths 2, 2 and 10, 6 heads and expansions 3, 3 and 4, has 18,821,373 for 3 × 224 × 224. With the 196²
    numbers of distances, which are not stored here, these are the 18.9 million of QPT V2 (our reading). The parameters
    `encoder.*` have the names and shapes of those of `masked_hivit`. Positions and tables of distances that were
    learned on square images of another size are resampled when they are loaded.

    Args:
        input_shape: (channels, height, width) of an image; the simulator supplies it.
        num_outputs: Number of scores; the simulator supplies it.
        width: Features of a patch; merging four of them doubles the features, twice.
        depths: Number of blocks of each stage.
        heads: Attention heads, a divisor of 4 · width.
        expansions: Hidden units of the MLPs of each stage, for each feature.
        contrast: Whether the local contrast of each unit is seen beside its pixels, which is our own.
        locality: Strength with which each head's attention is drawn to one neighbour of a unit at first, which is our
            own here.
        hidden: Hidden units of the head.
        dropout: Probability of dropping a hidden unit of the head in training.

    Raises:
        ValueError: The inputs are not images that can be divided into units.

    Example:
        >>> import torch
        >>> HiViT((3, 64, 64), 1)(torch.zeros(5, 3, 64, 64)).shape
        torch.Size([5, 1])

    References:
        X. Zhang, Y. Tian, L. Xie, W. Huang, Q. Dai, Q. Ye, Q. Tian: HiViT: A simpler and more efficient design of
        hierarchical vision transformer, ICLR 2023, arXiv:2205.14949.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        width: Number = 24,
        depths: Depths = (1, 1, 3),
        heads: Number = 4,
        expansions: Expansions = (3, 3, 2),
        contrast: bool = False,
        locality: Locality = 0.0,
        hidden: Number = 64,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__()
        if len(input_shape) != 3:
            raise ValueError(f"hivit needs inputs of shape (channels, height, width), but got {input_shape}")
        self.encoder = HierarchicalEncoder(
            input_shape[0],
            grid_of("hivit", input_shape[1:]),
            width=width,
            depths=depths,
            heads=heads,
            expansions=expansions,
            contrast=contrast,
            locality=locality,
        )
        self.head = rating_head(4 * width, hidden, dropout, num_outputs)

    def forward(self, image: Tensor) -> Tensor:
        """Rate images [B, C, H, W] by scores [B, num_outputs]."""
        _, _, tokens = self.encoder(units_of(image))
        scores: Tensor = self.head(tokens.mean(1))
        return scores

    def fitted(self, name: str, value: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """Resample what was learned on images of another size; see `FitsValues`."""
        return fitted_to_grid(name, value, self.encoder.grid, values)
