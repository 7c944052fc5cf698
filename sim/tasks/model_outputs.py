"""Shapes of outputs and targets, brought together without broadcasting."""

from typing import Any

from torch import Tensor

from basinet.sim.data.nests import Nest, fields_of, leaves

__all__ = ["begins", "check_losses", "class_scores", "fit", "output_of"]


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
    try:
        return fit(outputs, (*targets.shape, outputs.shape[-1]), what)
    except ValueError as error:
        hint = "; multi-hot targets are given as floating-point numbers, or with a loss" if targets.ndim > 1 else ""
        raise ValueError(
            f"{error}: integer targets are class indices, and the last axis of the outputs is that of the classes{hint}"
        ) from None


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
    beside = [t for t in (targets, outputs) if isinstance(t, Tensor)]
    if not beside:
        right = losses.shape[:1] == leaves(batch)[0].shape[:1]
    elif losses.shape == beside[0].shape:
        return
    else:
        same = losses.shape[:1] == beside[0].shape[:1]
        right = same and any(begins(losses.shape, t.shape) for t in (*beside, *leaves(outputs)))
    if not right:
        shapes = [tuple(t.shape) for t in leaves(outputs)]
        of_targets = f" and targets of shape {tuple(targets.shape)}" if isinstance(targets, Tensor) else ""
        raise ValueError(
            f"loss returns the shape {tuple(losses.shape)} for outputs of shape {', '.join(map(str, shapes))}"
            f"{of_targets}, and not a loss for each sample"
        )
