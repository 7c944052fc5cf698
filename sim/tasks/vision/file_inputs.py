"""Files of images and videos as the models of rating tasks see them, without the data of a task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from basinet.sim.data.memory_map import cache_folder
from basinet.sim.tasks.vision.ensemble.chosen_extractors import Chosen
from basinet.sim.tasks.vision.quality.image_files import ImageFiles
from basinet.sim.tasks.vision.videos.video_quality import reading_of
from basinet.sim.tasks.vision.videos.video_views import Fragments
from basinet.sim.vision.extractors.extracted import frozen, made_for
from basinet.sim.vision.picture_files import SUFFIXES
from basinet.sim.vision.video_files import VIDEO_SUFFIXES, read_frames

__all__ = ["RATED", "FileInputs", "file_inputs"]

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class FileInputs:
    """How files become the inputs of a model.

    Attributes:
        noun: What they are, "image" or "video".
        read: Turns a file into a batch of one, float32 on the CPU, as it would be measured; raises ValueError or
            ExperimentError if the file cannot be used.
    """

    noun: Literal["image", "video"]
    read: Callable[[Path], Inputs]

    @property
    def suffixes(self) -> tuple[str, ...]:
        """How the names of such files end."""
        return SUFFIXES if self.noun == "image" else VIDEO_SUFFIXES


def _crops(patch: int, side: int | None = None) -> FileInputs:
    fragments = Fragments(1, patch)

    def read(file: Path) -> Inputs:
        image = ImageFiles([file], side)[0]
        fragments.check(image.shape[2:], str(file))
        return (torch.from_numpy(fragments.of(image.numpy())).float() / 255,)

    return FileInputs("image", read)


def _videos(settings: Mapping[str, Any]) -> FileInputs:
    reading = reading_of(settings)

    def read(file: Path) -> Inputs:
        return tuple(part[None] for part in reading.inputs(read_frames(file, reading.frames), str(file)))

    return FileInputs("video", read)


def _features(settings: Mapping[str, Any]) -> FileInputs:
    chosen = Chosen.read(Path(settings["standards"]))
    cache = settings.get("cache")
    names = [extractor.name for extractor in chosen.used]
    made = made_for(names, cache_folder() if cache is None else Path(cache))
    chosen.check_made(made, settings["standards"])
    described = frozen(names, made, settings["key_frames"])

    def read(file: Path) -> Inputs:
        frames = read_frames(file, settings["frames"]).numpy()
        try:
            found = described(frames)
            chosen.check_lengths({name: part.shape[-1] for name, part in found.items()})
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        return tuple(
            standard(part[None]).float() for standard, part in zip(chosen.standards, found.values(), strict=True)
        )

    return FileInputs("video", read)


_INPUTS: dict[str, Callable[[Mapping[str, Any]], FileInputs]] = {
    "image_quality": lambda settings: _crops(settings["patch"]),
    "image_aesthetics": lambda settings: _crops(settings["size"], settings["size"]),
    "video_quality": _videos,
    "pretrained_ensemble": _features,
}

RATED = tuple(_INPUTS)
"""Names of the tasks whose models rate files."""


def file_inputs(settings: Mapping[str, Any]) -> FileInputs:
    """Return how files become inputs of the models of a task.

    Args:
        settings: Settings of one of the tasks `RATED`, with its `name`; `standards` is the file of a run that says how
            features are standardised, None if there is none.

    Returns:
        How they do.

    Raises:
        ExperimentError: An extractor cannot be made.
        ImportError: A package is not installed.
        ValueError: The file `standards` cannot be read, or there is no such extractor, or it was another one there.
    """
    return _INPUTS[settings["name"]](settings)
