"""What networks that enlarge images have in common: they add to the bicubic image."""

import math
from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from basinet.sim.vision.resizing import resize

__all__ = ["Bicubic", "Upscaler", "factor_of"]


def factor_of(input_shape: Sequence[int], num_outputs: int) -> int | None:
    """Return by what factor a model enlarges images, if its outputs are enlarged images.

    Args:
        input_shape: (channels, height, width) of an image.
        num_outputs: Number of pixels of the enlarged image, of all channels.

    Returns:
        √(num_outputs / inputs), 2 or more; None if it is no such number, or inputs are no images.
    """
    inputs = math.prod(input_shape)
    factor = math.isqrt(num_outputs // inputs)
    return factor if len(input_shape) == 3 and factor >= 2 and inputs * factor**2 == num_outputs else None


class Bicubic(nn.Module):
    """Bicubic interpolation, which has no parameters and needs no gradient.

    Args:
        factor: What height and width are multiplied by.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, low: Tensor) -> Tensor:
        """Enlarge images [B, C, h, w]."""
        return resize(low, self.factor)


class Upscaler(nn.Module):
    """A network that adds details to the bicubic image: y = tail(features(x)) + bicubic(x).

    The tail, a 3 × 3 convolution to factor² channels for each colour that are shuffled to their places, begins with
    zeros, so that the network begins as bicubic interpolation, exactly. Images may be of any size.

    Args:
        name: The component's name, for error messages.
        input_shape: (channels, height, width) of an image.
        num_outputs: Number of pixels of the enlarged image, of all channels.
        width: Number of feature maps that the tail gets.

    Attributes:
        factor: What height and width are multiplied by, √(num_outputs / inputs).

    Raises:
        ValueError: The inputs are not images, or the outputs are not those of an image enlarged by a whole factor.

    References:
        W. Shi, J. Caballero, F. Huszár, J. Totz, A. P. Aitken, R. Bishop, D. Rueckert, Z. Wang: Real-time single image
        and video super-resolution using an efficient sub-pixel convolutional neural network, CVPR 2016,
        arXiv:1609.05158.
    """

    def __init__(self, name: str, input_shape: tuple[int, ...], num_outputs: int, width: int) -> None:
        super().__init__()
        if len(input_shape) != 3:
            raise ValueError(f"{name} needs inputs of shape (channels, height, width), but got {input_shape}")
        factor = factor_of(input_shape, num_outputs)
        if factor is None:
            raise ValueError(
                f"{name} enlarges images by a whole factor, 2 or more, but {num_outputs} outputs are not a square"
                f" multiple of {math.prod(input_shape)} inputs"
            )
        self.factor = factor
        channels = input_shape[0]
        self.bicubic = Bicubic(self.factor)
        last = nn.Conv2d(width, channels * self.factor**2, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.tail = nn.Sequential(last, nn.PixelShuffle(self.factor))

    def forward(self, low: Tensor) -> Tensor:
        """Enlarge images [B, C, h, w] to [B, C, factor · h, factor · w]."""
        details: Tensor = self.tail(self.features(low))
        enlarged: Tensor = self.bicubic(low)
        return details + enlarged

    @abstractmethod
    def features(self, low: Tensor) -> Tensor:
        """Compute what the tail makes details of.

        Args:
            low: Images [B, C, h, w].

        Returns:
            Feature maps [B, width, h, w].
        """
