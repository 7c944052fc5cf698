import builtins
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from basinet.sim.tasks import SquaredError, Task, huggingface

datasets = pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")

PIXELS = np.random.default_rng(0).integers(0, 256, size=(8, 6, 5, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")


def encoded(pixels: Any, format: str = "PNG") -> dict[str, Any] | None:
    """Encode pixels as an image; what is none, or encoded already, stays as it is."""
    if pixels is None or isinstance(pixels, dict):
        return pixels
    file = io.BytesIO()
    if isinstance(pixels, bytes):
        file.write(pixels)
    else:
        Image.fromarray(pixels).save(file, format=format)
    return {"bytes": file.getvalue(), "path": None}


def write(
    path: Path,
    pixels: Any = PIXELS,
    labels: list[Any] | None = None,
    label: Any = None,
    names: tuple[str, str] = ("image", "label"),
    image: Any = None,
) -> str:
    """Write a parquet file of images and labels; the labels run 0, 1, 2, 0, … ."""
    labels = [i % 3 for i in range(len(pixels))] if labels is None else labels
    features = {
        names[0]: datasets.Image() if image is None else image,
        names[1]: label or datasets.ClassLabel(names=list("abcd")),
    }
    columns = {names[0]: [encoded(p) for p in pixels], names[1]: labels}
    datasets.Dataset.from_dict(columns, features=datasets.Features(features)).to_parquet(str(path))
    return str(path)


def load(train: str, **settings: Any) -> Task:
    return huggingface(path="parquet", data_files={"train": train}, **{"test_split": None, **settings})


def test_round_trip(tmp_path: Path) -> None:
    files = {"train": write(tmp_path / "a.parquet"), "test": write(tmp_path / "b.parquet", PIXELS[:2])}
    task = huggingface(path="parquet", data_files=files)
    assert task.test is not None
    assert task.input_shape == (3, 6, 5)
    assert task.num_outputs == 4  # the classes that the column names, though the last is not used
    assert task.train[1].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    expected = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(task.train[0], expected, rtol=0, atol=0)
    torch.testing.assert_close(task.test[0], expected[:2], rtol=0, atol=0)


def test_folder_with_other_columns_and_splits(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    write(folder / "train.parquet", PIXELS[..., 0], names=("img", "digit"), label=datasets.Value("uint8"))
    task = huggingface(
        path=str(folder),
        image="img",
        label="digit",
        train_split="train[:6]",
        test_split="train[6:]",
    )
    assert task.test is not None
    assert (task.input_shape, task.num_outputs) == ((1, 6, 5), 3)
    assert (len(task.train[0]), len(task.test[0])) == (6, 2)
    assert task.train[1].dtype == torch.int64


@pytest.mark.parametrize("label", ["fine_label", "coarse_label"])
def test_cifar_as_the_hub_has_it(tmp_path: Path, label: str) -> None:
    """Columns img, fine_label and coarse_label; each channel has mean 0 and variance 1 over the training images."""
    rng = np.random.default_rng(1)
    files = {}
    for split, count in (("train", 40), ("test", 10)):
        pixels = rng.integers(0, 256, size=(count, 32, 32, 3), dtype=np.uint8) // np.array([1, 2, 4], dtype=np.uint8)
        columns = {"img": [encoded(p) for p in pixels], "fine_label": [i % 100 for i in range(count)]}
        columns["coarse_label"] = [i % 20 for i in range(count)]
        fine, coarse = (datasets.ClassLabel(names=[str(i) for i in range(n)]) for n in (100, 20))
        features = datasets.Features({"img": datasets.Image(), "fine_label": fine, "coarse_label": coarse})
        files[split] = str(tmp_path / f"{split}.parquet")
        datasets.Dataset.from_dict(columns, features=features).to_parquet(files[split])
    plain = huggingface(path="parquet", data_files=files, image="img", label=label)
    task = huggingface(path="parquet", data_files=files, image="img", label=label, normalize=True, loss="squared_error")
    assert isinstance(task, SquaredError) and task.test is not None and plain.test is not None
    assert (task.input_shape, task.num_outputs) == ((3, 32, 32), 100 if label == "fine_label" else 20)
    images = task.train[0].double()
    assert images.mean((0, 2, 3)).abs().max() < 1e-5
    assert images.var((0, 2, 3), correction=0).sub(1).abs().max() < 1e-5
    # The test images go through the same map as those that it was made from.
    pixel, other = plain.train[0][0, 0, 0, :2].double()
    slope = (images[0, 0, 0, 1] - images[0, 0, 0, 0]) / (other - pixel)
    expected = images[0, 0, 0, 0] + slope * (plain.test[0][:, 0].double() - pixel)
    torch.testing.assert_close(task.test[0][:, 0].double(), expected, rtol=0, atol=1e-4)


def test_plain_bytes_are_decoded(tmp_path: Path) -> None:
    plain = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    task = load(write(tmp_path / "a.parquet", image=plain))
    assert task.input_shape == (3, 6, 5)


def test_images_of_several_shapes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [PIXELS[0], PIXELS[1][:4], PIXELS[2][..., 0]])
    with pytest.raises(
        ValueError, match=r"image 1 of split 'train' has the shape \(3, 4, 5\), and others \(3, 6, 5\); give a size"
    ):
        load(path)
    assert load(path, size=4, channels=1).input_shape == (1, 4, 4)
    assert load(path, size=4, channels=3).input_shape == (3, 4, 4)


def test_unknown_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="has no column 'img', its columns are image, label"):
        load(path, image="img")
    with pytest.raises(ValueError, match="has no column 'fine_label'"):
        load(path, label="fine_label")


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        ([0, -1, 1, 1], None, "column 'label' of split 'train' has to hold class.*, but has the label -1 in row 1"),
        ([0.5, 1.0], "float64", "column 'label' of split 'train' has to hold class.* with the first entry 0.5"),
        ([-100, -100], "int64", "no label of train counts: all are -100"),
    ],
)
def test_labels_that_are_no_classes(tmp_path: Path, labels: list[Any], kind: str | None, message: str) -> None:
    path = write(tmp_path / "a.parquet", PIXELS[: len(labels)], labels=labels, label=kind and datasets.Value(kind))
    with pytest.raises(ValueError, match=message):
        load(path)


