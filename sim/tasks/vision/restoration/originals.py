"""Images in high resolution: photos that packages bring along, folders such as DIV2K, and sets of the hub."""

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from torch import Tensor

from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import ExperimentError, nearest
from basinet.sim.tasks.loaders.images import read_image
from basinet.sim.vision.photos import PHOTOS, photo_file, read_photo
from basinet.sim.vision.picture_files import read_pixels
from basinet.sim.vision.picture_folders import left_out_of, pictures_in

if TYPE_CHECKING:
    import datasets

__all__ = ["Files", "Hub", "Originals", "Part", "Photos", "files_of", "is_part"]

_log = logging.getLogger(__name__)

Part = Literal["train", "valid"]
"""Of a data set in the layout of DIV2K."""

_SMALL = re.compile(r"DIV2K_.*_LR_.*")
"""Folders of images in low resolution in that layout."""


class Originals(ABC):
    """Images in high resolution, which are decoded one by one, and possibly in low resolution.

    Attributes:
        names: What each is called.
        scenes: What kind of scene each shows; None if it is not known.
    """

    names: Sequence[str]
    scenes: Sequence[str] | None = None

    @abstractmethod
    def high(self, row: int) -> Tensor:
        """Decode an image, uint8 [3, H, W]; raise ValueError if that is not possible."""

    def low(self, row: int) -> Tensor | None:
        """Decode the image in low resolution, if there is one."""
        return None

    def place(self, row: int) -> str:
        """Return what to call an image in a message."""
        return self.names[row]

    @abstractmethod
    def take(self, rows: Sequence[int]) -> "Originals":
        """Return some of the images."""


class Photos(Originals):
    """Photos that come with packages.

    Args:
        names: Their names.
        setting: The setting that chose them, for messages.

    Raises:
        ValueError: There is none of such a name.
    """

    def __init__(self, names: Sequence[str], setting: str) -> None:
        for name in names:
            if name not in PHOTOS:
                raise ValueError(f"{setting} has {name!r}; {nearest(name, PHOTOS)}")
        self.names, self.setting = tuple(names), setting
        self.scenes = [PHOTOS[name].scene for name in names]
        self.stamps = [_stamp(photo_file(name)) for name in names]  # of another version of the package

    def high(self, row: int) -> Tensor:
        """Read a photo; see `Originals`."""
        return read_photo(self.names[row])

    def take(self, rows: Sequence[int]) -> "Photos":
        """Return some of the photos; see `Originals`."""
        return Photos([self.names[row] for row in rows], self.setting)


class Files(Originals):
    """Images in files.

    Args:
        folder: Where they are.
        files: The files.
        small: The same images in low resolution; None if they are to be made.
    """

    def __init__(self, folder: Path, files: Sequence[Path], small: Sequence[Path] | None = None) -> None:
        self.folder, self.files, self.small = folder, files, small
        inner = [file.relative_to(folder) for file in files]
        stems = [file.stem for file in files]
        self.names = stems if len(set(stems)) == len(stems) else [str(file) for file in inner]
        folders = [str(file.parent) for file in inner]
        self.scenes = folders if len(set(folders)) > 1 else None
        pairs = [[file, *others] for file, *others in zip(files, *([] if small is None else [small]), strict=True)]
        self.stamps = [[_stamp(file) for file in pair] for pair in pairs]  # a changed file is another image

    def high(self, row: int) -> Tensor:
        """Decode a file; see `Originals`."""
        return _opaque(self.files[row])

    def low(self, row: int) -> Tensor | None:
        """Decode the file in low resolution; see `Originals`."""
        return None if self.small is None else _opaque(self.small[row])

    def shared_with(self, other: "Files") -> list[Path]:
        """Return the files that are also among others, by whatever path."""
        known = {file.resolve() for file in other.files}
        return [file for file in self.files if file.resolve() in known]

    def place(self, row: int) -> str:
        """Return the file; see `Originals`."""
        return str(self.files[row])

    def take(self, rows: Sequence[int]) -> "Files":
        """Return some of the files; see `Originals`."""
        taken = copy(self)  # whose names and scenes are those among all files
        for name in ("files", "small", "names", "scenes", "stamps"):
            given = getattr(self, name)
            setattr(taken, name, None if given is None else [given[row] for row in rows])
        return taken


