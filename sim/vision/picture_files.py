"""Files of images: decoding of any, and whole images of 8 bits as they are restored and scored."""

import io
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from basinet.sim.experiment.mistakes import ExperimentError, first_line, reason_of
from basinet.sim.run.files import write_atomically

__all__ = ["SUFFIXES", "Encoded", "Pixels", "decoded", "read_pixels", "software_of", "write_pixels"]

SUFFIXES = (
    ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
    ".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""Endings of the names of image files."""

Encoded = Mapping[str, Any] | Path | bytes
"""The content of an image file, the file, or a mapping of `bytes` or `path`, of which the other is None."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """An image of 8 bits.

    Attributes:
        colour: uint8 [3, height, width], or [1, height, width] for greyscale.
        alpha: Its opacity, uint8 [1, height, width]; None if it has none.
        profile: The ICC profile of its colours; None if it has none.
        software: What has made it, which PNG files keep; None if it is not known.
    """

    colour: Tensor
    alpha: Tensor | None = None
    profile: bytes | None = None
    software: str | None = None


def read_pixels(path: str | Path) -> Pixels:
    """Read an image file.

    Palettes and CMYK become RGB, the latter by PIL's formula without a colour profile; black-and-white images become
    greyscale. Photos are turned upright.

    Args:
        path: The file.

    Returns:
        Its pixels.

    Raises:
        ExperimentError: It is no image, damaged, has several frames, or more than 8 bits per channel.
        ImportError: Pillow is not installed.
    """
    path = Path(path)
    try:
        image, white = decoded(path)
        planes = torch.from_numpy(np.array(image.convert("RGBA" if image.has_transparency_data else "RGB")))
    except ImportError:
        raise
    except Exception as error:  # a decoder may raise anything
        raise ExperimentError(f"{path} cannot be used: {reason_of(error)}") from error
    if white is not None:
        raise ExperimentError(f"{path} cannot be used: it has more than 8 bits per channel; save it with 8 bits")
    profile = image.info.get("icc_profile") if image.mode in ("L", "LA", "P", "RGB", "RGBA") else None
    planes = planes.permute(2, 0, 1).contiguous()
    colour = planes[:1] if image.mode in ("1", "L", "LA") else planes[:3]
    return Pixels(colour, planes[3:] if len(planes) > 3 else None, profile, image.info.get("Software"))


def software_of(path: str | Path) -> str | None:
    """Return what has made an image file, by its own account, without reading its pixels.

    Args:
        path: The file.

    Returns:
        The name; None if the file does not say, or is no image.
    """
    from PIL.Image import open as open_image

    with suppress(OSError, ValueError, SyntaxError), open_image(path) as image:
        found: str | None = image.info.get("Software")
        return found
    return None


def write_pixels(path: str | Path, image: Pixels) -> None:
    """Write an image file, at once: a killed process leaves the old file, or none.

    Args:
        path: The file; its ending, such as .png, says of which kind.
        image: Its pixels.

    Raises:
        ExperimentError: The kind of file is unknown, or cannot hold the image.
    """
    from PIL.Image import fromarray, registered_extensions
    from PIL.PngImagePlugin import PngInfo

    path = Path(path)
    kind = registered_extensions().get(path.suffix.lower())
    if kind is None:
        raise ExperimentError(f"{path} cannot be written: no image file ends with '{path.suffix}'; choose .png")
    planes = torch.cat([image.colour] if image.alpha is None else [image.colour, image.alpha])
    pixels = planes.permute(1, 2, 0).cpu().numpy()
    encoded = io.BytesIO()
    try:
        made = fromarray(pixels[..., 0] if len(planes) == 1 else np.ascontiguousarray(pixels))
        about = PngInfo()
        if image.software is not None:
            about.add_text("Software", image.software)
        made.save(encoded, kind, icc_profile=image.profile, **({"pnginfo": about} if kind == "PNG" else {}))
    except (KeyError, OSError, ValueError) as error:
        raise ExperimentError(f"{path} cannot be written: {first_line(error)}") from error
    write_atomically(path, encoded.getbuffer())


def decoded(encoded: Encoded) -> tuple[Any, int | None]:
    """Decode an image.

    Args:
        encoded: The image.

    Returns:
        The image of PIL, upright, and its white level if it has more than 8 bits.

    Raises:
        ValueError: It is none, has several frames or would lose bits.
        ImportError: Pillow is not installed.
    """
    try:
        from PIL.Image import UnidentifiedImageError
        from PIL.Image import open as open_image
    except ImportError as error:
        raise ImportError('images need the package pillow: pip install "basinet[vision]"') from error
    try:
        with _opened(encoded) as file, open_image(file) as image:
            return _upright(image)
    except UnidentifiedImageError:
        raise ValueError("cannot identify it as an image") from None


def _upright(image: Any) -> tuple[Any, int | None]:
    """Turn an image upright; return it with its white level if it has more than 8 bits."""
    from PIL.ImageOps import exif_transpose

    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a camera's JPEG with a preview
        raise ValueError(f"it has {frames} frames; make each an image of its own")
    stored = image.tile[0][3] if image.tile else ""
    if image.mode.startswith(("I", "F")):
        return exif_transpose(image), _white(image, str(stored))
    highest = stored[-1] if image.format == "PPM" and isinstance(stored, tuple) else 0
    if highest > 255 or re.search(";16[BLN]", str(stored)):
        raise ValueError(
            "it has several channels of 16 bits, of which PIL only reads 8; save them with 8 bits, or as greyscale"
            " without transparency"
        )
    return exif_transpose(image), None


def _opened(encoded: Encoded) -> Any:
    """Open the content of an image file."""
    if isinstance(encoded, Path):
        return open(encoded, "rb")
    content = encoded if isinstance(encoded, bytes) else encoded["bytes"]
    if content is not None:
        return io.BytesIO(content)
    import fsspec  # type: ignore[import-untyped]

    return fsspec.open(encoded["path"])  # type: ignore[call-overload]


def _white(image: Any, stored: str) -> int:
    """Return the white level of a greyscale image of more than 8 bits, as PIL reads it."""
    if getattr(image, "tag_v2", {}).get(262) == 0:
        raise ValueError("it is a negative, in which 0 is white; invert it first")
    if image.mode == "F":
        pixels = np.asarray(image)
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError(
                f"its pixels are floating-point numbers from {pixels.min():g} to {pixels.max():g}; allowed are 0 to 1"
            )
        return 1
    # In a TIFF, "I" stands for signed or 32-bit integers.
    if image.format in ("PNG", "PPM", "JPEG2000") or (image.format == "TIFF" and image.mode != "I"):
        return 4095 if "I;12" in stored else 65535
    raise ValueError(
        f"its pixels are integers of the type {stored} in a {image.format}, of which none is white; allowed are 8 or 16"
        " bits without a sign, and floating-point numbers from 0 to 1"
    )
