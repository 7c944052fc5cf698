"""A perceptron of features of a video at two rates."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from basinet.sim.models.activations import ACTIVATIONS, Activation
from basinet.sim.models.model import MODELS
from basinet.sim.models.vision.video.video_heads import score_layer


@MODELS.register("quality_perceptron")
class QualityPerceptron(nn.Module):
    """Embeds features of key frames and of motion, takes their means over time, and rates both together.

    Args:
        input_shapes: (number, length) of the features of key frames and of motion; the simulator supplies them.
        num_outputs: Number of scores; the simulator supplies it.
        hidden: Width of the embeddings and of the hidden layer.
        activation: The activation.
        dropout: Probability of dropping a hidden unit in training.

    Raises:
        ValueError: The inputs are not two sequences of features.

    Example:
        >>> model = QualityPerceptron([(4, 36), (7, 12)], 1)
        >>> model(torch.zeros(5, 4, 36), torch.zeros(5, 7, 12)).shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        input_shapes: Sequence[tuple[int, ...]],
        num_outputs: int,
        *,
        hidden: Annotated[int, Field(ge=1, le=10**6)] = 128,
        activation: Activation = "relu",
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__()
        if [len(shape) for shape in input_shapes] != [2, 2]:
            given = ", ".join(map(str, input_shapes))
            raise ValueError(f"quality_perceptron needs two inputs of shapes (number, features), but got {given}")
        self.key, self.motion = (nn.Linear(shape[-1], hidden) for shape in input_shapes)
        self.activation = ACTIVATIONS[activation]()
        self.head = nn.Sequential(
            nn.Linear(2 * hidden, hidden),
            ACTIVATIONS[activation](),
            nn.Dropout(dropout) if dropout > 0 else nn.Identity(),
            score_layer(hidden, num_outputs),
        )

    def forward(self, key: Tensor, motion: Tensor) -> Tensor:
        """Rate videos by features of key frames [B, K, F] and of motion [B, M, G]; return scores [B, num_outputs]."""
        means = [self.activation(part).mean(1) for part in (self.key(key), self.motion(motion))]
        y: Tensor = self.head(torch.cat(means, -1))
        return y
