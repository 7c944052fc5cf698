"""A network of the frames of a video, or of an image, whose ratings are pooled over time."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from basinet.sim.models.activations import ACTIVATIONS, Activation
from basinet.sim.models.model import MODELS
from basinet.sim.models.vision.convolutional.cnn import CNN
from basinet.sim.models.vision.video.video_heads import LocalContrast, check_video, score_layer


@MODELS.register("frame_network")
class FrameNetwork(nn.Module):
    """A convolutional network of the local contrast of each frame, which rates it, and pooling over time.

    Pooling takes the mean; or an average weighted by the softmax of a learned score of each frame; or, without
    parameters, hysteresis (l_t + m_t) / 2 averaged over time: viewers remember the worst l_t of the last frames up to
    frame t, and notice bad frames more than good ones in the average m_t of those from t on, with weights that are the
    softmax of the negative ratings. The defaults have 62,401 parameters.

    Args:
        input_shape: (frames, channels, height, width) of a video, or (channels, height, width) of an image, which is
            taken for a video of one frame; the simulator supplies it.
        num_outputs: Number of scores; the simulator supplies it.
        channels: Output channels of each convolution, which halves the frame.
        hidden: Width of the features of a frame.
        pooling: How ratings are pooled over time.
        memory: How many frames hysteresis looks at in either direction, with the frame itself.
        activation: The activation.

    Raises:
        ValueError: The inputs are not videos.

    Example:
        >>> import torch
        >>> model = FrameNetwork((8, 3, 64, 64), 1)
        >>> model(torch.zeros(5, 8, 3, 64, 64)).shape
        torch.Size([5, 1])

    References:
        D. Li, T. Jiang, M. Jiang: Quality assessment of in-the-wild videos, ACM Multimedia 2019, arXiv:1908.00375
        (hysteresis).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        channels: Annotated[Sequence[Annotated[int, Field(ge=1, le=10_000)]], Field(min_length=1)] = (24, 48, 96),
        hidden: Annotated[int, Field(ge=1, le=10_000)] = 96,
        pooling: Literal["mean", "attention", "hysteresis"] = "mean",
        memory: Annotated[int, Field(ge=1, le=10**6)] = 12,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        if len(input_shape) != 3:
            check_video("frame_network", input_shape)
        self.contrast = LocalContrast()
        self.features = nn.Sequential(
            CNN(input_shape[-3:], hidden, channels=channels, norm="group", activation=activation),
            ACTIVATIONS[activation](),
        )
        self.rating = score_layer(hidden, num_outputs)
        self.attention = nn.Linear(hidden, 1) if pooling == "attention" else None
        self.memory = memory if pooling == "hysteresis" else None

    def forward(self, video: Tensor) -> Tensor:
        """Rate videos [B, T, C, H, W], or images [B, C, H, W], by scores [B, num_outputs]."""
        video = video if video.ndim == 5 else video[:, None]
        features: Tensor = self.features(self.contrast(video).flatten(0, 1)).unflatten(0, video.shape[:2])
        ratings: Tensor = self.rating(features)  # [B, T, num_outputs]
        if self.attention is not None:
            weights: Tensor = self.attention(features).softmax(1)
            return (ratings * weights).sum(1)
        return ratings.mean(1) if self.memory is None else _hysteresis(ratings, self.memory).mean(1)


def _hysteresis(ratings: Tensor, memory: int) -> Tensor:
    """Return (l_t + m_t) / 2 for ratings [B, T, K]; see `FrameNetwork`."""
    times = torch.arange(ratings.shape[1], device=ratings.device)
    ahead = times - times[:, None]  # of frame t, row t
    before, after = ((lag >= 0) & (lag < memory) for lag in (-ahead, ahead))
    others = ratings.transpose(1, 2).unsqueeze(2)  # [B, K, 1, T]
    worst = others.masked_fill(~before, torch.inf).amin(-1)
    weights = (-others).masked_fill(~after, -torch.inf).softmax(-1)
    return ((worst + (weights * others).sum(-1)) / 2).transpose(1, 2)
