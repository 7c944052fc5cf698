"""Images in a folder for each class."""

import logging
import os
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from basinet.sim.experiment.mistakes import ExperimentError, first_line
from basinet.sim.tasks.loaders.images import Decoder
from basinet.sim.tasks.losses import ClassLoss, with_loss
from basinet.sim.tasks.supervised import supervised
from basinet.sim.tasks.task import TASKS, Task
from basinet.sim.vision.picture_folders import left_out_of, pictures_in

__all__ = ["image_folder"]

_log = logging.getLogger(__name__)


@TASKS.register()
def image_folder(
    *,
    path: str,
    test_path: str | None = None,
    size: Annotated[int, Field(ge=1)] | None = None,
    channels: Literal[1, 3] | None = None,
    loss: ClassLoss = "cross_entropy",
    lazy: bool | Literal["auto"] = "auto",
    cache: str | None = None,
) -> Task:
    """Load images that are in a folder for each class, which are numbered in alphabetical order.

    Inputs are float32 [n, channels, height, width], from 0 to 1. Samples may be partitioned by the column `folder`, the
    folder that an image is in.

    Args:
        path: Folder of the training images, PATH/CLASS/….png, possibly in further folders.
        test_path: Folder of the test images, with the same classes.
        size: Height and width to which images are resized; by default they must all have the same size.
        channels: 1 for greyscale, 3 for colour; by default as stored.
        loss: The cross-entropy, or half the squared distance of the outputs from the class's unit vector.
        lazy: Whether images are read when they are needed; "auto" if they do not fit well into memory.
        cache: Folder for decoded images, shared by all runs that read the same files; see `supervised`.

    Returns:
        A task with one output per class.

    Raises:
        ValueError: If a folder or its images cannot be read, or test images have a class of their own.
    """
    train = _Images(Path(path), None, size, channels)
    test = None if test_path is None else _Images(Path(test_path), train.classes, size, channels)
    task = supervised(
        train,
        test,
        model="cnn",
        classification=True,
        num_outputs=len(train.classes),
        columns={"folder": train.folders},
        lazy=lazy,
        cache=cache,
    )
    return with_loss(task, loss)


class _Images:
    """The images of a folder.

    Attributes:
        files: Their files.
        targets: The class of each.
        classes: Names of the classes.
    """

    def __init__(self, folder: Path, classes: list[str] | None, size: int | None, channels: int | None) -> None:
        folder = folder.absolute()
        self.decoder = Decoder(size, channels)
        try:
            own = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
        except OSError as error:
            raise ValueError(f"image_folder: {first_line(error)}") from error
        self.classes = own if classes is None else classes
        if unknown := [name for name in own if name not in self.classes]:
            raise ValueError(
                f"image_folder: {folder} has the class {unknown[0]!r}, which is none of the training images:"
                f" {', '.join(self.classes)}"
            )
        try:
            by_class = {name: pictures_in(folder / name, deep=True) for name in own}
        except ExperimentError as error:
            raise ValueError(f"image_folder: {error}") from error
        self.files = [file for found in by_class.values() for file in found]
        if not self.files:
            raise ValueError(f"image_folder: {folder} has no folders of images, one for each class")
        if others := [path for name in own for path in left_out_of(folder / name, deep=True)]:
            _log.warning("task: files in %s that are not named like images are left out: %d", folder, len(others))
        self.targets = [self.classes.index(name) for name, found in by_class.items() for _ in found]
        self.folders = np.array([str(file.parent.relative_to(folder)) for file in self.files])
        stats = [file.stat() for file in self.files]
        self.stamps = [(stat.st_size, stat.st_mtime_ns) for stat in stats]  # a changed file is another data set

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.decoder(self.files[row], str(self.files[row])), self.targets[row]