def test_words_are_numbered_alike_in_all_splits(tmp_path: Path) -> None:
    words = datasets.Value("string")
    files = {
        "train": write(tmp_path / "a.parquet", PIXELS[:3], ["fox", "ant", "fox"], words),
        "test": write(tmp_path / "b.parquet", PIXELS[:1], ["fox"], words),
    }
    task = huggingface(path="parquet", data_files=files)
    assert task.test is not None
    assert (task.train[1].tolist(), task.test[1].tolist(), task.num_outputs) == ([1, 0, 1], [1], 2)
    files["test"] = write(tmp_path / "c.parquet", PIXELS[:1], ["owl"], words)
    with pytest.raises(ValueError, match="split 'test' has the label 'owl', which is none of the 2 of the training"):
        huggingface(path="parquet", data_files=files)


def test_labels_that_do_not_count_and_truth_values(tmp_path: Path) -> None:
    task = load(write(tmp_path / "a.parquet", PIXELS[:3], [-100, 1, 0], datasets.Value("int64")))
    assert (task.train[1].tolist(), task.num_outputs) == ([-100, 1, 0], 2)
    task = load(write(tmp_path / "b.parquet", PIXELS[:2], [True, False], datasets.Value("bool")))
    assert task.train[1].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        ([], [], "split 'train' (is empty|cannot be loaded: .*no data)"),
        ([PIXELS[0], None], [0, 1], "image 1 of split 'train' cannot be used: it is null"),
        ([PIXELS[0], b"no image"], [0, 1], "image 1 of split 'train' cannot be used: cannot identify"),
        (PIXELS[:2], [0, None], "column 'label' of split 'train' has no label in row 1"),
    ],
)
def test_gaps(tmp_path: Path, pixels: Any, labels: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path / "a.parquet", pixels, labels))


