"""Super-resolution as the NTIRE 2024 challenge scores it: submissions of images, their checks and numbers."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from basinet.analysis.challenges.leaderboard import SEED, Challenge, Entry, Published
from basinet.analysis.challenges.submission_checks import Faults, Refused, different
from basinet.analysis.runs.solution import Solution
from basinet.analysis.statistics.bootstrap import resamples
from basinet.sim.data.rows import take
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.records import Row
from basinet.sim.tasks import SuperResolution
from basinet.sim.tasks.model_outputs import fit, output_of
from basinet.sim.vision.fidelity import fidelity, to_bytes
from basinet.sim.vision.picture_files import SUFFIXES, read_pixels
from basinet.sim.vision.resizing import crop_to, enlarge, shrink

__all__ = [
    "FACTOR",
    "SUPER_RESOLUTION",
    "Images",
    "images_in",
    "images_of",
    "score_bicubic",
    "score_images",
    "truth_of",
]

FACTOR = 4
_LEAST = 11 + 2 * FACTOR
"""Smallest height and width: a window of SSIM is left without the border."""

_BORDER, _ROUNDED = 4, 3
"""Pixels of the border in low resolution, and grey levels elsewhere, in which implementations of bicubic interpolation
with antialiasing differ."""

SUPER_RESOLUTION = Challenge(
    name="super-resolution",
    title="Super-resolution ×4",
    tasks=("super_resolution",),
    item="image",
    protocol="Protocol of NTIRE 2024 image super-resolution ×4: 8 bits, the truth cut to multiples of 4, 4 pixels of"
    " each border left out, Y of BT.601 (16 to 235), mean over the images of PSNR in dB; SSIM and RGB beside it.",
    headings={"psnr_y": "PSNR-Y dB", "ssim_y": "SSIM-Y", "psnr_rgb": "PSNR-RGB dB", "ssim_rgb": "SSIM-RGB"},
    decimals={"psnr_y": 3, "ssim_y": 4, "psnr_rgb": 3, "ssim_rgb": 4},
    published=Published(
        "As published, on their own data, the test images of DIV2K, and not ranked with the above: the six best teams"
        " of NTIRE 2024 exceed 31.1 dB (arXiv:2404.09790)."
    ),
)


@dataclass(frozen=True)
class Images:
    """Images by name, read one by one.

    Attributes:
        read: Reads an image, uint8 [1 | 3, height, width], or raises `ExperimentError`.
        files: What to call each image in messages, by its name.
        faults: What is wrong with them already.
    """

    read: Callable[[str], Tensor]
    files: Mapping[str, str]
    faults: Faults = field(default_factory=Faults)


def images_in(folder: Path, names: Container[str] | None = None) -> Images:
    """Find the images of a folder.

    Args:
        folder: The folder. A `readme.txt`, as in the archives of the challenge, and hidden files do not count.
        names: Names of the true images, to which a file name may add x4: 0801x4.png is image 0801. None if these are
            the true ones.

    Returns:
        Its images. Something else in it, and several files for an image, are faults.

    Raises:
        Refused: It is no folder, or holds nothing.
    """
    if not folder.is_dir():
        raise Refused("it is no folder of images" if folder.exists() else "there is no such folder")
    faults = Faults()
    found: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.lower() == "readme.txt":
            continue
        if path.is_dir() or path.suffix.lower() not in SUFFIXES:
            faults.add("other things than images", path.name)
        else:
            short = path.stem.removesuffix(f"x{FACTOR}")
            is_short = names is not None and path.stem not in names and short in names
            found.setdefault(short if is_short else path.stem, []).append(path.name)
    faults.add("several files for an image", *(" and ".join(names) for names in found.values() if len(names) > 1))
    if not found:
        raise Refused("it holds no images")
    files = {name: names[0] for name, names in found.items()}
    return Images(lambda name: _read(folder / files[name]), files, faults)


def _read(path: Path) -> Tensor:
    """Read an image as it is stored: without a palette, other colours than RGB, or transparency."""
    pixels = read_pixels(path)
    from PIL import Image

    with Image.open(path) as image:
        mode = image.mode
    if mode not in ("RGB", "L"):
        raise ExperimentError(f"{path} is of the mode {mode}; save it as RGB")
    return pixels.colour


def truth_of(solution: Solution) -> Images:
    """Return the true test images of a run.

    Args:
        solution: A run of the task `super_resolution`.

    Returns:
        The images.

    Raises:
        Refused: It has none, or images of another factor.
    """
    task, places = _test(solution)
    return Images(lambda name: to_bytes(take(task.test, slice(places[name], places[name] + 1))[-1][0]), _same(places))


def images_of(solution: Solution) -> Images:
    """Return what the centroid of a run makes of its test images.

    Args:
        solution: A run of the task `super_resolution`.

    Returns:
        The images.

    Raises:
        Refused: It has none, or images of another factor. Reading an image raises this if the one in low resolution is
            not that of the challenge.
    """
    task, places = _test(solution)
    model = solution.centroid()

    def restore(name: str) -> Tensor:
        batch = take(task.test, slice(places[name], places[name] + 1))
        _check_low(name, *(to_bytes(part)[0] for part in batch))
        with torch.no_grad():
            restored = fit(output_of(task.outputs(model, batch)), batch[-1].shape, "the model returns images")[0]
        if not restored.isfinite().all():
            raise ExperimentError(f"{name} has pixels that are NaN or infinite")
        return to_bytes(restored)

    return Images(restore, _same(places))


def _check_low(name: str, low: Tensor, high: Tensor) -> None:
    """Raise if an image was not shrunk by bicubic interpolation, up to how its border and rounding are made."""
    wanted = shrink(high, FACTOR)
    inner = (slice(None), *(slice(_BORDER, length - _BORDER) for length in wanted.shape[1:]))
    difference = int((low[inner].int() - wanted[inner].int()).abs().max())
    if difference > _ROUNDED:
        raise Refused(
            "its images in low resolution are not those of the challenge, which bicubic interpolation with antialiasing"
            f" makes: {name} differs by up to {difference} grey levels"
        )


def _test(solution: Solution) -> tuple[SuperResolution, dict[str, int]]:
    task = solution.task
    if not isinstance(task, SuperResolution) or task.test is None:
        raise Refused("the task of the run has no images to restore")
    if task.scale != FACTOR:
        raise Refused(f"its images are enlarged by {task.scale}, and those of the challenge by {FACTOR}")
    return task, {name: place for place, name in enumerate(different(task.names))}


def _same(names: Mapping[str, int]) -> dict[str, str]:
    return {name: name for name in names}


def score_images(name: str, submitted: Images, truth: Images) -> Entry:
    """Check the images of a submission, and score them.

    Args:
        name: Its name.
        submitted: Its images.
        truth: The true ones.

    Returns:
        Its numbers.

    Raises:
        Refused: Something is wrong with it.
        ExperimentError: A true image cannot be read.
    """
    faults, rows = submitted.faults, []
    faults.compare(submitted.files, truth.files, "images")
    for key in truth.files:
        if key not in submitted.files:
            continue
        true, file = _true_image(truth, key), submitted.files[key]
        try:
            image = submitted.read(key)
        except ExperimentError as error:
            faults.add("", str(error))
            continue
        expected, found = _size(crop_to(true, FACTOR)), _size(image)
        if len(image) == 1 and (true != true[:1]).any():
            faults.add("grey images where the truth has colours", file)
        elif found != expected:
            faults.add("images of another size", f"{file} has {found} pixels, not {expected}")
        elif image.max() <= 1 < true.max():
            faults.add("images of another range than 0 to 255", f"{file} has no value above 1")
        elif not faults:
            rows.append(_row(key, image, true))
    faults.check()
    return _entry(name, rows)


def score_bicubic(truth: Images) -> Entry:
    """Score bicubic interpolation, as the baseline.

    Args:
        truth: The true images, which are shrunk and enlarged again.

    Returns:
        Its numbers.

    Raises:
        ExperimentError: An image cannot be read.
    """
    rows = []
    for key in truth.files:
        true = _true_image(truth, key)
        rows.append(_row(key, enlarge(shrink(crop_to(true, FACTOR), FACTOR), FACTOR), true))
    return _entry("baseline: bicubic interpolation", rows)


def _row(name: str, image: Tensor, true: Tensor) -> Row:
    scores = fidelity(image.expand(3, -1, -1), true.expand(3, -1, -1), FACTOR)
    return {"image": name, **{number: float(value) for number, value in scores.items()}}


def _size(image: Tensor) -> str:
    return f"{image.shape[-1]} × {image.shape[-2]}"


def _true_image(truth: Images, name: str) -> Tensor:
    """Read a true image that is large enough."""
    image = truth.read(name)
    if min(crop_to(image, FACTOR).shape[-2:]) < _LEAST:
        raise ExperimentError(
            f"--truth: {truth.files[name]} has {_size(image)} pixels; the protocol needs at least {_LEAST} × {_LEAST}"
        )
    return image


def _entry(name: str, rows: Sequence[Row]) -> Entry:
    """Average the numbers of images, and of each resample of them."""
    picked = resamples(len(rows), seed=SEED)
    numbers, draws = {}, {}
    for number in SUPER_RESOLUTION.headings:
        values = np.array([row[number] for row in rows])
        numbers[number], draws[number] = float(values.mean()), values[picked].mean(1)
    perfect = [row["image"] for row in rows if row["psnr_y"] == np.inf]
    remark = f"{name} equals the truth in {len(perfect)} of {len(rows)} images, so that its mean PSNR is infinite."
    return Entry(name, numbers, draws, rows, (remark,) if perfect else ())
