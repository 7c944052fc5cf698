"""Image data sets from the Hugging Face hub, or from local files in a format that `datasets` reads."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from basinet.sim.data.rows import IGNORED
from basinet.sim.tasks.losses import CLASS_LOSSES, ClassLoss
from basinet.sim.tasks.task import TASKS, Batch, Task

if TYPE_CHECKING:
    import datasets

Files = str | Sequence[str]


@TASKS.register()
def huggingface(
    *,
    path: str,
    name: str | None = None,
    train_split: str = "train",
    test_split: str | None = "test",
    image: str = "image",
    label: str = "label",
    data_files: Files | Mapping[str, Files] | None = None,
    size: Annotated[int, Field(ge=1)] | None = None,
    channels: Literal[1, 3] | None = None,
    normalize: bool = False,
    loss: ClassLoss = "cross_entropy",
) -> Task:
    """Load an image classification task with `datasets.load_dataset`.

    Pixels of 8 bits, or 16 for greyscale, are scaled to [0, 1]; inputs are float32 [n, channels, height, width]. Labels
    that are words are numbered in alphabetical order.

    Args:
        path: Name of the data set on the hub ("ylecun/mnist"), a local folder, or a file format ("parquet",
            "imagefolder") for `data_files`.
        name: Configuration of the data set, if it has several.
        train_split: Split to train on; "train[:1000]" takes its first thousand samples.
        test_split: Split to test on, or None.
        image: Column of the images.
        label: Column of the labels.
        data_files: The files of each split, unless `path` determines them.
        size: Height and width to which images are resized; by default they are not resized and must all have the
            same size.
        channels: 1 for greyscale, 3 for colour; by default as stored.
        normalize: Whether to shift and scale each channel to mean 0 and variance 1 over the training images. The zeros
            that an augmentation shifts in are then the mean colour.
        loss: The cross-entropy, or half the squared distance of the outputs from the class's unit vector.

    Returns:
        A task with one output per class named by the label column, or the largest label plus one.

    Raises:
        ImportError: If `datasets` is not installed.
        ValueError: If a column does not exist or has the wrong contents, or if images differ in shape, are
            transparent, have several frames or would lose bits.

    Example:
        >>> task = huggingface(path="ylecun/mnist")  # doctest: +SKIP
        >>> task.input_shape, task.num_outputs  # doctest: +SKIP
        ((1, 28, 28), 10)
        >>> cifar = huggingface(path="uoft-cs/cifar100", image="img", label="fine_label")  # doctest: +SKIP
    """
    try:
        import datasets
    except ImportError as error:
        raise ImportError('The task huggingface needs the package datasets: pip install "basinet[datasets]"') from error

    parts: list[Batch] = []
    for split in (train_split, test_split):
        if split is None:
            continue
        try:
            data = datasets.load_dataset(path, name, data_files=data_files, split=split)
        except ValueError as error:  # the split does not exist or is empty
            raise ValueError(f"huggingface: split {split!r} cannot be loaded: {error}") from error
        _check_columns(data, split, (image, label))
        found = _labels(data, split, label)
        if not parts:
            names, words = getattr(data.features[label], "num_classes", 0), np.unique(found)
        labels = _numbered(found, words, split, label)
        parts.append(
            (_images(data.cast_column(image, datasets.Image(decode=False)), image, split, size, channels), labels)
        )
    if parts[0][0].shape[1:] != parts[-1][0].shape[1:]:
        shapes = " and ".join(str(tuple(images.shape[1:])) for images, _ in parts)
        raise ValueError(f"huggingface: the images of the splits have the shapes {shapes}; give a size and channels")
    if normalize:
        variance, mean = torch.var_mean(parts[0][0], dim=(0, 2, 3), correction=0, keepdim=True)
        # A constant channel is not scaled.
        scale = variance.sqrt().where(variance > 0, 1)
        parts = [((images - mean) / scale, labels) for images, labels in parts]
    task = CLASS_LOSSES[loss](
        train=parts[0],
        test=parts[1] if test_split is not None else None,
        num_outputs=max(names, 1 + max(0, int(parts[0][1].max()))),
        model="cnn",
    )
    task.check()
    return task


def _check_columns(data: "datasets.Dataset", split: str, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in data.column_names:
            raise ValueError(
                f"huggingface: split {split!r} has no column {column!r}, its columns are {', '.join(data.column_names)}"
            )


def _labels(data: "datasets.Dataset", split: str, column: str) -> NDArray[Any]:
    """Read the labels, which are class indices or words."""
    if len(data) == 0:
        raise ValueError(f"huggingface: split {split!r} is empty")
    values = data[column][:]
    if None in values:
        raise ValueError(f"huggingface: column {column!r} of split {split!r} has no label in row {values.index(None)}")
    labels = np.asarray(values)
    if labels.ndim == 1 and labels.dtype.kind == "U":
        return labels
    numbers = labels.astype(np.int64) if labels.ndim == 1 and labels.dtype.kind in "biu" else None
    wanted = (
        f"column {column!r} of split {split!r} has to hold class indices from 0 on ({IGNORED} for no label) or words"
    )
    if numbers is None:
        raise ValueError(f"huggingface: {wanted}, but is {data.features[column]} with the first entry {values[0]!r}")
    wrong = (numbers < 0) & (numbers != IGNORED)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"huggingface: {wanted}, but has the label {values[row]!r} in row {row}")
    return numbers


def _numbered(labels: NDArray[Any], words: NDArray[Any], split: str, column: str) -> Tensor:
    """Return class indices, int64; words are numbered in alphabetical order, identically in all splits."""
    if labels.dtype.kind != words.dtype.kind:
        raise ValueError(f"huggingface: column {column!r} holds words in one split and numbers in the other")
    if words.dtype.kind != "U":
        return torch.from_numpy(labels)
    unknown = labels[~np.isin(labels, words)]
    if len(unknown):
        raise ValueError(
            f"huggingface: column {column!r} of split {split!r} has the label {str(unknown[0])!r}, which is none of the"
            f" {len(words)} of the training split"
        )
    return torch.from_numpy(np.searchsorted(words, labels))


def _images(data: "datasets.Dataset", column: str, split: str, size: int | None, channels: int | None) -> Tensor:
    arrays, items = [], iter(data[column])
    for index in range(len(data)):
        try:
            item = next(items)
            if item is None:
                raise ValueError("it is null")
            arrays.append(_pixels(item, size, channels))
        except Exception as error:  # a decoder may raise anything
            raise ValueError(f"huggingface: image {index} of split {split!r} cannot be used: {error}") from error
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ValueError(
            f"huggingface: the images of split {split!r} have the shapes {sorted(shapes)};"
            " give a size and channels to make them alike"
        )
    if any(array.dtype != np.uint8 for array in arrays):
        arrays = [array.astype(np.float32) / 255 if array.dtype == np.uint8 else array for array in arrays]
    images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    return images if images.is_floating_point() else images.float() / 255


def _pixels(item: Mapping[str, Any], size: int | None, channels: int | None) -> NDArray[Any]:
    """Return the pixels of an encoded image, [height, width, channels]: uint8, or float32 in [0, 1] for more bits."""
    from PIL.Image import fromarray

    image, white = _decoded(item)
    if _is_transparent(image):
        raise ValueError("it is transparent in places; put it on a background first")
    deep = white is not None
    grey = deep or image.mode in ("1", "L", "LA") if channels is None else channels == 1
    if white is None:
        image = image.convert("L" if grey else "RGB")
    else:
        image = fromarray(np.asarray(image).astype(np.float32) / white)
    if size is not None:
        image = image.resize((size, size))
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    # Resizing splines overshoot, which 8-bit pixels cannot show.
    return np.repeat(pixels.clip(0, 1), 1 if grey else 3, axis=2) if deep else pixels


def _is_transparent(image: Any) -> bool:
    if image.mode.startswith("I"):
        return bool((np.asarray(image) == image.info.get("transparency", -1)).any())
    return bool(image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] < 255)


def _decoded(item: Mapping[str, Any]) -> tuple[Any, int | None]:
    """Decode an image; return it with its white level if it has more than 8 bits."""
    import fsspec  # type: ignore[import-untyped]
    from PIL.Image import open as open_image
    from PIL.ImageOps import exif_transpose

    content = fsspec.open(item["path"]) if item["bytes"] is None else io.BytesIO(item["bytes"])
    with content as file, open_image(file) as image:
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