def test_splits_are_alike(tmp_path: Path) -> None:
    files = {"train": write(tmp_path / "a.parquet"), "test": write(tmp_path / "b.parquet", PIXELS[:2, ..., 0])}
    with pytest.raises(ValueError, match=r"inputs of test have the shape \(1, 6, 5\), and those of train \(3, 6, 5\)"):
        huggingface(path="parquet", data_files=files)
    integers = datasets.Value("int64")
    files["test"] = write(tmp_path / "c.parquet", PIXELS[:2], [3, 0], integers)
    files["train"] = write(tmp_path / "d.parquet", PIXELS[:2], [1, 0], integers)
    with pytest.raises(ValueError, match="targets of test run from 0 to 3; allowed are the classes 0 to 1"):
        huggingface(path="parquet", data_files=files)


GREY = PIXELS[..., 0]
DEEP = np.random.default_rng(1).integers(0, 65536, size=(2, 6, 5), dtype=np.uint16)
NEAR = {"rtol": 0, "atol": 2e-7}
OPAQUE = np.full((2, 6, 5, 1), 255, dtype=np.uint8)


@pytest.mark.parametrize(
    ("mode", "pixels", "format", "wanted"),
    [
        ("1", GREY[:2] > 99, "PNG", (GREY[:2] > 99)[..., None]),
        ("L", GREY[:2], "PNG", GREY[:2, ..., None] / 255),
        ("LA", np.concatenate([GREY[:2, ..., None], OPAQUE], -1), "PNG", GREY[:2, ..., None] / 255),
        ("RGBA", np.concatenate([PIXELS[:2], OPAQUE], -1), "PNG", PIXELS[:2] / 255),
        ("I;16", DEEP, "PNG", DEEP[..., None] / 65535),
        ("I;16", DEEP, "TIFF", DEEP[..., None] / 65535),
        ("F", (DEEP / 65535).astype(np.float32), "TIFF", DEEP[..., None] / 65535),
    ],
)
def test_pixels_of_any_mode_are_scaled(tmp_path: Path, mode: str, pixels: Any, format: str, wanted: Any) -> None:
    images = [Image.fromarray(p) for p in pixels]
    assert {image.mode for image in images} == {mode}
    path = write(tmp_path / "a.parquet", [encoded(p, format) for p in pixels])
    expected = torch.from_numpy(np.asarray(wanted, dtype=np.float64)).permute(0, 3, 1, 2)
    torch.testing.assert_close(load(path).train[0].double(), expected, **NEAR)
    if expected.shape[1] == 1:
        torch.testing.assert_close(load(path, channels=3).train[0].double(), expected.expand(-1, 3, -1, -1), **NEAR)
    resized = load(path, size=12).train[0]
    assert resized.shape[2:] == (12, 12) and resized.min() >= 0 and resized.max() <= 1
    assert float(resized.mean()) == pytest.approx(float(expected.mean()), abs=0.05)


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS[0]).quantize(8)
    file = io.BytesIO()
    image.save(file, format="PNG")
    task = load(write(tmp_path / "a.parquet", [{"bytes": file.getvalue(), "path": None}], [0]))
    expected = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).float() / 255
    torch.testing.assert_close(task.train[0][0], expected, rtol=0, atol=0)


def test_deep_and_common_images_mix(tmp_path: Path) -> None:
    task = load(write(tmp_path / "a.parquet", [DEEP[0], GREY[0]], [0, 1]))
    torch.testing.assert_close(task.train[0][0, 0].double(), torch.from_numpy(DEEP[0] / 65535), **NEAR)
    torch.testing.assert_close(task.train[0][1, 0].double(), torch.from_numpy(GREY[0] / 255), **NEAR)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.concatenate([PIXELS[0], OPAQUE[0] - 1], -1), "transparent in places"),
        (DEEP[0].astype(np.float32), "floating-point numbers from .*; allowed are 0 to 1"),
        (np.full((6, 5), np.nan, dtype=np.float32), "floating-point numbers from nan"),
        (DEEP[0].astype(np.int32), "integers of the type .*I;32S.* in a TIFF, of which none is white"),
    ],
)
def test_pixels_without_a_scale_are_refused(tmp_path: Path, pixels: Any, message: str) -> None:
    path = write(tmp_path / "a.parquet", [encoded(pixels, "PNG" if pixels.ndim > 2 else "TIFF")], [0])
    with pytest.raises(ValueError, match=f"image 0 of split 'train' cannot be used: .*{message}"):
        load(path)


