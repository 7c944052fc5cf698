"""Metrics of torchmetrics, or of another class with the same interface."""

from typing import Any

from torch import nn

from basinet.analysis.metrics.seen import numbers, scores_of
from basinet.sim.data.nests import Nest
from basinet.sim.evaluation.metric import Metric, snake_case
from basinet.sim.tasks import Task

__all__ = ["TorchMetric"]


class TorchMetric(Metric):
    """A metric of torchmetrics, which sees the elements that count.

    Of a classification it gets the probabilities of the classes, [M, C], or of the second one if the model has one
    output, [M], and the targets, [M]; of another task predicted numbers and targets in the shape of the targets.

    Args:
        metric: An object with `update(predictions, targets)`, `compute()` and `reset()`; `higher_is_better` says which
            values are better.
    """

    def __init__(self, metric: Any) -> None:
        self.metric = metric
        kind = type(metric)
        self.name = snake_case(kind.__name__)
        self.about = f"{kind.__module__}.{kind.__qualname__}"
        larger = getattr(metric, "higher_is_better", None)
        self.direction = None if larger is None else "larger" if larger else "smaller"

    def reset(self) -> None:
        """Forget all batches."""
        for part in self.metric.modules() if isinstance(self.metric, nn.Module) else ():
            part.distributed_available_fn = _alone  # type: ignore[assignment]
        self.metric.reset()

    def update(self, outputs: Any, batch: Nest, task: Task) -> None:
        """Pass on the elements of a batch that count.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: The task.

        Raises:
            ValueError: If elements have weights other than 0 and 1.
        """
        seen = (scores_of if task.classification else numbers)(self, outputs, batch, task)
        predicted, targets, weights = seen
        if task.classification:
            predicted = predicted.softmax(-1)
            predicted = predicted[:, 1] if task.num_outputs == 1 else predicted
        else:
            shape = task.targets(batch).shape
            predicted, targets, weights = predicted.view(shape), targets.view(shape), weights.view(shape)
            weights = weights.reshape(len(weights), -1).amin(1)
        if task.weighs:
            if not ((weights == 0) | (weights == 1)).all():
                raise ValueError(f"{self.name} cannot weight samples; allowed are metrics of Basinet")
            predicted, targets = predicted[weights > 0], targets[weights > 0]
        if hasattr(self.metric, "to"):
            self.metric = self.metric.to(predicted.device)
        if len(targets):
            self.metric.update(predicted, targets)

    def compute(self) -> Any:
        """Compute the value.

        Returns:
            What the metric computes.
        """
        return self.metric.compute()


def _alone() -> bool:
    """Say that there are no other processes to sum over: each worker evaluates replicas of its own."""
    return False