class Hub(Originals):
    """Images of a data set that `datasets` reads.

    Args:
        data: The data set.
        split: Name of its split.
        image: Column of the images.
        scene: Column of their kinds, if there is one.
        names: What each is called; by default the number of its row.
    """

    def __init__(
        self, data: "datasets.Dataset", split: str, image: str, scene: str | None, names: Sequence[str] | None = None
    ) -> None:
        import datasets

        self.data = data.cast_column(image, datasets.Image(decode=False))
        self.split, self.image, self.scene = split, image, scene
        self.names = [str(row) for row in range(len(data))] if names is None else names
        self.scenes = None if scene is None else np.asarray(data[scene][:]).astype(str).tolist()

    @property
    def fingerprint(self) -> str:
        """What identifies the content, which `datasets` keeps track of."""
        return digest([self.data._fingerprint, self.image])

    def high(self, row: int) -> Tensor:
        """Decode an image; see `Originals`."""
        levels = 255 * read_image(self.data[row][self.image], channels=3)
        if bool(((levels - levels.round()).abs() > 1e-3).any()):
            raise ValueError("it has more than 8 bits per channel; save it with 8 bits")
        return levels.round().byte()

    def place(self, row: int) -> str:
        """Return the row of an image; see `Originals`."""
        return f"image {self.names[row]} of split {self.split!r}"

    def take(self, rows: Sequence[int]) -> "Hub":
        """Return some of the images; see `Originals`."""
        names = [self.names[row] for row in rows]
        return Hub(self.data.select(rows), self.split, self.image, self.scene, names)


def _stamp(file: Path) -> tuple[int, int]:
    """Return the size and the date of a file."""
    try:
        stat = file.stat()
    except OSError as error:  # such as a link to nowhere
        raise ValueError(f"{file} cannot be used: {error.strerror}") from error
    return stat.st_size, stat.st_mtime_ns


def _opaque(file: Path) -> Tensor:
    """Decode a file that is not transparent, with three channels."""
    found = read_pixels(file)
    if found.alpha is not None and bool((found.alpha < 255).any()):
        raise ValueError(f"{file} cannot be used: it is transparent in places; put it on a background first")
    return found.colour.expand(3, -1, -1)


def is_part(folder: Path, part: Part) -> bool:
    """Return whether a folder in the layout of DIV2K holds the images in high resolution of a part.

    Args:
        folder: The folder.
        part: The part.

    Returns:
        Whether it does.
    """
    return _large(folder, part).is_dir()


def files_of(folder: Path, scale: int, *parts: Part) -> Files:
    """List the images of a folder.

    Args:
        folder: The folder.
        scale: By how much larger the high resolution is.
        parts: The first of these parts that a folder in the layout of DIV2K has. In any other folder, all images, in
            whatever folders.

    Returns:
        The images.

    Raises:
        ValueError: There are none, or some in high resolution are not there in low resolution, or the reverse.
    """
    folder = folder.absolute()
    part = next((part for part in parts if is_part(folder, part)), None)
    if part is None:
        files = _images(folder)
        if small_ones := [file for file in files if any(map(_SMALL.fullmatch, file.relative_to(folder).parts))]:
            raise ValueError(
                f"{small_ones[0]} is an image in low resolution; allowed is the folder of"
                " DIV2K_train_HR or DIV2K_valid_HR, or one without such images"
            )
        return Files(folder, files)
    large = _large(folder, part)
    files, small = _images(large), folder / f"DIV2K_{part}_LR_bicubic" / f"X{scale}"
    if not small.is_dir():
        return Files(large, files)
    known = {file.name for file in _images(small)}
    wanted = {file: f"{file.stem}x{scale}{file.suffix}" for file in files}
    for file, name in wanted.items():
        if name not in known:
            raise ValueError(f"{file} has no partner {name} in {small}")
    if lonely := sorted(known - {*wanted.values()}):
        raise ValueError(f"{small / lonely[0]} has no partner in {large}")
    return Files(large, files, [small / name for name in wanted.values()])


def _large(folder: Path, part: Part) -> Path:
    return folder / f"DIV2K_{part}_HR"


def _images(folder: Path) -> list[Path]:
    try:
        found = pictures_in(folder, deep=True)
    except ExperimentError as error:
        raise ValueError(str(error)) from error
    if others := left_out_of(folder, deep=True):
        _log.warning("task: files in %s that are not named like images are left out: %d", folder, len(others))
    return found
