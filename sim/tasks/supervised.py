"""Tasks from the user's own data: torch data sets, tensors or arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from basinet.sim.data.rows import IGNORED
from basinet.sim.tasks.model_outputs import fit, output_of
from basinet.sim.tasks.task import Batch, Task

Data = Dataset[Any] | Sequence[Any]
"""A Dataset or list whose items are (input, target); or a pair of inputs and targets, tensors or arrays."""


@dataclass(frozen=True, kw_only=True)
class Regression(Task):
    """Regression with the mean squared error over the outputs as the loss of a sample."""

    classification: bool = False

    loss_words: ClassVar[str] = "squared error, without an accuracy, since the targets are numbers and not classes"

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Compute the squared error of each sample, averaged over its outputs.

        Args:
            outputs: Outputs of the model, [B, ..., num_outputs], or any shape if targets are [B, num_outputs].
            batch: Its targets are numbers of the same shape.

        Returns:
            Tensor [B, ...], not reduced.
        """
        outputs, targets = output_of(outputs), self.targets(batch)
        if outputs.ndim > 1 and targets.ndim == 2:
            outputs = outputs.flatten(1)
        outputs = fit(outputs, targets.shape, "the model returns outputs")
        errors = nn.functional.mse_loss(outputs, targets, reduction="none")
        return errors.mean(-1) if errors.ndim > 1 else errors


def supervised(
    train: Data,
    test: Data | None = None,
    *,
    classification: bool | None = None,
    model: str = "mlp",
) -> Task:
    """Turn a torch Dataset, or a pair of tensors or arrays, into a task.

    The items of a dataset are read once and stacked, which freezes any random augmentation. Tensors are not copied, and
    never written to.

    Args:
        train: A Dataset whose items are (input, target), or the tensors or numpy arrays (inputs, targets) themselves.
        test: Test data of the same form, or None.
        classification: Whether targets are class indices, with the cross-entropy as the loss; otherwise, it is the
            squared error. By default, integer targets are class indices. A label of −100 does not count.
        model: Name of the default model.

    Returns:
        A task with one output per class, or per number in a target.

    Raises:
        ValueError: If the data are not inputs and targets, items differ in shape, or test data differ in form from the
            training data; or if the targets of a classification are not class indices.

    Example:
        >>> import torch
        >>> task = supervised((torch.zeros(3, 5), torch.tensor([0, 2, 1])))
        >>> task.input_shape, task.num_outputs
        ((5,), 3)
    """
    parts = {name: _read(name, data) for name, data in (("train", train), ("test", test)) if data is not None}
    if "test" in parts:
        _check_alike(parts["train"], parts["test"])
    targets = parts["train"][1]
    if classification is None:
        classification = not targets.is_floating_point()
    if classification:
        parts = {name: (inputs, _classes(name, targets)) for name, (inputs, targets) in parts.items()}
        num_outputs = 1 + max(0, int(parts["train"][1].max()))
    else:
        # Integers as float64, to be rounded to the run's type if needed.
        parts = {
            name: (inputs, (t if t.is_floating_point() else t.double()).reshape(len(t), -1))
            for name, (inputs, t) in parts.items()
        }
        num_outputs = parts["train"][1].shape[1]
    task = (Task if classification else Regression)(
        train=parts["train"],
        test=parts.get("test"),
        num_outputs=num_outputs,
        model=model,
        classification=classification,
    )
    task.check()
    return task


def _read(name: str, data: Data) -> tuple[Tensor, Tensor]:
    """Return the inputs and the targets."""
    if isinstance(data, DataLoader):
        raise ValueError(
            f"{name} is a DataLoader; give the data set that it reads, `loader.dataset`, since the agents"
            " draw their own batches (batch_size, sampling)"
        )
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, Dataset) or _is_list_of_items(data):
        data = _collate(name, data)
    if not isinstance(data, tuple | list):
        raise ValueError(
            f"{name} is a {type(data).__name__}; allowed are a Dataset of (input, target), and a pair"
            " (inputs, targets) of tensors or numpy arrays"
        )
    if len(data) != 2:
        raise ValueError(
            f"{name} holds {len(data)} entries ({', '.join(type(d).__name__ for d in data)}), where"
            " inputs and targets are wanted; with test data it is ((inputs, targets), (test inputs, test targets))"
        )
    inputs, targets = (_tensor(f"the {what} of {name}", d) for what, d in zip(("inputs", "targets"), data, strict=True))
    if targets.is_complex():
        raise ValueError(f"the targets of {name} are complex numbers, which no loss here takes")
    if not len(inputs) == len(targets) > 0:
        raise ValueError(f"{name} has {len(inputs)} inputs and {len(targets)} targets")
    return inputs, targets


