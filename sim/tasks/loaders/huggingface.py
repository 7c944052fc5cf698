"""Data sets from the Hugging Face hub, or from local files in a format that `datasets` reads."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from basinet.sim.data.rows import IGNORED
from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import ExperimentError, first_line
from basinet.sim.tasks.loaders.images import Decoder, normalized
from basinet.sim.tasks.losses import ClassLoss, with_loss
from basinet.sim.tasks.supervised import supervised
from basinet.sim.tasks.task import TASKS, Task

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
    inputs: Sequence[str] | None = None,
    target: str | None = None,
    aside: Sequence[str] | None = None,
    data_files: Files | Mapping[str, Files] | None = None,
    size: Annotated[int, Field(ge=1)] | None = None,
    channels: Literal[1, 3] | None = None,
    normalize: bool = False,
    loss: ClassLoss = "cross_entropy",
    lazy: bool | Literal["auto"] = "auto",
    cache: str | None = None,
) -> Task:
    """Load a task with `datasets.load_dataset`, by default the classification of images.

    Pixels of 8 bits, or 16 for greyscale, are scaled to [0, 1]; images are float32 [n, channels, height, width]. Labels
    that are words, or integers that do not begin at 0, are numbered in ascending order.

    Args:
        path: Name of the data set on the hub ("ylecun/mnist"), a local folder, or a file format ("parquet",
            "imagefolder") for `data_files`.
        name: Configuration of the data set, if it has several.
        train_split: Split to train on; "train[:1000]" takes its first thousand samples.
        test_split: Split to test on, or None.
        image: Column of the images.
        label: Column of the labels.
        inputs: Columns of the inputs, instead of `image`: images, numbers or lists of as many numbers. Of several, the
            model takes those that its forward names.
        target: Column of the numbers to be predicted, instead of the classes in `label`.
        aside: Columns that are no inputs but by which the samples may be partitioned, such as a user.
        data_files: The files of each split, unless `path` determines them.
        size: Height and width to which images are resized; by default they are not resized and must all have the
            same size.
        channels: 1 for greyscale, 3 for colour; by default as stored.
        normalize: Whether to shift and scale each channel to mean 0 and variance 1 over the training images. The zeros
            that an augmentation shifts in are then the mean colour.
        loss: The cross-entropy, or half the squared distance of the outputs from the class's unit vector.
        lazy: Whether samples are read when they are needed; "auto" if they do not fit well into memory.
        cache: Folder for decoded samples, shared by all runs that read the same ones; see `supervised`.

    Returns:
        A task with one output per class named by the label column, or the largest label plus one; or per number in a
        target.

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
    columns = [image] if inputs is None else list(inputs)
    goal = label if target is None else target
    splits = load_splits(path, name, (train_split, test_split), data_files, (*columns, goal, *(aside or ())))
    images = [c for c in columns if inputs is None or _is_image(splits[0][1].features[c])]
    if target is None:
        targets, classes = numbered_labels(splits, goal)
    else:
        targets, classes = [_numbers(data, split, goal) for split, data in splits], None
    sources = [
        _Rows(data, split, columns, images, goal, found, Decoder(size, channels))
        for (split, data), found in zip(splits, targets, strict=True)
    ]
    beside = {name: np.asarray(splits[0][1][name][:]).astype(str) for name in aside or ()}
    task = supervised(
        sources[0],
        sources[1] if test_split is not None else None,
        model="cnn",
        classification=target is None,
        num_outputs=classes,
        target=goal if len(columns) > 1 else None,
        columns=beside,
        lazy=lazy,
        cache=cache,
    )
    if normalize:
        task = normalized(task)
    return with_loss(task, loss) if target is None else task


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Turn what `datasets` raises, errors of any type and many lines, into a sentence.

    Args:
        what: What is loaded, the beginning of the sentence.

    Raises:
        ImportError: If a package is missing.
        ValueError: If it cannot be loaded.
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        from datasets.table import CastError

        cause = error.__cause__ or error  # the error itself may say no more than that there was one
        reason = f"its files differ, since {cause.details()}" if isinstance(cause, CastError) else first_line(cause)
        raise ValueError(f"{what} cannot be loaded: {reason}") from error


