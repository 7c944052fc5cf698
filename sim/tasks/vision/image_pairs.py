"""Images in high and low resolution: photos that packages bring along, folders such as DIV2K, and sets of the hub."""

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from basinet.algorithms.draws import key
from basinet.sim.data.items import Items
from basinet.sim.data.memory_map import cached
from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import ExperimentError, first_line, nearest
from basinet.sim.setup.memory import in_units, memory
from basinet.sim.tasks.loaders.images import read_image
from basinet.sim.tasks.vision.patches import Pictures
from basinet.sim.vision.photos import PHOTOS, read_photo
from basinet.sim.vision.picture_files import SUFFIXES, read_pixels
from basinet.sim.vision.resizing import crop_to, shrink

if TYPE_CHECKING:
    import datasets

__all__ = ["Degradation", "Files", "Hub", "Originals", "Photos", "files_of", "made"]

Degradation = Literal["bicubic", "blur", "noise", "jpeg"]

_BLUR = 0.4
"""Standard deviation of the blur, in pixels of low resolution."""

_NOISE = 10.0
"""Standard deviation of the noise, in grey levels of 255."""

_QUALITY = 40
"""Quality of JPEG."""

_SHARE_OF_MEMORY = 4
"""Without a cache, images may take one part in so many of the memory."""


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
                raise ValueError(f"super_resolution: {setting} has {name!r}; {nearest(name, PHOTOS)}")
        self.names, self.setting = tuple(names), setting
        self.scenes = [PHOTOS[name].scene for name in names]

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
        stats = [file.stat() for file in (*files, *(small or ()))]
        self.stamps = [(stat.st_size, stat.st_mtime_ns) for stat in stats]  # a changed file is another image

    def high(self, row: int) -> Tensor:
        """Decode a file; see `Originals`."""
        return _opaque(self.files[row])

    def low(self, row: int) -> Tensor | None:
        """Decode the file in low resolution; see `Originals`."""
        return None if self.small is None else _opaque(self.small[row])

    def place(self, row: int) -> str:
        """Return the file; see `Originals`."""
        return str(self.files[row])

    def take(self, rows: Sequence[int]) -> "Files":
        """Return some of the files; see `Originals`."""
        small = None if self.small is None else [self.small[row] for row in rows]
        return Files(self.folder, [self.files[row] for row in rows], small)


class Hub(Originals):
    """Images of a data set that `datasets` reads.

    Args:
        data: The data set.
        split: Name of its split.
        image: Column of the images.
        scene: Column of their kinds, if there is one.
    """

    def __init__(self, data: "datasets.Dataset", split: str, image: str, scene: str | None) -> None:
        import datasets

        self.data = data.cast_column(image, datasets.Image(decode=False))
        self.split, self.image, self.scene = split, image, scene
        self.names = [str(row) for row in range(len(data))]
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
        return f"image {row} of split {self.split!r}"

    def take(self, rows: Sequence[int]) -> "Hub":
        """Return some of the images; see `Originals`."""
        return Hub(self.data.select(rows), self.split, self.image, self.scene)


def _opaque(file: Path) -> Tensor:
    """Decode a file that is not transparent, with three channels."""
    found = read_pixels(file)
    if found.alpha is not None and bool((found.alpha < 255).any()):
        raise ValueError(f"{file} cannot be used: it is transparent in places; put it on a background first")
    return found.colour.expand(3, -1, -1)


def files_of(folder: Path, scale: int, part: Literal["train", "valid"] | None = None) -> Files:
    """List the images of a folder.

    Args:
        folder: The folder.
        scale: By how much larger the high resolution is.
        part: The part of a data set in the layout of DIV2K; None for all images, in whatever folders.

    Returns:
        The images.

    Raises:
        ValueError: There are none, or some in high resolution are not there in low resolution, or the reverse.
    """
    folder = folder.absolute()
    if part is None:
        return Files(folder, _images(folder))
    large = folder / f"DIV2K_{part}_HR"
    files, small = _images(large), folder / f"DIV2K_{part}_LR_bicubic" / f"X{scale}"
    if not small.is_dir():
        return Files(large, files)
    known = {file.name for file in _images(small)}
    wanted = {file: f"{file.stem}x{scale}{file.suffix}" for file in files}
    for file, name in wanted.items():
        if name not in known:
            raise ValueError(f"super_resolution: {file} has no partner {name} in {small}")
    if lonely := sorted(known - {*wanted.values()}):
        raise ValueError(f"super_resolution: {small / lonely[0]} has no partner in {large}")
    return Files(large, files, [small / name for name in wanted.values()])


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(
            f"super_resolution: {folder} is no folder; allowed are a folder of images, or one with DIV2K's"
        )
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.name[0] != ".")
    if not found:
        raise ValueError(f"super_resolution: {folder} holds no images ({', '.join(SUFFIXES)})")
    return found


