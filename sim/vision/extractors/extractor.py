"""What a frozen extractor sees in the frames of a video, and in how they change."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from basinet.sim.experiment.mistakes import count_of, first_line
from basinet.sim.vision.extractors.pretrained import one_thread

__all__ = ["Extractor"]


@dataclass(frozen=True)
class Extractor:
    """A frozen extractor.

    Attributes:
        name: Its name.
        layers: Takes float32 images [n, 3, H, W], from 0 to 1; returns a tensor or several: maps [n, channels, h, w],
            tokens [n, tokens, d], or vectors [n, d].
        fingerprint: A digest of what it computes, which another version of torch may change in the last digits.
        content: A digest of what it is, whichever version of torch computes with it.
    """

    name: str
    layers: Callable[[Tensor], Any]
    fingerprint: str
    content: str

    def of_frames(self, frames: Tensor) -> Tensor:
        """Summarise frames: mean and deviation of each layer over space, and vectors as they are.

        Args:
            frames: uint8 [n, 3, H, W].

        Returns:
            float32 [n, d].

        Raises:
            ValueError: The extractor fails, or returns something else than it should.
        """
        return self._summary(self._layers(frames))

    def of_changes(self, before: Tensor, after: Tensor) -> Tensor:
        """Summarise how frames change: mean and deviation over space of the difference of each layer.

        Args:
            before: Frames, uint8 [n, 3, H, W].
            after: The frame after each of these.

        Returns:
            float32 [n, d].

        Raises:
            ValueError: The extractor fails, or returns something else than it should.
        """
        layers = self._layers(torch.cat([before, after]))
        return self._summary([layer[len(before) :] - layer[: len(before)] for layer in layers])

    def _layers(self, frames: Tensor) -> list[Tensor]:
        try:
            with torch.no_grad(), one_thread():
                found = self.layers(frames.float() / 255)
        except Exception as error:  # networks and the user's code may raise anything
            height, width = frames.shape[2:]
            raise ValueError(
                f"extractors: {self.name} cannot be applied to images of {width} × {height} pixels: {first_line(error)}"
            ) from error
        parts = found.values() if isinstance(found, Mapping) else found if isinstance(found, Sequence) else [found]
        if not parts:
            raise ValueError(f"extractors: {self.name} returns nothing; allowed are a tensor or several")
        for part in parts:
            if not isinstance(part, Tensor) or part.ndim not in (2, 3, 4) or len(part) != len(frames):
                kind = f"a tensor of shape {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
                raise ValueError(
                    f"extractors: {self.name} returns {kind} for {count_of(len(frames), 'image')}; allowed are tensors"
                    " of shape (images, channels, height, width), (images, tokens, features) and (images, features)"
                )
        layers = [part.detach().cpu().float() for part in parts]
        if not all(bool(layer.isfinite().all()) for layer in layers):
            raise ValueError(f"extractors: {self.name} returns numbers that are not finite in float32")
        return layers

    def _summary(self, layers: Sequence[Tensor]) -> Tensor:
        found = []
        for layer in layers:
            if layer.ndim == 2:
                found.append(layer)
            else:
                places = layer.flatten(2) if layer.ndim == 4 else layer.transpose(1, 2)
                found += [places.mean(2), places.std(2, correction=0)]
        return torch.cat(found, 1)