def load_splits(
    path: str,
    name: str | None,
    splits: Sequence[str | None],
    data_files: Files | Mapping[str, Files] | None,
    columns: Sequence[str],
) -> list[tuple[str, "datasets.Dataset"]]:
    """Load splits of a data set.

    Args:
        path: See `huggingface`.
        name: See `huggingface`.
        splits: Names of the splits; None is left out.
        data_files: See `huggingface`.
        columns: Columns that each must have.

    Returns:
        Names and rows of the splits.

    Raises:
        ImportError: If `datasets` is not installed.
        ValueError: If a split or a column does not exist.
    """
    found = []
    for split in splits:
        if split is None:
            continue
        with loading(f"huggingface: split {split!r}"):
            data = load_split(path, name, split, data_files)
        for column in columns:
            if column not in data.column_names:
                known = ", ".join(data.column_names)
                raise ValueError(f"huggingface: split {split!r} has no column {column!r}, its columns are {known}")
        found.append((split, data))
    return found


def load_split(
    path: str, name: str | None, split: str, data_files: Files | Mapping[str, Files] | None
) -> "datasets.Dataset":
    """Load a split of a data set, or of a folder that `save_to_disk` wrote.

    Args:
        path: See `huggingface`.
        name: See `huggingface`.
        split: Name of the split.
        data_files: See `huggingface`.

    Returns:
        Its rows.

    Raises:
        ImportError: If `datasets` is not installed.
        ValueError: If a saved folder has no such split.
    """
    try:
        import datasets
    except ImportError as error:
        raise ImportError(f'{path} needs the package datasets: pip install "basinet[datasets]"') from error
    if not any((Path(path) / file).is_file() for file in ("dataset_dict.json", "state.json")):
        return datasets.load_dataset(path, name, data_files=data_files, split=split)
    saved = datasets.load_from_disk(path)
    splits = saved if isinstance(saved, dict) else {str(saved.split or "train"): saved}
    if split not in splits:
        raise ValueError(f"{path} has no split {split!r}; allowed is {', '.join(splits)}")
    return splits[split]


def numbered_labels(
    splits: Sequence[tuple[str, "datasets.Dataset"]], column: str
) -> tuple[list[NDArray[np.int64]], int]:
    """Read the classes of all rows, numbered in the same way in all splits.

    Args:
        splits: Names and rows of the splits, the training split first.
        column: Column of the labels: integers, or words.

    Returns:
        Class of each row, for each split; and the number of classes.

    Raises:
        ValueError: If a label is missing or no class, or none of the training split's.
    """
    labels = [_labels(data, split, column) for split, data in splits]
    named = getattr(splits[0][1].features[column], "num_classes", 0)
    classes = None if named else _classes(labels[0])
    if classes is not None:
        labels = [_numbered(found, classes, split, column) for found, (split, _) in zip(labels, splits, strict=True)]
    return labels, max(named, 1 + max(0, int(labels[0].max())))


def _is_image(feature: Any) -> bool:
    """Return whether a column holds images, decoded by `datasets` or not."""
    kind = type(feature).__name__
    return (
        kind == "Image"
        or getattr(feature, "dtype", "") == "binary"
        or (isinstance(feature, dict) and "bytes" in feature)
    )


