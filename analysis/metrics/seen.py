"""What metrics see of a batch: classes, probabilities of classes, numbers, or labels of 0 and 1."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from basinet.sim.data.nests import Nest
from basinet.sim.evaluation.measuring import weights_of
from basinet.sim.evaluation.metric import Metric
from basinet.sim.tasks import Task
from basinet.sim.tasks.model_outputs import class_scores, fit, output_of

__all__ = ["Seen", "classes", "labels", "numbers", "probabilities", "require_classes", "require_labels", "scores_of"]


class Seen(NamedTuple):
    """Predictions and targets, one row per element.

    Attributes:
        predicted: What was predicted, [M] or [M, C].
        targets: What is true, [M] or [M, C]; classes without a label have the weight 0 and are shown as 0.
        weights: How much each target counts, float64 in the shape of the targets.
    """

    predicted: Tensor
    targets: Tensor
    weights: Tensor


def require_classes(metric: Metric, task: Task) -> None:
    """Raise unless a task is a classification.

    Args:
        metric: A metric of classes.
        task: The task.

    Raises:
        ValueError: If it is not.
    """
    if not task.classification:
        raise ValueError(f"{metric.name} needs targets that are classes, and the task is no classification")


def classes(metric: Metric, outputs: Any, batch: Nest, task: Task) -> Seen:
    """Collect predicted classes.

    Args:
        metric: Who asks.
        outputs: What the model returned.
        batch: The batch.
        task: A classification.

    Returns:
        Classes, [M], and targets, [M].
    """
    require_classes(metric, task)
    targets = task.targets(batch)
    predicted = fit(task.predict(outputs), targets.shape, "predict returns classes")
    return Seen(predicted.flatten(), targets.clamp(min=0).flatten(), _weights(task, batch, targets))


def probabilities(metric: Metric, outputs: Any, batch: Nest, task: Task) -> Seen:
    """Compute the probabilities of the classes, the softmax of the outputs; of one output, its logistic function.

    Args:
        metric: Who asks.
        outputs: What the model returned.
        batch: The batch.
        task: A classification.

    Returns:
        Probabilities, float64 [M, C], and targets, [M].
    """
    scores = scores_of(metric, outputs, batch, task)
    return scores._replace(predicted=scores.predicted.softmax(-1))


def scores_of(metric: Metric, outputs: Any, batch: Nest, task: Task) -> Seen:
    """Collect the outputs by class; one output is the log odds of the second class.

    Args:
        metric: Who asks.
        outputs: What the model returned.
        batch: The batch.
        task: A classification.

    Returns:
        Scores, float64 [M, C], and targets, [M].
    """
    require_classes(metric, task)
    targets, scores = task.targets(batch), output_of(outputs).double()
    if task.num_outputs == 1:
        odds = fit(scores, targets.shape, "the model returns outputs")
        scores = torch.stack([torch.zeros_like(odds), odds], -1)
    scores = class_scores(scores, targets, max(2, task.num_outputs)).flatten(0, -2)
    return Seen(scores, targets.clamp(min=0).flatten(), _weights(task, batch, targets))


def numbers(metric: Metric, outputs: Any, batch: Nest, task: Task) -> Seen:
    """Collect predicted numbers.

    Args:
        metric: Who asks.
        outputs: What the model returned.
        batch: The batch.
        task: A task whose targets are numbers.

    Returns:
        Numbers and targets, float64 [M, K]; K is the length of the last dimension of the targets.

    Raises:
        ValueError: If the targets are not numbers.
    """
    targets, predicted = task.targets(batch), output_of(outputs)
    if task.classification or not isinstance(targets, Tensor):
        kind = "classes" if task.classification else f"a {type(targets).__name__}"
        raise ValueError(f"{metric.name} needs targets that are numbers, and those of the task are {kind}")
    if predicted.ndim > 1 and targets.ndim == 2:  # as in the loss of a regression
        predicted = predicted.flatten(1)
    predicted = fit(predicted, targets.shape, "the model returns outputs")
    last = targets.shape[-1] if targets.ndim > 1 else 1
    parts = predicted.double(), targets.double(), _weights(task, batch, targets)
    return Seen(*(part.reshape(-1, last) for part in parts))


def labels(metric: Metric, outputs: Any, batch: Nest, task: Task) -> Seen:
    """Collect the log odds of labels that are 0 or 1 each.

    Args:
        metric: Who asks.
        outputs: What the model returned.
        batch: The batch.
        task: A task with several labels for a sample.

    Returns:
        Log odds and targets, float64 [M, L]; the targets are NaN where they are neither 0 nor 1.

    Raises:
        ValueError: If a sample has one class.
    """
    if task.classification:
        raise ValueError(f"{metric.name} needs several targets of 0 or 1 for a sample, and the task has classes")
    seen = numbers(metric, outputs, batch, task)
    targets = seen.targets.where(seen.weights > 0, 0)
    return seen._replace(targets=targets.where((targets == 0) | (targets == 1), torch.nan))


def require_labels(metric: Metric, value: Any) -> None:
    """Raise if a number that was computed from `labels` shows that some targets are neither 0 nor 1.

    Args:
        metric: Who asks.
        value: A number or tensor that sums over all targets.

    Raises:
        ValueError: If it is NaN.
    """
    if bool(torch.as_tensor(value).isnan().any()):
        raise ValueError(f"{metric.name} needs targets that are classes, or 0 or 1 for each label; others were found")


def _weights(task: Task, batch: Nest, targets: Tensor) -> Tensor:
    weights = weights_of(task, batch, targets.shape)
    if weights is None:
        return torch.ones(targets.shape, dtype=torch.float64, device=targets.device).flatten()
    return weights.double().flatten()