def png(pixels: Any, kind: int, transparent: bytes = b"") -> bytes:
    """Write a PNG of 16 bits: kind 0 is grey, 2 colour, 4 grey with alpha, 6 colour with alpha."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    extra = chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def pnm(pixels: Any, kind: bytes, white: int) -> bytes:
    return b"%s %d %d %d\n" % (kind, *pixels.shape[1::-1], white) + pixels.astype(">u2").tobytes()


def frames(format: str, count: int) -> bytes:
    file = io.BytesIO()
    first, *rest = (Image.fromarray(p) for p in PIXELS[:count])
    first.save(file, format=format, save_all=True, append_images=rest)
    return file.getvalue()


COLOURS = np.stack([DEEP[0], DEEP[1], DEEP[0]], -1)
OPAQUE_DEEP = np.full((6, 5), 65535, dtype=np.uint16)
CUT = "it has several channels of 16 bits, of which PIL only reads 8"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(COLOURS, 2), CUT),
        (png(np.stack([DEEP[0], OPAQUE_DEEP], -1), 4), CUT),
        (png(np.concatenate([COLOURS, OPAQUE_DEEP[..., None]], -1), 6), CUT),
        (pnm(COLOURS, b"P6", 65535), CUT),
        (pnm(COLOURS % 1024, b"P6", 1023), CUT),
        (png(DEEP[0], 0, int(DEEP[0, 2, 3]).to_bytes(2)), "it is transparent in places"),
        *((frames(format, 3), "it has 3 frames; make each") for format in ("GIF", "TIFF", "PNG", "WEBP")),
    ],
)
def test_images_that_would_lose_something_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"image 0 of split 'train' cannot be used: {message}"):
        load(write(tmp_path / "a.parquet", [content], [0]))


@pytest.mark.parametrize("white", [65535, 1023])
def test_deep_grey_of_other_formats_is_scaled(tmp_path: Path, white: int) -> None:
    pixels = np.minimum(DEEP[0], white)
    task = load(write(tmp_path / "a.parquet", [pnm(pixels, b"P5", white)], [0]))
    # What has fewer bits is rounded to 16.
    torch.testing.assert_close(task.train[0][0, 0].double(), torch.from_numpy(pixels / white), rtol=0, atol=1 / 131070)
    task = load(write(tmp_path / "b.parquet", [png(DEEP[0], 0)], [0]))
    torch.testing.assert_close(task.train[0][0, 0].double(), torch.from_numpy(DEEP[0] / 65535), **NEAR)


@pytest.mark.parametrize("format", ["GIF", "TIFF", "PNG", "WEBP"])
def test_one_frame_is_an_image(tmp_path: Path, format: str) -> None:
    assert load(write(tmp_path / "a.parquet", [frames(format, 1)], [0])).input_shape == (3, 6, 5)


def test_a_negative_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(DEEP[0]).save(file, format="TIFF", tiffinfo={262: 0})
    with pytest.raises(ValueError, match="it is a negative, in which 0 is white"):
        load(write(tmp_path / "a.parquet", [file.getvalue()], [0]))


@pytest.mark.parametrize("deep", [False, True])
def test_images_in_a_folder_are_turned_upright(tmp_path: Path, deep: bool) -> None:
    pixels = DEEP[0] if deep else GREY[0]
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x112] = 6  # the first row is on the right
    (tmp_path / "images").mkdir()
    for name in "ab":
        image.save(tmp_path / "images" / f"{name}.png", exif=exif)
    (tmp_path / "images" / "metadata.csv").write_text("file_name,label\na.png,0\nb.png,1\n")
    task = huggingface(path=str(tmp_path / "images"), test_split=None)
    expected = torch.from_numpy(np.rot90(pixels / (65535 if deep else 255), -1).copy())
    torch.testing.assert_close(task.train[0][0, 0].double(), expected, **NEAR)


def test_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r'pip install "basinet\[datasets\]"'):
        huggingface(path="mnist")
