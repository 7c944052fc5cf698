"""Metrics of the numbers of right and wrong predictions of each class, or of each label."""

from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from basinet.analysis.metrics.seen import classes, labels, require_labels
from basinet.sim.data.nests import Nest
from basinet.sim.evaluation.metric import Metric
from basinet.sim.tasks import Task

__all__ = ["ClassCounts"]

Average = Literal["macro", "micro", "weighted"]


class ClassCounts(Metric):
    """A mean over the classes of a function of their numbers of true positives, predictions and targets.

    With several targets of 0 or 1 for a sample instead of a class, each is a class, predicted if its output is
    positive. Elements count by the weights of the task.

    Args:
        average: "macro", the mean over the classes that occur as targets or predictions; "weighted", weighted by their
            targets; "micro", of all classes together.
    """

    direction = "larger"
    _of_targets = False
    """Whether a class has to occur as a target."""

    def __init__(self, average: Average = "macro") -> None:
        self.average = average
        if average != "macro":
            self.name = f"{type(self).name}_{average}"
        self.label = f"{average} {type(self).label or type(self).name}"

    @abstractmethod
    def _of(self, hits: Tensor, predicted: Tensor, targets: Tensor) -> Tensor:
        """Compute the value of each class from the weights of its true positives, predictions and targets."""

    def reset(self) -> None:
        """Forget all batches."""
        self._counts: Tensor | None = None

    def update(self, outputs: Any, batch: Nest, task: Task) -> None:
        """Take a batch into account.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: The task.
        """
        if task.classification:
            found = self._of_classes(outputs, batch, task)
        else:
            logits, targets, weights = labels(self, outputs, batch, task)
            predicted = (logits > 0).double()
            found = torch.stack([(weights * part).sum(0) for part in (predicted * targets, predicted, targets)])
        self._counts = found if self._counts is None else self._counts + found

    def _of_classes(self, outputs: Any, batch: Nest, task: Task) -> Tensor:
        predicted, targets, weights = classes(self, outputs, batch, task)
        most = max(2, task.num_outputs)
        counts = weights.new_zeros(3, most + 1)  # the last one is of outputs that belong to no class
        predicted = predicted.clamp(max=most)
        for row, index, weight in (
            (0, targets, weights * (predicted == targets)),
            (1, predicted, weights),
            (2, targets, weights),
        ):
            counts[row].index_add_(0, index, weight)
        return counts

    def compute(self) -> float:
        """Compute the mean over the classes.

        Returns:
            The mean; NaN if nothing counts.
        """
        if self._counts is None:
            return torch.nan
        hits, predicted, targets = self._counts.cpu()
        require_labels(self, targets)
        if self.average == "micro":
            hits, predicted, targets = (counts.sum(0, keepdim=True) for counts in (hits, predicted, targets))
        occurs = targets if self._of_targets else predicted + targets
        weights = targets if self.average == "weighted" else (occurs > 0).double()
        values = self._of(hits, predicted, targets).where(weights > 0, 0)
        return float((values * weights).sum() / weights.sum())


def _over(part: Tensor, whole: Tensor) -> Tensor:
    """Divide; 0 / 0 is 0."""
    return part / whole.where(whole > 0, 1)


class Precision(ClassCounts):
    """The precision, the fraction of the predictions of a class that are right, averaged over the classes.

    Args:
        average: "macro", the mean over the classes that occur as targets or predictions; "weighted", weighted by their
            targets; "micro", of all classes together.
    """

    def _of(self, hits: Tensor, predicted: Tensor, targets: Tensor) -> Tensor:
        return _over(hits, predicted)


class Recall(ClassCounts):
    """The recall, the fraction of the elements of a class that are predicted as it, averaged over the classes.

    Args:
        average: "macro", the mean over the classes that occur as targets or predictions; "weighted", weighted by their
            targets; "micro", of all classes together.
    """

    def _of(self, hits: Tensor, predicted: Tensor, targets: Tensor) -> Tensor:
        return _over(hits, targets)


class _F1(ClassCounts):
    def _of(self, hits: Tensor, predicted: Tensor, targets: Tensor) -> Tensor:
        return _over(2 * hits, predicted + targets)


class F1Macro(_F1):
    """The F1 score 2 TP / (2 TP + FP + FN) of each class, averaged over the classes that occur."""

    name, heading = "f1_macro", "F1 (macro)"

    def __init__(self) -> None:
        super().__init__("macro")
        self.label = "macro F1"


class F1Micro(_F1):
    """The F1 score 2 TP / (2 TP + FP + FN) of all classes together."""

    name, heading = "f1_micro", "F1 (micro)"

    def __init__(self) -> None:
        super().__init__("micro")
        self.name, self.label = "f1_micro", "micro F1"


class F1Weighted(_F1):
    """The F1 score 2 TP / (2 TP + FP + FN) of each class, averaged over the classes by their targets."""

    name, heading = "f1_weighted", "F1 (weighted)"

    def __init__(self) -> None:
        super().__init__("weighted")
        self.name, self.label = "f1_weighted", "weighted F1"


class BalancedAccuracy(Recall):
    """The fraction of the elements of a class that are predicted as it, averaged over the classes with targets."""

    unit = "mean recall"
    _of_targets = True

    def __init__(self) -> None:
        super().__init__()
        self.label = "balanced accuracy"


class MeanIoU(ClassCounts):
    """The intersection over union TP / (TP + FP + FN) of each class, averaged over the classes that occur."""

    name = "iou_mean"

    def __init__(self) -> None:
        super().__init__()
        self.label = self.heading = "mean IoU"

    def _of(self, hits: Tensor, predicted: Tensor, targets: Tensor) -> Tensor:
        return _over(hits, predicted + targets - hits)
