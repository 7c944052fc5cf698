"""A network of convolutions in space and time, which rates fragments of videos."""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from basinet.sim.models.activations import ACTIVATIONS, Activation
from basinet.sim.models.model import MODELS
from basinet.sim.models.vision.convolutional.norms import NORMS
from basinet.sim.models.vision.video.video_heads import LocalContrast, check_video, score_layer

Triple = tuple[int, int, int]


@MODELS.register("fragment_network")
class FragmentNetwork(nn.Module):
    """Local contrast, residual blocks of 3-D convolutions, and the mean over a rating of each place and time.

    The first convolution and each block but the first halve the image, and these blocks halve the number of frames,
    too; each block but the first has twice the channels. Its defaults have 76,501 parameters. Normalisation is over
    groups of channels of a sample, so that nothing depends on the batch. It suits videos that are put together from
    small patches at their native resolution, whose places are rated separately before they are pooled.

    Args:
        input_shape: (frames, channels, height, width) of a video; the simulator supplies it.
        num_outputs: Number of scores; the simulator supplies it.
        width: Channels of the first block.
        depth: Number of blocks.
        convolutions: The two of a block: "factorised" into 1 × 3 × 3 in space and 3 × 1 × 1 in time, or "full", of
            3 × 3 × 3 and 1 × 1 × 1, which sees as far.
        activation: The activation.
        dropout: Probability of dropping a channel before the ratings in training.

    Raises:
        ValueError: The inputs are not videos.

    Example:
        >>> import torch
        >>> model = FragmentNetwork((8, 3, 64, 64), 1)
        >>> model(torch.zeros(5, 8, 3, 64, 64)).shape
        torch.Size([5, 1])

    References:
        H. Wu et al.: FAST-VQA: Efficient end-to-end video quality assessment with fragment sampling, ECCV 2022,
        arXiv:2207.02595; D. Tran et al.: A closer look at spatiotemporal convolutions for action recognition, CVPR
        2018, arXiv:1711.11248.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        width: Annotated[int, Field(ge=1, le=10_000)] = 20,
        depth: Annotated[int, Field(ge=1, le=12)] = 3,
        convolutions: Literal["factorised", "full"] = "factorised",
        activation: Activation = "relu",
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__()
        check_video("fragment_network", input_shape)
        act, kernels = ACTIVATIONS[activation], _KERNELS[convolutions]
        self.contrast = LocalContrast()
        layers: list[nn.Module] = [
            _convolution(input_shape[1], width, (1, 3, 3), (1, 2, 2)),
            NORMS["group"](width),
            act(),
        ]
        before = width
        for block in range(depth):
            channels = width * 2**block
            layers.append(_Block(before, channels, 2 if block else 1, kernels, act))
            before = channels
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout3d(dropout) if dropout > 0 else nn.Identity()
        self.rating = nn.Sequential(nn.Linear(before, before), act(), score_layer(before, num_outputs))

    def forward(self, video: Tensor) -> Tensor:
        """Rate videos [B, T, C, H, W] by scores [B, num_outputs]."""
        features = self.dropout(
            self.features(self.contrast(video).transpose(1, 2))
        )  # [B, channels, time, height, width]
        places: Tensor = self.rating(features.flatten(2).transpose(1, 2))
        return places.mean(1)


class _Block(nn.Module):
    """h ← activation(shortcut(x) + norm(conv(activation(norm(conv(x)))))); the first convolution has the stride."""

    def __init__(
        self, before: int, channels: int, stride: int, kernels: tuple[Triple, Triple], activation: type[nn.Module]
    ) -> None:
        super().__init__()
        strides: Triple = (stride, stride, stride)
        self.residual = nn.Sequential(
            _convolution(before, channels, kernels[0], strides),
            NORMS["group"](channels),
            activation(),
            _convolution(channels, channels, kernels[1], (1, 1, 1)),
            NORMS["group"](channels),
        )
        same = stride == 1 and before == channels
        self.shortcut = nn.Identity() if same else _convolution(before, channels, (1, 1, 1), strides)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.shortcut(x) + self.residual(x))
        return y


def _convolution(before: int, channels: int, kernel: Triple, stride: Triple) -> nn.Conv3d:
    """Make a convolution that is followed by a normalisation or added to one, so that it needs no bias."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(before, channels, kernel, stride=stride, padding=padding, bias=False)


_KERNELS: dict[str, tuple[Triple, Triple]] = {
    "factorised": ((1, 3, 3), (3, 1, 1)),
    "full": ((3, 3, 3), (1, 1, 1)),
}
"""Kernels of the two convolutions of a block."""
