"""Many images, changed one after the other: one that cannot be used does not stop the others."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from basinet.sim.experiment.mistakes import ExperimentError, first_line
from basinet.sim.vision.picture_files import SUFFIXES, Pixels, read_pixels, write_pixels
from basinet.sim.vision.resizing import crop_to, shrink

__all__ = ["Changed", "change_all", "is_current", "left_out_of", "pictures_in", "shrink_folder"]

Advanced = Callable[[float], object]
"""Called with the fraction that is done."""


@dataclass(frozen=True)
class Changed:
    """What has become of some images.

    Attributes:
        written: The files written.
        kept: Files that were there already.
        failed: A sentence for each image that could not be changed.
        left_out: What else is in the folders: files that are not named like images, and folders.
    """

    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    failed: tuple[str, ...]
    left_out: tuple[Path, ...] = ()


def pictures_in(folder: str | Path, *, deep: bool = False) -> list[Path]:
    """List the image files of a folder.

    Args:
        folder: The folder.
        deep: Whether to list those of the folders in it, too.

    Returns:
        The files that are named like images, in order, without hidden ones and those in hidden folders.

    Raises:
        ExperimentError: There are none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ExperimentError(f"{folder} is not a folder")
    found = [path for path in _seen(folder, deep) if _is_picture(path)]
    if not found:
        raise ExperimentError(f"{folder} holds no images ({', '.join(SUFFIXES)})")
    return found


def left_out_of(folder: str | Path, *, deep: bool = False, but: str | Path | None = None) -> list[Path]:
    """List what `pictures_in` leaves out of a folder.

    Args:
        folder: The folder.
        deep: Whether the folders in it are entered.
        but: A folder that is not listed, such as that of results.

    Returns:
        The files that are not named like images, and the folders if they are not entered, without hidden ones.
    """
    found = [path for path in _seen(Path(folder), deep) if not (_is_picture(path) or (deep and path.is_dir()))]
    return [path for path in found if but is None or path.resolve() != Path(but).resolve()]


def _seen(folder: Path, deep: bool) -> list[Path]:
    found = sorted(folder.glob("**/*" if deep else "*"))
    return [path for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts)]


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def change_all(
    targets: Mapping[Path, Path],
    change: Callable[[Pixels, Advanced], Pixels],
    is_done: Callable[[Path, Path], bool],
    shown: Callable[[float, str], object] | None = None,
) -> Changed:
    """Change images one after the other.

    Args:
        targets: Where each image is written.
        change: Changes an image; it may report its progress.
        is_done: Whether the target of an image is there already, and is kept.
        shown: Called with the fraction done and the name of the current image.

    Returns:
        What has become of them.

    Raises:
        ExperimentError: Two images have the same target.
    """
    sources = defaultdict(list)
    for source, target in targets.items():
        sources[target].append(source)
    for target, (first, *others) in sources.items():
        if others:
            raise ExperimentError(f"{first} and {others[0]} would both be written to {target}; rename one of them")
    written, kept, failed = [], [], []

    def report(place: int, name: str, fraction: float) -> None:
        if shown is not None:
            shown((place + fraction) / len(targets), name)

    for place, (source, target) in enumerate(targets.items()):
        advanced = partial(report, place, source.name)
        advanced(0)
        try:
            if is_done(source, target):
                kept.append(target)
                continue
            write_pixels(target, change(read_pixels(source), advanced))
        except ExperimentError as error:
            failed.append(str(error))
        except (MemoryError, RuntimeError, ValueError) as error:
            failed.append(f"{source} cannot be used: {first_line(error)}")
        else:
            written.append(target)
        advanced(1)
    return Changed(tuple(written), tuple(kept), tuple(failed))


def is_current(made: Path, found: Pixels, image: Path, factor: Fraction) -> bool:
    """Return whether a result fits its image, as far as size and date tell.

    Args:
        made: The file of the result.
        found: What is in it.
        image: The file of the image.
        factor: By how much the height and width of an image grow.

    Returns:
        Whether it has the right size and is not older than the image; not if the image cannot be read.
    """
    with suppress(ExperimentError, OSError):
        whole = read_pixels(image).colour
        sizes = (int(size * factor) for size in whole.shape[1:])
        return found.colour.shape == (len(whole), *sizes) and made.stat().st_mtime >= image.stat().st_mtime
    return False


def shrink_folder(
    source: str | Path,
    target: str | Path,
    factor: int = 4,
    *,
    fresh: bool = False,
    shown: Callable[[float, str], object] | None = None,
) -> Changed:
    """Shrink the images of a folder as the challenges of super-resolution do: `0001.png` becomes `0001x4.png`.

    Images are cut to multiples of the factor and shrunk by `shrink`. A file that is there already is kept if it can be
    read, has the right size and is not older than its image.

    Args:
        source: The folder of images.
        target: The folder of small images; it need not exist.
        factor: By how much height and width shrink.
        fresh: Whether to keep no file.
        shown: Called with the fraction done and the name of the current image.

    Returns:
        What has become of the images.

    Raises:
        ExperimentError: The folder has no images, or the factor is impossible.
    """
    if factor < 2:
        raise ExperimentError(f"factor: got {factor}; allowed are 2, 3, …")

    def small(image: Pixels, advanced: Advanced) -> Pixels:
        if min(image.colour.shape[-2:]) < factor:
            raise ValueError(f"it is smaller than {factor} × {factor} pixels")
        alpha = None if image.alpha is None else shrink(crop_to(image.alpha, factor), factor)
        return Pixels(shrink(crop_to(image.colour, factor), factor), alpha, image.profile)

    def is_done(image: Path, made: Path) -> bool:
        if fresh or not made.exists():
            return False
        with suppress(ExperimentError):  # a damaged file is made anew
            return is_current(made, read_pixels(made), image, Fraction(1, factor))
        return False

    targets = {file: Path(target) / f"{file.stem}x{factor}.png" for file in pictures_in(source)}
    changed = change_all(targets, small, is_done, shown)
    return replace(changed, left_out=tuple(left_out_of(source, but=target)))
