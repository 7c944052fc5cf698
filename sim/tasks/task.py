"""What a task is: data, model-facing loss, metrics."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, ...]
"""Tensors that share their first dimension: inputs, then targets."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Data, a loss and metrics; it knows nothing of agents.

    A task is supervised: a model maps inputs to outputs, and the loss of a batch is the mean over its elements
    of `sample_loss(outputs, targets)`. A task with another loss overrides `loss`; the batched computation over
    agents then falls back on a general vectorised map.

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
        """Class of each training sample, int64 [n], or None where there are no classes."""
        return self.train[-1] if self.classification else None

    @property
    def draw(self) -> Callable[[Tensor, Tensor, int, torch.dtype], Batch] | None:
        """How to generate fresh samples, or None where samples are drawn from `train`.

        The function takes keys (int64 [N], see `basinet.algorithms.draws`), the agent of each key (int64 [N]),
        the batch size B and a floating type, and returns a batch of tensors [N, B, ...].
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
        return nn.functional.cross_entropy(
            outputs.flatten(0, -2), targets.flatten(), reduction="none"
        ).view_as(targets)

    def loss(self, model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """Compute the mean loss of a batch.

        Args:
            model: Maps inputs to outputs.
            batch: Inputs and targets.

        Returns:
            A scalar tensor.
        """
        return self.sample_loss(model(batch[0]), batch[-1]).mean()

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Measure a model, in the mode (training or evaluation) that it is in.

        Args:
            model: A model on the device of the data.

        Returns:
            `train_loss`, and where they are defined `test_loss` and `test_accuracy`.
        """
        with torch.no_grad():
            metrics = {"train_loss": float(self.loss(model, self.train))}
            if self.test is not None:
                outputs = model(self.test[0])
                metrics["test_loss"] = float(self.loss(lambda _: outputs, self.test))
                if self.classification:
                    correct = outputs.argmax(-1) == self.test[-1]
                    metrics["test_accuracy"] = float(correct.double().mean())
        return metrics

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Move the data to a device and its floating tensors to a type.

        Args:
            device: Where the data shall live.
            dtype: Type of floating tensors; integers stay as they are.

        Returns:
            A task on that device.
        """
        return replace(
            self,
            train=_move(self.train, device, dtype),
            test=None if self.test is None else _move(self.test, device, dtype),
        )


def _move(batch: Batch, device: torch.device | str, dtype: torch.dtype) -> Batch:
    return tuple(t.to(device, dtype if t.is_floating_point() else None) for t in batch)
