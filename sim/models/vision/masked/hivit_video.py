"""A hierarchical vision transformer that rates videos, with the weights of one that rates images, inflated in time."""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
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
from basinet.sim.models.vision.masked.hivit import rating_head
from basinet.sim.models.vision.video.video_heads import check_video

__all__ = ["HiViTVideo", "Inflation", "inflated"]

Inflation = Literal["mean", "center"]


def inflated(weight: Tensor, frames: int, inflation: Inflation) -> Tensor:
    """Inflate the weights of patches to those of patches of several frames: a still video has the same features.

    Args:
        weight: [features, inputs].
        frames: Number of frames.
        inflation: "mean", each frame gets the weights divided by their number; "center", the one in the middle gets
            them, and the others get zeros.

    Returns:
        [features, frames · inputs].

    Example:
        >>> inflated(Tensor([[6.0]]), 3, "mean").tolist(), inflated(Tensor([[6.0]]), 3, "center").tolist()
        ([[2.0, 2.0, 2.0]], [[0.0, 6.0, 0.0]])
    """
    if inflation == "mean":
        return weight.repeat(1, frames) / frames
    found = weight.new_zeros(len(weight), frames, weight.shape[1])
    found[:, frames // 2] = weight
    return found.flatten(1)


@MODELS.register("hivit_video")
class HiViTVideo(nn.Module):
    """`hivit` of patches of several frames, whose tokens are averaged over space and time before they are rated.

    Only the embedding sees several frames; attention is among the units of the same ones. The embedding of a `hivit` or
    `masked_hivit` that training starts from (`start`) is inflated when it is loaded: then a still video is rated as the
    image is. Published is that the embedding is inflated; how, and that times are averaged at last, is our reading.

    Args:
        input_shape: (frames, channels, height, width) of a video; the simulator supplies it.
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
        tube: Number of frames of a patch, a divisor of the number of frames.
        inflation: "mean", the weights of an image are divided among the frames of a patch, or "center", the frame in
            the middle gets them.

    Raises:
        ValueError: The inputs are not videos that can be divided into units of so many frames.

    Example:
        >>> import torch
        >>> HiViTVideo((8, 3, 64, 64), 1)(torch.zeros(5, 8, 3, 64, 64)).shape
        torch.Size([5, 1])

    References:
        J. Carreira, A. Zisserman: Quo vadis, action recognition? A new model and the Kinetics dataset, CVPR 2017,
        arXiv:1705.07750 (inflation).
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
        tube: Number = 2,
        inflation: Inflation = "mean",
    ) -> None:
        super().__init__()
        check_video("hivit_video", input_shape)
        frames, channels, *size = input_shape
        if frames % tube:
            raise ValueError(f"tube: got {tube}, which does not divide the {frames} frames")
        self.tube, self.inflation = tube, inflation
        self.encoder = HierarchicalEncoder(
            tube * channels,
            grid_of("hivit_video", tuple(size)),
            width=width,
            depths=depths,
            heads=heads,
            expansions=expansions,
            contrast=contrast,
            locality=locality,
            frames=tube,
        )
        self.head = rating_head(4 * width, hidden, dropout, num_outputs)

    def forward(self, video: Tensor) -> Tensor:
        """Rate videos [B, T, C, H, W] by scores [B, num_outputs]."""
        tubes = torch.unflatten(video, 1, (-1, self.tube)).flatten(2, 3)  # [B, times, tube · C, H, W]
        _, _, tokens = self.encoder(units_of(tubes).flatten(0, 1))
        scores: Tensor = self.head(torch.unflatten(tokens, 0, tubes.shape[:2]).mean((1, 2)))
        return scores

    def fitted(self, name: str, value: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """Inflate an image's embedding, and resample what was learned on frames of another size; see `FitsValues`."""
        of_image = name == _EMBEDDING and self.tube * value.shape[-1] == self.get_parameter(name).shape[-1]
        if of_image:
            return inflated(value, self.tube, self.inflation)
        return fitted_to_grid(name, value, self.encoder.grid, values)


_EMBEDDING = "encoder.embedding.0.weight"
