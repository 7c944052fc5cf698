"""Decoding of images, from files or bytes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.sim.data.items import Items
from basinet.sim.data.nests import Nest, leaves
from basinet.sim.data.rows import at_once, take
from basinet.sim.experiment.mistakes import ExperimentError, reason_of
from basinet.sim.tasks.task import Task
from basinet.sim.vision.picture_files import Encoded, decoded

__all__ = ["Decoder", "normalized", "read_image"]


def read_image(encoded: Encoded | None, size: int | None = None, channels: int | None = None) -> Tensor:
    """Decode an image.

    Args:
        encoded: The image.
        size: Height and width to which it is resized; None for its own.
        channels: 1 for greyscale, 3 for colour; None for its own.

    Returns:
        float32 [channels, height, width], from 0 to 1.

    Raises:
        ValueError: It is None or transparent, has several frames or would lose bits.
    """
    if encoded is None:
        raise ValueError("it is null")
    pixels = torch.from_numpy(np.array(_pixels(encoded, size, channels))).permute(2, 0, 1).contiguous()
    return pixels if pixels.is_floating_point() else pixels.float() / 255


class Decoder:
    """Decodes images that all have the same shape.

    Args:
        size: Height and width to which they are resized; None for their own.
        channels: 1 for greyscale, 3 for colour; None for their own.
    """

    def __init__(self, size: int | None, channels: int | None) -> None:
        self.size, self.channels = size, channels
        self._shape: tuple[int, ...] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings without the shape that has been seen."""
        return {"size": self.size, "channels": self.channels, "_shape": None}

    def __call__(self, encoded: Encoded | None, name: str) -> Tensor:
        """Decode an image.

        Args:
            encoded: The image; see `read_image`.
            name: What to call it in an error message.

        Returns:
            float32 [channels, height, width], from 0 to 1.

        Raises:
            ExperimentError: It cannot be decoded, or differs in shape from the others.
        """
        try:
            image = read_image(encoded, self.size, self.channels)
        except Exception as error:  # a decoder may raise anything
            raise ExperimentError(f"task: {name} cannot be used: {reason_of(error)}") from error
        shape = tuple(image.shape)
        self._shape = self._shape or shape
        if shape != self._shape:
            raise ExperimentError(
                f"task: {name} has the shape {shape}, and others {self._shape}; give a size and channels to make them"
                " alike"
            )
        return image


def normalized(task: Task) -> Task:
    """Shift and scale each channel of images to mean 0 and variance 1 over the training data.

    Args:
        task: Its data are (images, targets).

    Returns:
        A task of the shifted and scaled images. A constant channel is only shifted.

    Raises:
        ValueError: The data are something else.
    """
    if len(leaves(take(task.train, slice(0, 1)))) != 2 or len(task.input_shape) != 3:
        raise ValueError("normalize: the inputs are no single image; allowed is false")
    if isinstance(task.train, Items):
        train = task.train
        sums = torch.zeros(3, task.input_shape[0], dtype=torch.float64)  # of ones, of pixels, and of their squares
        for rows in torch.split(torch.arange(len(train)), at_once(train)):
            pixels = train.fetch(rows)[0].double()
            sums += torch.stack([(pixels**power).sum((0, 2, 3)) for power in range(3)])
        mean = (sums[1] / sums[0])[:, None, None]
        variance = ((sums[2] / sums[0])[:, None, None] - mean**2).clamp(min=0)
        scale = variance.sqrt().where(variance > 1e-12, 1)
        data = task.measured().items()
        return replace(task, **{name: replace(part, convert=_Scaled(part.convert, mean, scale)) for name, part in data})
    variance, mean = torch.var_mean(task.train[0], dim=(0, 2, 3), correction=0, keepdim=True)
    scale = variance.sqrt().where(variance > 0, 1)
    parts: dict[str, Any] = {n: ((part[0] - mean) / scale, part[1]) for n, part in task.measured().items()}
    return replace(task, **parts)


@dataclass(frozen=True, eq=False)
class _Scaled:
    """Shifts and scales images, after another conversion."""

    before: Callable[[Nest, Tensor], Nest] | None
    mean: Tensor
    scale: Tensor

    def __call__(self, batch: Nest, rows: Tensor) -> Nest:
        images, targets = batch if self.before is None else self.before(batch, rows)
        return ((images - self.mean) / self.scale).to(images.dtype), targets


def _pixels(encoded: Encoded, size: int | None, channels: int | None) -> NDArray[Any]:
    """Return the pixels of an encoded image, [height, width, channels]: uint8, or float32 in [0, 1] for more bits."""
    from PIL.Image import fromarray

    image, white = decoded(encoded)
    if _is_transparent(image):
        raise ValueError("it is transparent in places; put it on a background first")
    deep = white is not None
    grey = deep or image.mode in ("1", "L", "LA") if channels is None else channels == 1
    if white is None:
        image = image.convert("L" if grey else "RGB")
    else:
        image = fromarray(np.asarray(image).astype(np.float32) / white)
    if size is not None:
        image = image.resize((size, size))
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    # Resizing splines overshoot, which 8-bit pixels cannot show.
    return np.repeat(pixels.clip(0, 1), 1 if grey else 3, axis=2) if deep else pixels


def _is_transparent(image: Any) -> bool:
    if image.mode.startswith("I"):
        return bool((np.asarray(image) == image.info.get("transparency", -1)).any())
    return bool(image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] < 255)
