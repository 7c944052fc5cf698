"""The channel normalisations that a convolutional network can name."""

import math
from collections.abc import Callable
from typing import Literal

from torch import nn

Norm = Literal["none", "batch", "group"]


def _groups(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(8, channels), channels)


NORMS: dict[Norm, Callable[[int], nn.Module]] = {"none": nn.Identity, "batch": nn.BatchNorm2d, "group": _groups}
"""Functions from a number of channels to the layer: over the batch, or over up to eight groups of channels."""