def made(
    originals: Originals,
    name: str,
    scale: int,
    degradations: Sequence[Degradation],
    least: int,
    seed: int,
    cache: str | None,
) -> Pictures:
    """Decode images and make their versions in low resolution.

    Args:
        originals: The images.
        name: What they are, train or test.
        scale: By how much larger the high resolution is.
        degradations: How the versions are made.
        least: Least height and width in low resolution.
        seed: Seed of the noise.
        cache: Folder in which they are kept; None for memory.

    Returns:
        The images.

    Raises:
        ExperimentError: An image cannot be decoded, is too small, or has another size than in low resolution; or they
            do not fit into memory.
    """
    pairs = _Pairs(originals, scale, degradations, least, seed)
    if cache is not None:
        return cached(Items(source=pairs, name=name), Path(cache))
    found, room = [], memory() // _SHARE_OF_MEMORY
    for row in range(len(pairs)):
        found.append([part.numpy() for part in pairs[row]])
        room -= sum(part.nbytes for part in found[-1])
        if room < 0:
            raise ExperimentError(
                f"task.cache: {row + 1} of {len(pairs)} images of {name} take more than"
                f" {in_units(memory() // _SHARE_OF_MEMORY)} of memory; give a cache, a folder in which all are kept"
            )
    return _InMemory(found)


class _InMemory:
    """Images in memory."""

    def __init__(self, found: list[list[NDArray[np.uint8]]]) -> None:
        self.found = found

    def __len__(self) -> int:
        return len(self.found)

    def arrays(self, row: int) -> list[NDArray[np.uint8]]:
        return self.found[row]


class _Pairs:
    """Images with their versions in low resolution, made one by one."""

    def __init__(
        self, originals: Originals, scale: int, degradations: Sequence[Degradation], least: int, seed: int
    ) -> None:
        self.originals, self.scale, self.degradations = originals, scale, tuple(degradations)
        self.least, self.seed = least, seed

    @property
    def fingerprint(self) -> str:
        """What identifies the content."""
        noise = self.seed if "noise" in self.degradations else None
        return digest([self.originals, self.scale, self.degradations, noise])

    def __len__(self) -> int:
        return len(self.originals.names)

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        """Return an image, and its versions."""
        try:
            high, given = self.originals.high(row), self.originals.low(row)
        except (ImportError, MemoryError):
            raise
        except Exception as error:  # a decoder may raise anything
            place, reason = self.originals.place(row), first_line(error)
            about = reason if place in reason else f"{place} cannot be used: {reason}"
            raise ExperimentError(f"task: super_resolution: {about}") from error
        height, width = (length // self.scale for length in high.shape[1:])
        own = f"{self.originals.place(row)} has {high.shape[1]} × {high.shape[2]} pixels"
        if min(height, width) < self.least:
            raise ExperimentError(
                f"task: super_resolution: {own}; allowed are at least {self.least * self.scale} × "
                f"{self.least * self.scale} at scale {self.scale}"
            )
        if given is not None and given.shape[1:] != (height, width):
            raise ExperimentError(
                f"task: super_resolution: {own}, and in low resolution {given.shape[1]} × {given.shape[2]}; allowed at"
                f" scale {self.scale} are {height} × {width}"
            )
        high = crop_to(high, self.scale).contiguous()
        low = shrink(high, self.scale) if given is None else given.contiguous()
        name = self.originals.names[row]
        return high, *(_degraded(kind, high, low, self.scale, (self.seed, name)) for kind in self.degradations)


def _degraded(kind: Degradation, high: Tensor, low: Tensor, scale: int, keys: tuple[int, str]) -> Tensor:
    """Make a version of an image in low resolution."""
    if kind == "blur":
        return shrink(_blurred(high, _BLUR * scale), scale)
    if kind == "noise":
        noise = np.random.default_rng(key(keys[0], "noise of an image", keys[1])).normal(0, _NOISE, low.shape)
        return torch.from_numpy((low.numpy() + noise).round().clip(0, 255).astype(np.uint8))
    return _through_jpeg(low) if kind == "jpeg" else low


def _blurred(image: Tensor, deviation: float) -> Tensor:
    """Blur an image by a Gaussian, mirrored at the border."""
    reach = int(np.ceil(3 * deviation))
    places = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-(places**2) / (2 * deviation**2))
    weights /= weights.sum()
    found = nn.functional.pad(image[:, None].double(), (reach,) * 4, mode="reflect")
    for kernel in (weights.view(1, 1, -1, 1), weights.view(1, 1, 1, -1)):
        found = nn.functional.conv2d(found, kernel)
    return found[:, 0].round().clamp(0, 255).byte()


def _through_jpeg(image: Tensor) -> Tensor:
    """Compress an image as JPEG does."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, format="JPEG", quality=_QUALITY)
    with Image.open(file) as read:
        return torch.from_numpy(np.array(read)).permute(2, 0, 1).contiguous()
