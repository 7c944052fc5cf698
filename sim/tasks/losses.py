"""Losses for classification."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from basinet.sim.tasks.model_outputs import class_scores, output_of
from basinet.sim.tasks.task import Batch, Task

ClassLoss = Literal["cross_entropy", "squared_error"]


@dataclass(frozen=True, kw_only=True)
class SquaredError(Task):
    """Classification by least squares: the loss of a sample is half the squared distance of the outputs from e_y.

    The curvature of the cross-entropy decreases with its value; here it does not, so that the flatness of points of
    different loss can be compared.

    References:
        L. Hui, M. Belkin: Evaluation of neural architectures trained with square loss vs cross-entropy in
        classification tasks, ICLR 2021, arXiv:2006.07322.
    """

    loss_words: ClassVar[str] = "squared distance from the class's unit vector, halved"

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Compute ½ ‖f(x) − e_y‖² of each sample.

        Args:
            outputs: What the model returned, [B, ..., num_outputs].
            batch: Its targets are class indices, [B, ...].

        Returns:
            Tensor [B, ...], not reduced.
        """
        targets = self.targets(batch)
        outputs = class_scores(output_of(outputs), targets, self.num_outputs)
        wanted = targets[..., None] == torch.arange(outputs.shape[-1], device=outputs.device)
        errors: Tensor = outputs - wanted.to(outputs.dtype)
        return errors.square().sum(-1) / 2

    def constant_outputs(self, frequencies: Tensor) -> Tensor:
        """Choose the constant outputs of the smallest loss.

        Args:
            frequencies: Of the classes in the training data, [C].

        Returns:
            The frequencies.
        """
        return frequencies


CLASS_LOSSES: dict[ClassLoss, type[Task]] = {"cross_entropy": Task, "squared_error": SquaredError}
"""The class of task for each loss."""


def with_loss(task: Task, loss: ClassLoss) -> Task:
    """Give a classification another loss.

    Args:
        task: The task.
        loss: Name of the loss.

    Returns:
        A task of the same data.
    """
    kind = CLASS_LOSSES[loss]
    return task if kind is type(task) else kind(**{field.name: getattr(task, field.name) for field in fields(Task)})
