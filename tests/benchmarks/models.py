"""Models of the benchmark."""

import math

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """Two convolutions with a way past them."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: type[nn.Module] | None = None) -> None:
        super().__init__()
        make = norm or (lambda channels: nn.GroupNorm(8, channels))
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = make(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = make(outputs)
        straight = inputs == outputs and stride == 1
        self.past = None if straight else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        return torch.relu(y + (x if self.past is None else self.past(x)))


def resnet8(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """ResNet-8 with group normalisation, 78,000 parameters."""
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 16, 3, 1, 1, bias=False), nn.GroupNorm(8, 16), nn.ReLU(),
        Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_outputs),
    )  # fmt: skip


def resnet18(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """ResNet-18 with the stem for small images and batch normalisation, 11.2 million parameters."""
    layers: list[nn.Module] = [nn.Conv2d(input_shape[0], 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    width = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Residual(width, outputs, stride, nn.BatchNorm2d), Residual(outputs, outputs, 1, nn.BatchNorm2d)]
        width = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_outputs))


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.joint = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.joint(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-3, -2)
        y = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
        return self.out(y.transpose(-3, -2).flatten(-2))


class Transformer(nn.Module):
    """A small causal language model: 4 layers, width 128."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, width: int = 128, layers: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Embedding(num_outputs, width)
        self.places = nn.Parameter(torch.randn(input_shape[0], width) / math.sqrt(width))
        self.attentions = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), Attention(width, heads=4)) for _ in range(layers)
        )
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            for _ in range(layers)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x) + self.places
        for attention, mlp in zip(self.attentions, self.mlps, strict=True):
            x = x + attention(x)
            x = x + mlp(x)
        return self.head(x)


def small_transformer(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """A causal language model of 4 layers of width 64."""
    return Transformer(input_shape, num_outputs, width=64)


def tiny_transformer(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """A causal language model of 2 layers of width 16."""
    return Transformer(input_shape, num_outputs, width=16, layers=2)


class Recurrent(nn.Module):
    """A recurrent language model of width 32."""

    def __init__(self, num_outputs: int, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.tokens = nn.Embedding(num_outputs, 32)
        self.layer = kind(32, 32, batch_first=True)
        self.head = nn.Linear(32, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.tokens(x))[0])


def lstm(num_outputs: int) -> nn.Module:
    """An LSTM over words."""
    return Recurrent(num_outputs, nn.LSTM)


def gru(num_outputs: int) -> nn.Module:
    """A GRU over words."""
    return Recurrent(num_outputs, nn.GRU)
