"""Two towers, of frames and of words, that map videos and texts into common spaces."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from basinet.sim.models.activations import ACTIVATIONS, Activation
from basinet.sim.models.attention.transformer import Transformer
from basinet.sim.models.model import MODELS
from basinet.sim.models.vision.convolutional.cnn import CNN

__all__ = ["Level", "VideoText"]

Level = Literal["clip", "phase", "video"]
"""How much of a video a text tells of, from fine to coarse."""

_SHARED = "shared"

_LARGEST_SCALE = 100.0
"""Largest inverse of a temperature that is learned, as in CLIP."""

Number = Annotated[int, Field(ge=1, le=10_000)]


@MODELS.register("video_text")
class VideoText(nn.Module):
    """A convolutional network of frames, whose features are averaged over time, and a transformer of words.

    In the place of the transformer, an affine map and the activation follow texts that are vectors already.

    An affine head for each tower maps what it has found into a space in which videos and texts are compared: one for
    all levels, or one for each of them. Embeddings are not normalised. Normalisation in the network is over groups of
    channels of a frame, so that nothing depends on the batch.

    Args:
        input_shapes: Shapes of the inputs of a sample: (frames, channels, height, width) of videos, and others, whose
            last number is that of tokens, or of a vector, of texts; the simulator supplies them.
        vocabulary: Number of different words; None if texts are vectors; the simulator supplies it.
        padding: The word that fills up short texts; the simulator supplies it.
        dimension: Dimension of the spaces.
        heads: Whether all levels share a space, or each has a separate one.
        channels: Output channels of each convolution, which halves the frame.
        features: Features of a frame, and of a text, before the heads.
        width: Features of a word.
        layers: Blocks of the transformer; 0 for the mean over the words by themselves, with their positions.
        attention_heads: Heads of its attention.
        hidden: Hidden units of its MLPs.
        temperature: What the cosines of embeddings are divided by, at first if it is learned.
        learned_temperature: Whether it is a parameter, whose logarithm is trained; it stays above 0.01.
        activation: Activation of the convolutions, and behind the map of vectors.

    Raises:
        ValueError: The inputs are not videos and texts.

    Example:
        >>> import torch
        >>> model = VideoText(((4, 3, 32, 32), (12,)), 50, 0)
        >>> found = model(phase=(torch.zeros(5, 4, 3, 32, 32), torch.ones(5, 12, dtype=torch.int64)))
        >>> [part.shape for part in found["phase"]]
        [torch.Size([5, 64]), torch.Size([5, 64])]

    References:
        K. Yuan et al.: HecVL: Hierarchical video-language pretraining for zero-shot surgical phase recognition, MICCAI
        2024, arXiv:2405.10075; A. Radford et al.: Learning transferable visual models from natural language
        supervision, ICML 2021, arXiv:2103.00020.
    """

    def __init__(
        self,
        input_shapes: tuple[tuple[int, ...], ...],
        vocabulary: int | None,
        padding: int | None,
        *,
        dimension: Number = 64,
        heads: Literal["shared", "separate"] = "separate",
        channels: Annotated[Sequence[Number], Field(min_length=1)] = (16, 32, 64),
        features: Number = 64,
        width: Number = 32,
        layers: Annotated[int, Field(ge=0, le=1000)] = 1,
        attention_heads: Number = 2,
        hidden: Number = 64,
        temperature: Annotated[float, Field(gt=0.01, le=100)] = 0.1,
        learned_temperature: bool = False,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        frames = [shape[1:] for shape in input_shapes if len(shape) == 4]
        texts = [shape[-1] for shape in input_shapes if len(shape) in (1, 2)]
        if len(set(frames)) != 1 or not texts:
            raise ValueError(
                "video_text needs videos of shape (frames, channels, height, width), whose frames are alike, and texts,"
                f" but got {input_shapes}"
            )
        self.longest, self.padding = max(texts), padding
        self.image_tower = nn.Sequential(
            CNN(frames[0], features, channels=channels, norm="group", activation=activation), ACTIVATIONS[activation]()
        )
        self.text_tower: nn.Module
        if vocabulary is None:
            self.text_tower = nn.Sequential(nn.Linear(self.longest, features), ACTIVATIONS[activation]())
        else:
            self.text_tower = Transformer(
                (self.longest,), features, vocabulary, padding, width=width, layers=layers, heads=attention_heads,
                hidden=hidden,
            )  # fmt: skip
        names = get_args(Level) if heads == "separate" else (_SHARED,)
        self.image_heads, self.text_heads = (
            nn.ModuleDict({name: nn.Linear(features, dimension) for name in names}) for _ in range(2)
        )
        self.scale: float | None = 1 / temperature
        if learned_temperature:
            self.scale, self.log_scale = None, nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, **levels: tuple[Tensor, ...]) -> dict[str, Any]:
        """Embed videos and texts.

        Args:
            **levels: For each level, videos [B, T, C, H, W], and texts [..., words], as many as there are.

        Returns:
            For each level, embeddings [B, dimension] and [..., dimension]; and by the name `scale`, the inverse of the
            temperature.
        """
        videos = [level[0] for level in levels.values()]
        texts = [text for level in levels.values() for text in level[1:]]
        seen = iter(self._see(videos))
        read = iter(self._read(texts))
        found: dict[str, Any] = {}
        for name, level in levels.items():
            head = name if name in self.image_heads else _SHARED
            found[name] = (self.image_heads[head](next(seen)), *(self.text_heads[head](next(read)) for _ in level[1:]))
        found["scale"] = self.log_scale.exp().clamp(max=_LARGEST_SCALE) if self.scale is None else self.scale
        return found

    def _see(self, videos: list[Tensor]) -> list[Tensor]:
        """Average the features of the frames of videos, all frames at once."""
        frames = [video.flatten(0, 1) for video in videos]
        features = self.image_tower(torch.cat(frames)).split([len(part) for part in frames])
        return [part.unflatten(0, video.shape[:2]).mean(1) for part, video in zip(features, videos, strict=True)]

    def _read(self, texts: list[Tensor]) -> list[Tensor]:
        """Compute the features of texts, all at once."""
        rows = [
            nn.functional.pad(text.flatten(0, -2), (0, self.longest - text.shape[-1]), value=self.padding or 0)
            for text in texts
        ]
        features = self.text_tower(torch.cat(rows)).split([len(part) for part in rows])
        return [part.view(*text.shape[:-1], -1) for part, text in zip(features, texts, strict=True)]
