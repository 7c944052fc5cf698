"""What a task is: data, model-facing loss, metrics."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, ...]
"""Tensors that share their first dimension: inputs, then targets."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Data, a loss and metrics; it knows nothing of agents.

    A task is supervised: a model maps inputs to outputs, and the loss of a batch is the mean over its
    elements of `sample_loss(outputs, targets)`. A task with another loss overrides `loss`; the batched
    computation over agents then falls back on a general vectorised map.

    Attributes:
        train: Training data, tensors [n, ...] that share their first dimension: inputs, then targets.
        test: Test data of the same form, or None.
        num_outputs: How many numbers a model returns for a sample (classes, or coordinates).
        model: Name of the model that is used when an experiment names none.
        classification: Whether targets are class indices, so that accuracy is defined.
    """

    train: Batch
    test: Batch | None = None
    num_outputs: int
    model: str = "mlp"
    classification: bool = True

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input sample."""
        return tuple(self.train[0].shape[1:])

    @property
    def labels(self) -> Tensor | None:
        """Class of each training sample, int64 [n], or None where a sample has no class or more than one."""
        return self.train[-1] if self.classification and self.train[-1].ndim == 1 else None

    @property
    def draw(self) -> Callable[[Tensor, Tensor, int, torch.dtype], Batch] | None:
        """How to generate fresh samples, or None where samples are drawn from `train`.

        The function takes keys (int64 [N], see `basinet.algorithms.draws`), the agent of each key (int64
        [N]), the batch size B and a floating type, and returns a batch of tensors [N, B, ...].
        """
        return None

    def sample_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each sample: by default the cross-entropy.

        Args:
            outputs: What the model returned, [B, ..., num_outputs].
            targets: Class indices, [B, ...].

        Returns:
            Tensor [B, ...], not reduced.
        """
        return nn.functional.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="none").view_as(targets)

    def loss(self, model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """Compute the mean loss of a batch.

        Args:
            model: Maps inputs to outputs.
            batch: Inputs and targets.

        Returns:
            A scalar tensor.
        """
        return self.sample_loss(model(batch[0]), batch[-1]).mean()

    def predict(self, outputs: Tensor) -> Tensor:
        """Choose a class for each sample: by default that of the largest output.

        Args:
            outputs: What the model returned, [B, ..., num_outputs].

        Returns:
            Class indices, int64 [B, ...].
        """
        return outputs.argmax(-1)

    def evaluate(self, model: nn.Module, *, chunk: int = 4096) -> dict[str, float]:
        """Measure a model, in the mode (training or evaluation) that it is in.

        Args:
            model: A model on the device of the data.
            chunk: Samples that pass through the model at a time; it bounds the memory and leaves the result
                as it is, to rounding, unless the model mixes samples (batch normalisation in training mode).

        Returns:
            `train_loss`, and where they are defined `test_loss`, `generalization_gap` (how much the test loss is above
            the training loss) and `test_accuracy`.
        """
        loss = self._measure(model, self.train, chunk)[0]
        return {"train_loss": loss, **self._test(model, chunk, loss)}

    def evaluate_with_gradient(self, model: nn.Module, *, chunk: int = 4096) -> dict[str, float]:
        """Measure a model, and the norm of its training loss's gradient in the same pass.

        Args:
            model: See `evaluate`.
            chunk: See `evaluate`.

        Returns:
            What `evaluate` returns, and `gradient_norm`.
        """
        model.zero_grad(set_to_none=True)
        loss = self._measure(model, self.train, chunk, backward=True)[0]
        squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
        model.zero_grad(set_to_none=True)
        gradient = {"gradient_norm": float(torch.stack(squares).sum().sqrt())}
        if type(self).evaluate is not Task.evaluate:  # a task of the user's own measures in its own way
            return {**self.evaluate(model), **gradient}
        return {"train_loss": loss, **gradient, **self._test(model, chunk, loss)}

    def _test(self, model: nn.Module, chunk: int, train_loss: float) -> dict[str, float]:
        if self.test is None:
            return {}
        loss, accuracy = self._measure(model, self.test, chunk)
        found = {"test_loss": loss, "generalization_gap": loss - train_loss}
        return {**found, "test_accuracy": accuracy} if self.classification else found

    def _measure(self, model: nn.Module, data: Batch, chunk: int, *, backward: bool = False) -> tuple[float, float]:
        """Return the mean loss and, of a classification's test data, the accuracy; differentiate the loss if asked."""
        loss = accuracy = 0.0
        with torch.set_grad_enabled(backward):
            for part in zip(*(torch.split(tensor, chunk) for tensor in data), strict=True):
                weight = len(part[0]) / len(data[0])
                part_loss, part_accuracy = self._measure_part(model, part, classify=data is self.test)
                if backward:
                    (part_loss * weight).backward()  # type: ignore[no-untyped-call]
                loss += weight * float(part_loss.detach())
                accuracy += weight * part_accuracy
        return loss, accuracy

    def _measure_part(self, model: nn.Module, part: Batch, *, classify: bool) -> tuple[Tensor, float]:
        inputs = part[0]
        outputs: Tensor = model(inputs)
        # One pass serves both; a loss that asks for the outputs of other inputs gets these.
        loss = self.loss(lambda x: outputs if x is inputs else model(x), part)
        if not (classify and self.classification):
            return loss, 0.0
        return loss, float((self.predict(outputs) == part[-1]).double().mean())

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Move every tensor of the task to a device and its floating tensors to a type.

        Args:
            device: Where the data shall live.
            dtype: Type of floating tensors; integers stay as they are.

        Returns:
            A task on that device.
        """
        moved = {field.name: _move(getattr(self, field.name), device, dtype) for field in fields(self)}
        return replace(self, **moved)


def _move(value: Any, device: torch.device | str, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else None)
    if isinstance(value, tuple):
        return tuple(_move(item, device, dtype) for item in value)
    return value
