"""Shapes of outputs and targets, brought together without broadcasting."""

from typing import Any

from torch import Tensor

from basinet.sim.data.nests import Nest, fields_of, leaves
from basinet.sim.data.rows import length

__all__ = ["begins", "check_losses", "check_rows", "class_scores", "fit", "output_of"]


def output_of(outputs: Any) -> Tensor:
    """Find the predictions among the outputs of a model.

    Args:
        outputs: What the model returned: a tensor; a mapping or dataclass with a field `logits`; or a nest.

    Returns:
        The tensor itself, the field, or else the first tensor.

    Raises:
        ValueError: If there is no tensor.
    """
    if isinstance(outputs, Tensor):
        return outputs
    found = fields_of(outputs).get("logits")
    tensors = [found] if isinstance(found, Tensor) else leaves(outputs)
    if not tensors:
        raise ValueError(f"the model returns a {type(outputs).__name__} without a tensor")
    return tensors[0]


def fit(given: Tensor, shape: tuple[int, ...], what: str) -> Tensor:
    """Reshape a tensor to a shape that only differs in axes of length one, so that nothing is broadcast.

    Args:
        given: A tensor [B, ...].
        shape: The shape.
        what: What the tensor is, for error messages.

    Returns:
        A tensor of that shape.

    Raises:
        ValueError: If the shapes differ otherwise.
    """
    if given.shape == shape:
        return given
    if given.shape[:1] == shape[:1] and _long(given.shape) == _long(shape):
        return given.reshape(shape)
    raise ValueError(f"{what} of shape {tuple(given.shape)}, where {tuple(shape)} is wanted")


def _long(shape: tuple[int, ...]) -> list[int]:
    """List the axes of a sample that are longer than one."""
    return [length for length in shape[1:] if length != 1]


def begins(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Return whether one shape begins with the other, up to axes of length one.

    Args:
        shape: The longer shape.
        other: The other.

    Returns:
        Whether it does.
    """
    length = _long(shape)
    return _long(other)[: len(length)] == length


def class_scores(outputs: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Reshape the outputs of a classifier to match its targets.

    Args:
        outputs: Outputs of the model, [B, ..., C].
        targets: Class indices, [B, ...].
        num_classes: Number of classes, at most C.

    Returns:
        Tensor [*targets.shape, C].

    Raises:
        ValueError: If there is not one score for each class and target, the classes last.
    """
    if outputs.ndim == 0 or outputs.shape[-1] < num_classes:
        raise ValueError(f"the model returns outputs of shape {tuple(outputs.shape)} for {num_classes} classes")
    what = f"for targets of shape {tuple(targets.shape)} the model returns outputs"
    if outputs.shape[1:2] == (num_classes,) and outputs.ndim > 2 and outputs.shape[2:] == targets.shape[1:]:
        what = f"the classes have to be the last dimension (outputs.movedim(1, -1)); {what}"
    try:
        return fit(outputs, (*targets.shape, outputs.shape[-1]), what)
    except ValueError as error:
        hint = "; multi-hot targets are given as floating-point numbers, or with a loss" if targets.ndim > 1 else ""
        raise ValueError(
            f"{error}: integer targets are class indices, and the last axis of the outputs is that of the classes{hint}"
        ) from None


def check_rows(weights: Any, batch: Nest) -> None:
    """Raise if weights are not numbers for each sample.

    Args:
        weights: What a task returns as the weights of the batch.
        batch: The batch.

    Raises:
        ValueError: If they are no tensor [B, ...].
    """
    if weights is not None and not (isinstance(weights, Tensor) and weights.shape[:1] == (length(batch),)):
        got = f"shape {tuple(weights.shape)}" if isinstance(weights, Tensor) else f"type {type(weights).__name__}"
        raise ValueError(
            f"weights of {got} for {length(batch)} samples; allowed is a tensor with a row for each sample"
        )


def check_losses(losses: Tensor, outputs: Nest, targets: Any, batch: Nest) -> None:
    """Raise if there is not a loss for each sample, for example because outputs and targets were broadcast.

    Args:
        losses: The losses.
        outputs: The outputs of the model.
        targets: The targets.
        batch: The batch that they are from.

    Raises:
        ValueError: If the shape of the losses is not that of the targets or outputs, or of their first dimensions.
    """
    if isinstance(targets, Tensor) and losses.shape == targets.shape:  # the usual case
        return
    beside = [*leaves(targets), *leaves(outputs)] if isinstance(targets, Tensor) else [*leaves(outputs), *leaves(batch)]
    samples = length(batch) if targets is None else len(leaves(targets)[0])
    if losses.shape[:1] != (samples,) or not any(begins(losses.shape, t.shape) for t in beside):
        shapes = [tuple(t.shape) for t in leaves(outputs)]
        of_targets = f" and targets of shape {tuple(targets.shape)}" if isinstance(targets, Tensor) else ""
        raise ValueError(
            f"loss returns the shape {tuple(losses.shape)} for outputs of shape {', '.join(map(str, shapes))}"
            f"{of_targets}, and not a loss for each sample"
        )