def is_data_set(given: Any) -> bool:
    """Return whether something holds inputs and targets, and is not one of the two.

    Args:
        given: Anything.

    Returns:
        Whether it is a Dataset, a tuple, a list of pairs (input, target), or a list of two arrays.
    """
    if isinstance(given, list):
        return _is_list_of_items(given) or (len(given) == 2 and all(getattr(part, "ndim", 0) > 0 for part in given))
    return isinstance(given, Dataset | DataLoader | tuple)


def is_list_of_samples(given: Any) -> bool:
    """Return whether something is a list of samples (input, target) rather than of data sets.

    Args:
        given: Anything.

    Returns:
        Whether it is a list of pairs whose targets are single numbers.
    """
    return bool(given) and _is_list_of_items(given) and all(_is_number(target) for _, target in given)


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float | np.generic) or (isinstance(given, Tensor | np.ndarray) and given.ndim == 0)


def _is_list_of_items(data: Any) -> bool:
    return isinstance(data, list) and all(isinstance(item, tuple) and len(item) == 2 for item in data)


def _tensor(what: str, data: Any) -> Tensor:
    """Return tensors as they are, and convert arrays, tables and lists."""
    if isinstance(data, Tensor):
        found = data.detach()
    else:
        try:
            tensors = isinstance(data, list | tuple) and data and all(isinstance(item, Tensor) for item in data)
            array = np.asarray(torch.stack(list(data)) if tensors else data)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{what} make no array: {str(error).splitlines()[0]}") from error
        kind, size = array.dtype.kind, array.dtype.itemsize
        if kind not in "biufc" or size > (16 if kind == "c" else 8) or np.ma.is_masked(data):
            words = array.size and isinstance(array.flat[0], str)
            hint = "; numpy.unique(…, return_inverse=True) turns words into class indices" if words else ""
            raise ValueError(f"{what} are a {type(data).__name__} of {array.dtype}, where numbers are needed{hint}")
        # Native byte order, contiguous and writable, as torch requires; copied only if needed.
        found = torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    if found.ndim == 0:
        raise ValueError(f"{what} are a single number, {data!r}")
    return found


def _check_alike(train: Batch, test: Batch) -> None:
    """Raise if test data differ in shape or type from the training data."""
    for what, ours, theirs in zip(("inputs", "targets"), train, test, strict=True):
        if ours.shape[1:] != theirs.shape[1:]:
            raise ValueError(
                f"the {what} of test have the shape {tuple(theirs.shape[1:])}, and those of train"
                f" {tuple(ours.shape[1:])}"
            )
        kinds = [(t.is_floating_point(), t.is_complex()) for t in (ours, theirs)]
        if kinds[0] != kinds[1]:
            raise ValueError(f"the {what} of test are {theirs.dtype}, and those of train {ours.dtype}")


def _classes(name: str, targets: Tensor) -> Tensor:
    """Return class indices, int64; a column is flattened."""
    found = targets.long()
    wrong = (found < 0) & (found != IGNORED)
    if targets.is_floating_point():
        wrong |= found != targets  # catches NaN, too
    if wrong.any():
        raise ValueError(
            "the targets of a classification have to be integers from 0 on (or"
            f" {IGNORED} for no label), and {name} has {targets[wrong][0].item()}"
        )
    return found.flatten() if found.numel() == len(found) else found


def _collate(name: str, data: Any) -> Batch:
    """Read the items of a data set and stack them."""
    if isinstance(data, IterableDataset):
        raise ValueError(f"{name} is an IterableDataset, which has no length; if it ends, give supervised(list(data))")
    if not hasattr(data, "__len__"):
        raise ValueError(f"{name} is a {type(data).__name__} without a length")
    items = []
    for index in range(len(data)):
        try:
            item = data[index]
        except Exception as error:  # the user's data set may raise anything
            raise ValueError(f"item {index} of {name} raises {type(error).__name__}: {error}") from error
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(f"item {index} of {name} is a {type(item).__name__}, not (input, target)")
        items.append(item)
    if not items:
        raise ValueError(f"{name} is empty")
    try:
        return tuple(default_collate(items))
    except (TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"the items of {name} cannot be stacked into tensors of one shape: {error}") from error
