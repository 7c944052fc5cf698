"""A task from the user's own torch data."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset, default_collate

from basinet.sim.tasks.task import Batch, Task


@dataclass(frozen=True, kw_only=True)
class Regression(Task):
    """Targets are vectors of numbers, and the loss of a sample is the mean squared error over its outputs."""

    classification: bool = False

    def sample_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the squared error of each sample, a mean over its outputs.

        Args:
            outputs: What the model returned, [B, ..., num_outputs].
            targets: Numbers of the same shape.

        Returns:
            Tensor [B, ...], not reduced.
        """
        return nn.functional.mse_loss(outputs, targets, reduction="none").mean(-1)


def supervised(
    train: Dataset[Any] | Batch,
    test: Dataset[Any] | Batch | None = None,
    *,
    classification: bool | None = None,
    model: str = "mlp",
) -> Task:
    """Turn a torch Dataset, or a pair of tensors, into a task.

    The items of a dataset are read once and stacked, so a random augmentation is frozen as it was drawn.

    Args:
        train: A Dataset whose items are (input, target), or the tensors (inputs, targets) themselves.
        test: Test data of the same form, or None.
        classification: Whether targets are class indices: the loss is the cross-entropy then, and otherwise
            the squared error. By default they are where targets are integers.
        model: Name of the model that is used when an experiment names none.

    Returns:
        A task with as many outputs as there are classes, or numbers in a target.

    Raises:
        ValueError: If the items are not pairs of an input and a target, or have different shapes, or if
            targets are not class indices where a classification is wanted.

    Example:
        >>> import torch
        >>> task = supervised((torch.zeros(3, 5), torch.tensor([0, 2, 1])))
        >>> task.input_shape, task.num_outputs
        ((5,), 3)
    """
    parts = [_stack(name, data) for name, data in (("train", train), ("test", test)) if data is not None]
    if classification is None:
        classification = not parts[0][1].is_floating_point()
    if classification:
        for _, targets in parts:
            if targets.is_floating_point() or targets.min() < 0:
                raise ValueError("supervised: the targets of a classification have to be integers from 0 on")
        parts = [(inputs, targets.long()) for inputs, targets in parts]
        num_outputs = 1 + max(int(targets.max()) for _, targets in parts)
    else:
        parts = [(inputs, targets.to(inputs.dtype).reshape(len(targets), -1)) for inputs, targets in parts]
        num_outputs = parts[0][1].shape[1]
    return (Task if classification else Regression)(
        train=parts[0],
        test=parts[1] if len(parts) > 1 else None,
        num_outputs=num_outputs,
        model=model,
        classification=classification,
    )


def _stack(name: str, data: Dataset[Any] | Batch) -> tuple[Tensor, Tensor]:
    if isinstance(data, TensorDataset):
        data = data.tensors
    if not isinstance(data, tuple):
        data = _collate(name, data)
    if len(data) != 2 or not all(isinstance(tensor, Tensor) for tensor in data):
        raise ValueError(f"supervised: {name} holds {len(data)} entries a sample, not (input, target)")
    inputs, targets = data
    if not len(inputs) == len(targets) > 0:
        raise ValueError(f"supervised: {name} has {len(inputs)} inputs and {len(targets)} targets")
    return inputs, targets


def _collate(name: str, data: Dataset[Any]) -> Batch:
    indices = range(len(data))  # type: ignore[arg-type]
    items = list(data) if isinstance(data, Iterable) else [data[index] for index in indices]
    if not items:
        raise ValueError(f"supervised: {name} is empty")
    for index, item in enumerate(items):
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(f"supervised: item {index} of {name} is a {type(item).__name__}, not (input, target)")
    try:
        return tuple(default_collate(items))
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"supervised: the items of {name} cannot be stacked into tensors of one shape: {error}"
        ) from error
