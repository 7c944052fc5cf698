"""Image files: all kinds of pixels, bad files in one sentence."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.vision.picture_files import Pixels, read_pixels, write_pixels

RGB = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
GREY = RGB[..., 0]
ALPHA = 255 - GREY


def planes(array):
    return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)


def palette():
    image = Image.new("P", (7, 5))
    image.putpalette([value for i in range(35) for value in (i, 2 * i, 3 * i)])
    image.putdata(range(35))
    return image


OF_PALETTE = np.stack([np.arange(35).reshape(5, 7) * k for k in (1, 2, 3)], 2).astype(np.uint8)

KINDS = {
    "rgb.png": (Image.fromarray(RGB), RGB, None),
    "grey.png": (Image.fromarray(GREY), GREY, None),
    "rgba.png": (Image.fromarray(np.dstack([RGB, ALPHA])), RGB, ALPHA),
    "grey_alpha.png": (Image.fromarray(np.dstack([GREY, ALPHA])), GREY, ALPHA),
    "palette.png": (palette(), OF_PALETTE, None),
    "cmyk.tif": (Image.fromarray(np.dstack([RGB, 0 * GREY]), mode="CMYK"), 255 - RGB, None),
    "black_and_white.png": (Image.fromarray(GREY > 50), 255 * (GREY > 50).astype(np.uint8), None),
    "one.png": (Image.fromarray(RGB[:1, :1]), RGB[:1, :1], None),
}


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", KINDS)
def test_all_kinds_of_images_of_8_bits_are_read_and_written(tmp_path, name):
    image, colour, alpha = KINDS[name]
    image.save(tmp_path / name)
    read = read_pixels(tmp_path / name)
    assert torch.equal(read.colour, planes(colour))
    assert (read.alpha is None) == (alpha is None)
    assert alpha is None or torch.equal(read.alpha, planes(alpha))
    write_pixels(tmp_path / "again.png", read)
    again = read_pixels(tmp_path / "again.png")
    assert torch.equal(again.colour, read.colour) and (alpha is None or torch.equal(again.alpha, read.alpha))


def test_a_transparent_colour_of_a_palette_is_alpha(tmp_path):
    palette().save(tmp_path / "p.png", transparency=3)
    alpha = read_pixels(tmp_path / "p.png").alpha
    assert alpha.flatten().tolist() == [0 if i == 3 else 255 for i in range(35)]


def test_the_profile_of_the_colours_is_kept(tmp_path):
    from PIL.ImageCms import ImageCmsProfile, createProfile

    profile = ImageCmsProfile(createProfile("sRGB")).tobytes()
    Image.fromarray(RGB).save(tmp_path / "a.png", icc_profile=profile)
    write_pixels(tmp_path / "b.png", read_pixels(tmp_path / "a.png"))
    assert read_pixels(tmp_path / "b.png").profile == profile


@pytest.mark.parametrize(("name", "kept"), [("a.png", "this"), ("a.jpg", None)])
def test_what_has_made_an_image_is_kept_in_png(tmp_path, name, kept):
    write_pixels(tmp_path / name, Pixels(planes(RGB), software="this"))
    assert read_pixels(tmp_path / name).software == kept


def test_a_photo_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # turned by 90°
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    assert torch.equal(read_pixels(tmp_path / "a.png").colour, torch.rot90(planes(RGB), -1, (1, 2)))


def huge():
    """A PNG whose header promises 400 million pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def saved(tmp_path, image, **settings):
    image.save(tmp_path / "made.png", **settings)
    return (tmp_path / "made.png").read_bytes()


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)

BAD = {
    "text": (lambda _: b"not an image\n", "cannot identify it as an image"),
    "empty": (lambda _: b"", "cannot identify it as an image"),
    "truncated": (lambda tmp: saved(tmp, Image.fromarray(NOISE))[:5000], "truncated"),
    "corrupt": (lambda tmp: saved(tmp, Image.fromarray(NOISE)).replace(b"IDAT", b"IDXT"), ""),
    "deep": (lambda tmp: saved(tmp, Image.fromarray(RGB[..., 0].astype(np.uint16))), "more than 8 bits per channel"),
    "animated": (
        lambda tmp: saved(tmp, Image.fromarray(RGB), save_all=True, append_images=[Image.fromarray(RGB[::-1])]),
        "it has 2 frames; make each an image of its own",
    ),
    "huge": (lambda _: huge(), "exceeds limit"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_in_one_sentence(tmp_path, name):
    make, message = BAD[name]
    file = tmp_path / f"{name}.png"
    file.write_bytes(make(tmp_path))
    with pytest.raises(ExperimentError, match=rf"{name}.png cannot be used: .*{message}") as found:
        read_pixels(file)
    assert "\n" not in str(found.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ExperimentError, match=r"gone.png cannot be used: .*No such file"):
        read_pixels(tmp_path / "gone.png")


@pytest.mark.parametrize(
    ("name", "message"), [("a.xyz", "no image file ends with '.xyz'; choose .png"), ("a.jpg", "cannot write mode RGBA")]
)
def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path, name, message):
    image = Pixels(planes(RGB), planes(ALPHA))
    with pytest.raises(ExperimentError, match=rf"{name} cannot be written: {message}"):
        write_pixels(tmp_path / name, image)
    assert not list(tmp_path.iterdir())