class _Rows:
    """The rows of a split: (input, target), or all columns by name if there are several inputs.

    Attributes:
        targets: The target of each row.
    """

    def __init__(
        self,
        data: "datasets.Dataset",
        split: str,
        columns: Sequence[str],
        images: Sequence[str],
        target: str,
        targets: NDArray[Any],
        decoder: Decoder,
    ) -> None:
        import datasets

        for column in images:
            data = data.cast_column(column, datasets.Image(decode=False))
        self.data = data.select_columns([*columns])
        self.split, self.columns, self.images = split, columns, images
        self.target, self.targets, self.decoder = target, torch.from_numpy(targets), decoder

    @property
    def fingerprint(self) -> str:
        """What identifies the content, which `datasets` keeps track of."""
        return digest([self.data._fingerprint, self.target, self.targets, self.decoder.size, self.decoder.channels])

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> Any:
        found = dict(self.data[row])
        for column in self.columns:
            if column in self.images:
                found[column] = self.decoder(found[column], f"huggingface: image {row} of split {self.split!r}")
            elif found[column] is None:
                raise ExperimentError(
                    f"task: huggingface: column {column!r} of split {self.split!r} has no value in row {row}"
                )
            elif not isinstance(found[column], str):
                found[column] = torch.as_tensor(found[column])
        target = self.targets[row]
        return {**found, self.target: target} if len(self.columns) > 1 else (found[self.columns[0]], target)


def _numbers(data: "datasets.Dataset", split: str, column: str) -> NDArray[Any]:
    """Read targets that are numbers, or lists of as many numbers."""
    if len(data) == 0:
        raise ValueError(f"huggingface: split {split!r} is empty")
    values = data[column][:]
    if None in values:
        raise ValueError(f"huggingface: column {column!r} of split {split!r} has no value in row {values.index(None)}")
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"huggingface: column {column!r} of split {split!r} holds no numbers: {error}") from error


def _labels(data: "datasets.Dataset", split: str, column: str) -> NDArray[Any]:
    """Read the labels, which are integers or words."""
    if len(data) == 0:
        raise ValueError(f"huggingface: split {split!r} is empty")
    values = data[column][:]
    if None in values:
        raise ValueError(f"huggingface: column {column!r} of split {split!r} has no label in row {values.index(None)}")
    labels = np.asarray(values)
    if labels.ndim == 1 and labels.dtype.kind == "U":
        return labels
    wanted = f"column {column!r} of split {split!r} has to hold classes, integers ({IGNORED} for no label) or words"
    if labels.ndim != 1 or labels.dtype.kind not in "biu":
        raise ValueError(
            f"huggingface: {wanted}, but is {data.features[column]} with the first entry {values[0]!r}; target= names a"
            " column of numbers"
        )
    numbers = labels.astype(np.int64)
    wrong = (numbers < 0) & (numbers != IGNORED)
    if wrong.any() and hasattr(data.features[column], "num_classes"):  # there, -1 stands for an unknown label
        row = int(wrong.argmax())
        raise ValueError(f"huggingface: {wanted}, but has the label {values[row]!r} in row {row}")
    return numbers


def _classes(labels: NDArray[Any]) -> NDArray[Any] | None:
    """Return the classes in the order of their numbers; None for integers that are their numbers."""
    found = np.unique(labels[labels != IGNORED] if labels.dtype.kind != "U" else labels)
    return None if found.dtype.kind != "U" and (len(found) == 0 or found[0] == 0) else found


def _numbered(labels: NDArray[Any], classes: NDArray[Any], split: str, column: str) -> NDArray[np.int64]:
    """Return the numbers of classes, which are the same in all splits."""
    if labels.dtype.kind != classes.dtype.kind:
        raise ValueError(f"huggingface: column {column!r} holds words in one split and numbers in the other")
    ignored = np.zeros(len(labels), bool) if labels.dtype.kind == "U" else labels == IGNORED
    unknown = labels[~np.isin(labels, classes) & ~ignored]
    if len(unknown):
        raise ValueError(
            f"huggingface: column {column!r} of split {split!r} has the label {unknown[0].item()!r}, which is none of"
            f" the {len(classes)} of the training split"
        )
    places = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    return np.where(ignored, IGNORED, places).astype(np.int64)
