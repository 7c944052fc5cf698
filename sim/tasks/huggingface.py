"""Image sets of the Hugging Face hub, or of local files in a form that `datasets` reads."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from basinet.sim.tasks.losses import CLASS_LOSSES, ClassLoss
from basinet.sim.tasks.task import Task

if TYPE_CHECKING:
    import datasets

Files = str | Sequence[str]


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
    """Load an image classification with `datasets.load_dataset`.

    Pixels are scaled to [0, 1], inputs are float32 [n, channels, height, width]. A column that does not exist
    or does not hold what it should, and images that differ in shape, are a ValueError.

    Args:
        path: Name of the set on the hub ("ylecun/mnist"), a local folder, or a form of files ("parquet",
            "imagefolder") that `data_files` lists.
        name: Configuration of the set, where it has several.
        train_split: Split to train on; "train[:1000]" takes its first thousand samples.
        test_split: Split to test on, or None.
        image: Column of the images.
        label: Column of the labels.
        data_files: The files of each split, where `path` does not tell them.
        size: Height and width to which images are resized; by default they are left as they are and have to
            be of one size.
        channels: 1 for grey and 3 for colour; by default as each image is stored.
        normalize: Whether each channel is shifted and scaled so that it has mean 0 and variance 1 over the training
            images. What an augmentation shifts in, which is 0, is then the mean colour.
        loss: The cross-entropy, or half the squared distance of the outputs from the class's unit vector.

    Returns:
        A task with as many outputs as the label column names classes, or its largest label plus one.

    Raises:
        ImportError: If `datasets` is not installed.

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

    parts = []
    num_outputs = 0
    for split in (train_split, test_split):
        if split is None:
            continue
        data = datasets.load_dataset(path, name, data_files=data_files, split=split)
        _check_columns(data, split, (image, label))
        images = data.cast_column(image, datasets.Image())
        labels = _labels(data, split, label)
        names = getattr(data.features[label], "num_classes", 0)
        num_outputs = max(num_outputs, names, int(labels.max()) + 1)
        parts.append((_images(images, image, split, size, channels), labels))
    if normalize:
        variance, mean = torch.var_mean(parts[0][0], dim=(0, 2, 3), correction=0, keepdim=True)
        # A channel that is the same everywhere has nothing to be scaled.
        scale = variance.sqrt().where(variance > 0, 1)
        parts = [((images - mean) / scale, labels) for images, labels in parts]
    return CLASS_LOSSES[loss](
        train=parts[0],
        test=parts[1] if test_split is not None else None,
        num_outputs=num_outputs,
        model="cnn",
    )


def _check_columns(data: "datasets.Dataset", split: str, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in data.column_names:
            raise ValueError(
                f"huggingface: split {split!r} has no column {column!r}, its columns are {', '.join(data.column_names)}"
            )


def _labels(data: "datasets.Dataset", split: str, column: str) -> Tensor:
    labels = np.asarray(data[column][:])
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.min(initial=0) < 0:
        raise ValueError(
            f"huggingface: column {column!r} of split {split!r} has to hold class indices from 0 on,"
            f" but is {data.features[column]} with the first entry {data[0][column]!r}"
        )
    return torch.from_numpy(labels.astype(np.int64))


def _images(data: "datasets.Dataset", column: str, split: str, size: int | None, channels: int | None) -> Tensor:
    arrays = [_pixels(item, size, channels) for item in data[column]]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ValueError(
            f"huggingface: the images of split {split!r} have the shapes {sorted(shapes)};"
            " give a size and channels to make them alike"
        )
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous().float() / 255


def _pixels(image: Any, size: int | None, channels: int | None) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the pixels of a PIL image, [height, width, channels]."""
    grey = image.mode in ("1", "L") if channels is None else channels == 1
    image = image.convert("L" if grey else "RGB")
    if size is not None:
        image = image.resize((size, size))
    return np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, -1)
