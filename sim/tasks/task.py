"""Tasks: data, loss and metrics."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from basinet.topologies.registry import Registry

Batch = tuple[Tensor, ...]
"""Tensors that share their first dimension: inputs, then targets."""

IGNORED = -100
"""The label for "none", as in torch's cross-entropy: ignored by the loss and the accuracy."""


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


def _begins(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Return whether one shape begins with the other, up to axes of length one."""
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
        ValueError: If there is not one score for each class and target.
    """
    if outputs.ndim == 0 or outputs.shape[-1] < num_classes:
        raise ValueError(f"the model returns outputs of shape {tuple(outputs.shape)} for {num_classes} classes")
    what = f"for targets of shape {tuple(targets.shape)} the model returns outputs"
    return fit(outputs, (*targets.shape, outputs.shape[-1]), what)


@dataclass(frozen=True, kw_only=True)
class Task:
    """Data, a loss and metrics, for a single model.

    A task is supervised: a model maps inputs to outputs, and the loss of a batch is the mean over its
    elements of `sample_loss(outputs, targets)`. A task with another loss overrides `loss`; the agents are then batched
    with `torch.vmap`. Labels of −100 in a classification do not count: means over a batch or over all data are over the
    others, and 0 if there are none.

    Attributes:
        train: Training data, tensors [n, ...] that share their first dimension: inputs, then targets.
        test: Test data of the same form, or None.
        num_outputs: Number of outputs of a model for one sample (classes, or coordinates).
        model: Name of the default model.
        classification: Whether targets are class indices, so that accuracy is defined.
    """

    train: Batch
    test: Batch | None = None
    num_outputs: int
    model: str = "mlp"
    classification: bool = True

    loss_words: ClassVar[str] = "cross-entropy, since the targets are classes"
    """The loss that the class defines, in words, for the record of a run."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without those derived from the data."""
        return {name: value for name, value in vars(self).items() if name != "ignores"}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input sample."""
        return tuple(self.train[0].shape[1:])

    @property
    def labels(self) -> Tensor | None:
        """Class of each training sample, int64 [n], or None if samples do not have exactly one class."""
        targets = self.train[-1]
        return targets.flatten() if self.classification and targets.numel() == len(targets) else None

    @cached_property
    def ignores(self) -> bool:
        """Whether some labels are −100, or may be, as in fresh samples."""
        if not self.classification:
            return False
        targets = [data[-1] for data in self.measured().values()]
        return self.draw is not None or any(t.dtype.is_signed and bool((t == IGNORED).any()) for t in targets)

    def counts(self, targets: Tensor) -> Tensor | None:
        """Count the labels of each sample that are not −100.

        Args:
            targets: [n, ...].

        Returns:
            int64 [n]; None if all labels of the task count.
        """
        return (targets != IGNORED).reshape(len(targets), -1).sum(1) if self.ignores else None

    @property
    def about_loss(self) -> str:
        """The loss, and how many training labels do not count, in words."""
        owner = next(kind for kind in type(self).__mro__ if {"loss", "sample_loss"} & vars(kind).keys())
        words = vars(owner).get("loss_words", f"that of {owner.__name__}")
        counts, total = self.counts(self.train[-1]), self.train[-1].numel()
        return words if counts is None else f"{words}; {total - int(counts.sum())} of {total} labels do not count"

    def check(self) -> None:
        """Check the requirements on every task.

        Raises:
            ValueError: If the data are not tensors of equal length, or the targets of a classification are not class
                indices.
        """
        for name, data in self.measured().items():
            if not (isinstance(data, tuple) and data and all(isinstance(t, Tensor) and t.ndim for t in data)):
                raise ValueError(f"{name} has to be a tuple of tensors (inputs, targets); `supervised` makes such")
            if len({len(t) for t in data}) > 1 or len(data[0]) == 0:
                raise ValueError(f"{name} has {' and '.join(str(len(t)) for t in data)} entries, not as many each")
            if any(t.layout != torch.strided or t.is_quantized or t.is_meta for t in data):
                raise ValueError(f"{name} holds sparse, quantized or meta tensors; allowed are dense ones")
        for name, data in self.measured().items():
            if self.classification and type(self).predict is Task.predict:
                self._check_labels(name, data[-1])
            if self._size(data) == 0:
                raise ValueError(f"no label of {name} counts: all are {IGNORED}")
        if self.ignores and self.draw is None and type(self).loss is not Task.loss:
            raise ValueError(
                f"labels of {IGNORED} are left out of the mean over a `sample_loss`, and {type(self).__name__} has a"
                " `loss` of its own"
            )

    def measured(self) -> dict[str, Batch]:
        """Return the data that `evaluate` measures.

        Returns:
            `train`, and `test` if it exists and the task does not measure in its own way.
        """
        if self.test is None or type(self).evaluate is not Task.evaluate:
            return {"train": self.train}
        return {"train": self.train, "test": self.test}

    def _check_labels(self, name: str, targets: Tensor) -> None:
        if targets.dtype != torch.int64:
            raise ValueError(
                f"the targets of {name} are of type {str(targets.dtype).removeprefix('torch.')}, and those of a"
                " classification are class indices of type int64; give these, or classification=False, or a `predict`"
            )
        counted = targets[targets != IGNORED]
        low, high = (int(counted.min()), int(counted.max())) if len(counted) else (0, 0)
        if low < 0 or high >= self.num_outputs:
            raise ValueError(
                f"the targets of {name} run from {low} to {high}; allowed are the classes 0 to"
                f" {self.num_outputs - 1}, and {IGNORED} for what has none"
            )

    @property
    def draw(self) -> Callable[[Tensor, Tensor, int, torch.dtype], Batch] | None:
        """A function that generates fresh samples, or None if samples are drawn from `train`.

        The function takes keys (int64 [N]; see `basinet.algorithms.draws`), the agent of each key (int64
        [N]), the batch size B and a floating type, and returns a batch of tensors [N, B, ...].
        """
        return None

    def sample_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each sample, by default the cross-entropy.

        Args:
            outputs: Outputs of the model, [B, ..., num_outputs].
            targets: Class indices, [B, ...].

        Returns:
            Tensor [B, ...], not reduced.
        """
        scores = class_scores(outputs, targets, self.num_outputs).flatten(0, -2)
        return nn.functional.cross_entropy(scores, targets.flatten(), reduction="none").view_as(targets)

    def mean_loss(self, outputs: Tensor, targets: Tensor, groups: tuple[int, ...] = ()) -> Tensor:
        """Compute the mean loss over the labels that count.

        Args:
            outputs: Outputs of the model, [B, ...].
            targets: [B, ...].
            groups: (G,) for the mean of each of G consecutive groups of B / G samples.

        Returns:
            A scalar tensor, or [G].

        Raises:
            ValueError: If the loss is not one floating-point number per sample, for example because outputs and targets
                were broadcast.
        """
        if not isinstance(outputs, Tensor):
            raise ValueError(f"the model returns a {type(outputs).__name__}, not a tensor")
        ignored = targets == IGNORED if self.ignores else None
        losses = self.sample_loss(outputs, targets if ignored is None else targets.masked_fill(ignored, 0))
        if not (isinstance(losses, Tensor) and losses.is_floating_point()):
            kind = f"tensor of {losses.dtype}" if isinstance(losses, Tensor) else type(losses).__name__
            raise ValueError(
                f"{type(self).__name__}.sample_loss returns a {kind}; allowed is a tensor of floating-point numbers"
            )
        if losses.shape != targets.shape and (
            losses.shape[:1] != targets.shape[:1] or not any(_begins(losses.shape, t.shape) for t in (targets, outputs))
        ):
            raise ValueError(
                f"sample_loss returns the shape {tuple(losses.shape)} for outputs of shape {tuple(outputs.shape)} and"
                f" targets of shape {tuple(targets.shape)}, and not a loss for each sample"
            )
        if ignored is None:
            return losses.reshape(*groups, -1).mean(-1)
        counted = ~ignored
        losses = fit(losses, targets.shape, f"some labels are {IGNORED}, and sample_loss returns losses")
        total = losses.where(counted, 0).reshape(*groups, -1).sum(-1)
        return total / counted.reshape(*groups, -1).sum(-1).clamp(min=1)

    def loss(self, model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """Compute the mean loss of a batch.

        Args:
            model: Maps inputs to outputs.
            batch: Inputs and targets.

        Returns:
            A scalar tensor.
        """
        return self.mean_loss(model(batch[0]), batch[-1])

    def predict(self, outputs: Tensor) -> Tensor:
        """Choose a class for each sample, by default that of the largest output.

        Args:
            outputs: Outputs of the model, [B, ..., num_outputs].

        Returns:
            Class indices, int64 [B, ...].
        """
        return outputs.argmax(-1)

    def evaluate(self, model: nn.Module, *, chunk: int = 4096) -> dict[str, float]:
        """Measure a model in its current mode (training or evaluation).

        Args:
            model: A model on the device of the data.
            chunk: Samples that pass through the model at a time, which bounds the memory; it only affects the result by
                rounding, unless the model mixes samples (batch normalisation in training mode).

        Returns:
            `train_loss`, and if defined `test_loss`, `generalization_gap` (test loss minus training loss) and
            `test_accuracy`.
        """
        loss = self._measure(model, self.train, chunk)[0]
        return {"train_loss": loss, **self._test(model, chunk, loss)}

    def evaluate_with_gradient(self, model: nn.Module, *, chunk: int = 4096) -> dict[str, float]:
        """Measure a model, and the gradient norm of its training loss in the same pass.

        Args:
            model: See `evaluate`.
            chunk: See `evaluate`.

        Returns:
            The metrics of `evaluate`, and `gradient_norm`, which is NaN if the loss has no gradient.
        """
        model.zero_grad(set_to_none=True)
        loss = self._measure(model, self.train, chunk, backward=True)[0]
        squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
        model.zero_grad(set_to_none=True)
        gradient = {"gradient_norm": float(torch.stack(squares).sum().sqrt()) if squares else math.nan}
        if type(self).evaluate is not Task.evaluate:  # a user's task may measure in its own way
            return {**self.evaluate(model), **gradient}
        return {"train_loss": loss, **gradient, **self._test(model, chunk, loss)}

    def _test(self, model: nn.Module, chunk: int, train_loss: float) -> dict[str, float]:
        if self.test is None:
            return {}
        loss, accuracy = self._measure(model, self.test, chunk)
        found = {"test_loss": loss, "generalization_gap": loss - train_loss}
        return {**found, "test_accuracy": accuracy} if self.classification else found

    def _measure(self, model: nn.Module, data: Batch, chunk: int, *, backward: bool = False) -> tuple[float, float]:
        """Return the mean loss and, for a classification's test data, the accuracy; differentiate the loss if asked."""
        loss = accuracy = 0.0
        with torch.set_grad_enabled(backward):
            for part, weight in self.chunks(data, chunk):
                part_loss, part_accuracy = self._measure_part(model, part, classify=data is self.test)
                if backward and part_loss.requires_grad:
                    (part_loss * weight).backward()  # type: ignore[no-untyped-call]
                loss += weight * float(part_loss.detach())
                accuracy += weight * part_accuracy
        return loss, accuracy

    def chunks(self, data: Batch, size: int) -> Iterator[tuple[Batch, float]]:
        """Cut data into chunks.

        Args:
            data: Training or test data.
            size: Largest number of samples in a chunk.

        Yields:
            The chunks, with the weight of each one's loss in the overall mean.
        """
        total = self._size(data) or 1
        for part in zip(*(torch.split(tensor, size) for tensor in data), strict=True):
            yield part, self._size(part) / total

    def _size(self, data: Batch) -> int:
        """Count the samples, or the labels that count."""
        counts = self.counts(data[-1])
        return len(data[0]) if counts is None else int(counts.sum())

    def _measure_part(self, model: nn.Module, part: Batch, *, classify: bool) -> tuple[Tensor, float]:
        inputs, targets = part[0], part[-1]
        outputs: Tensor = model(inputs)
        version = getattr(outputs, "_version", 0)
        # One pass serves both; a loss that calls the model on other inputs gets their outputs.
        loss = self.loss(lambda x: outputs if x is inputs else model(x), part)
        if not (classify and self.classification):
            return loss, 0.0
        if getattr(outputs, "_version", 0) != version:  # the loss has written into the outputs
            outputs = model(inputs)
        right = fit(self.predict(outputs), targets.shape, "predict returns classes") == targets
        if self.ignores:
            right = right[targets != IGNORED]
        return loss, float(right.double().mean()) if right.numel() else 0.0

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Move all tensors of the task to a device, and floating-point ones to a type.

        Args:
            device: The target device.
            dtype: Type of floating-point tensors, and of the parts of complex ones; integers keep theirs.

        Returns:
            A task on that device.
        """
        moved = {field.name: _move(getattr(self, field.name), device, dtype) for field in fields(self)}
        return replace(self, **moved)


TASKS: Registry[Task] = Registry()
"""The tasks that an experiment can name."""


def _move(value: Any, device: torch.device | str, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        if value.is_complex():
            dtype = dtype.to_complex()
        return value.detach().to(device, dtype if value.is_floating_point() or value.is_complex() else None)
    if isinstance(value, tuple):
        return tuple(_move(item, device, dtype) for item in value)
    return value
