"""Metrics of all predictions together: rankings, correlations and explained variance."""

import math
from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from basinet.analysis.metrics.seen import Seen, labels, numbers, probabilities, require_labels
from basinet.sim.data.nests import Nest
from basinet.sim.evaluation.metric import Metric
from basinet.sim.tasks import Task

__all__ = ["Collected"]


class Collected(Metric):
    """A metric of all predictions, which are kept on the device and read at the end."""

    direction: Literal["larger"] = "larger"

    @abstractmethod
    def seen(self, outputs: Any, batch: Nest, task: Task) -> Seen:
        """Choose what to keep of a batch.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: The task.

        Returns:
            Predictions [M, C], targets [M, C] and weights [M, C].
        """

    @abstractmethod
    def _of_column(self, predicted: Tensor, targets: Tensor, weights: Tensor) -> float:
        """Compute the value of one column from the rows with a positive weight.

        Args:
            predicted: Predictions, float64 [M].
            targets: Targets, float64 [M].
            weights: Weights, float64 [M].

        Returns:
            The value; NaN if it is undefined, and the column is then left out.
        """

    def reset(self) -> None:
        """Forget all batches."""
        self._seen: list[Seen] = []

    def update(self, outputs: Any, batch: Nest, task: Task) -> None:
        """Keep a batch.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: The task.
        """
        self._seen.append(self.seen(outputs, batch, task))

    def compute(self) -> float:
        """Compute the mean over the columns.

        Returns:
            The mean of those for which it is defined; NaN if there are none.
        """
        # Sums are taken in the same order on all machines.
        predicted, targets, weights = (torch.cat(parts).cpu().unbind(1) for parts in zip(*self._seen, strict=True))
        values = []
        for column in zip(predicted, targets, weights, strict=True):
            counts = column[-1] > 0
            values.append(self._of_column(*(part[counts] for part in column)) if counts.any() else math.nan)
        found = [value for value in values if not math.isnan(value)]
        return sum(found) / len(found) if found else math.nan


class _Ranking(Collected):
    """A metric of the order of the predictions for the second of two classes, or for each class against the rest."""

    def seen(self, outputs: Any, batch: Nest, task: Task) -> Seen:
        if not task.classification:
            return labels(self, outputs, batch, task)
        predicted, targets, weights = probabilities(self, outputs, batch, task)
        classes = torch.arange(predicted.shape[-1], device=targets.device)
        hits = (targets[:, None] == classes).double()
        first = 1 if len(classes) == 2 else 0
        return Seen(predicted[:, first:], hits[:, first:], weights[:, None].expand_as(hits)[:, first:])

    def _of_column(self, predicted: Tensor, targets: Tensor, weights: Tensor) -> float:
        require_labels(self, targets)
        # One entry for each distinct prediction, the largest first.
        values, place = predicted.neg().unique(return_inverse=True)  # type: ignore[no-untyped-call]
        hits, misses = (
            torch.zeros(len(values), dtype=torch.float64).index_add_(0, place, weights * part)
            for part in (targets, 1 - targets)
        )
        return self._of_ranks(hits, misses)

    @abstractmethod
    def _of_ranks(self, hits: Tensor, misses: Tensor) -> float:
        """Compute the value from the weights of positive and negative samples of each distinct prediction."""


class AUROC(_Ranking):
    """The area under the ROC curve, the chance that a positive is ranked above a negative, ties counting one half.

    Of two classes it is that of the second one; of more, the mean over the classes of each against the rest; of several
    labels for a sample, the mean over the labels. Classes without positives or without negatives are left out.
    """

    label = "AUROC"

    def _of_ranks(self, hits: Tensor, misses: Tensor) -> float:
        above = hits.cumsum(0) - hits / 2
        whole = float(hits.sum() * misses.sum())
        return float(above @ misses) / whole if whole else math.nan


class AveragePrecision(_Ranking):
    """The average precision Σ (R_n − R_{n−1}) P_n over the thresholds n, with recall R_n and precision P_n.

    Of two classes it is that of the second one; of more, the mean over the classes of each against the rest; of several
    labels for a sample, the mean over the labels. Classes without positives are left out.
    """

    def _of_ranks(self, hits: Tensor, misses: Tensor) -> float:
        found = hits.cumsum(0)
        precision = found / (found + misses.cumsum(0))
        whole = float(hits.sum())
        return float(hits @ precision) / whole if whole else math.nan


class _OfNumbers(Collected):
    def seen(self, outputs: Any, batch: Nest, task: Task) -> Seen:
        return numbers(self, outputs, batch, task)


class R2(_OfNumbers):
    """The coefficient of determination 1 − Σ (y − f)² / Σ (y − mean y)², averaged over the outputs."""

    name, label, unit = "r2", "R²", ""

    def _of_column(self, predicted: Tensor, targets: Tensor, weights: Tensor) -> float:
        centred = targets - weights @ targets / weights.sum()
        whole = float(weights @ centred.square())
        return 1 - float(weights @ (targets - predicted).square()) / whole if whole else math.nan


class Pearson(_OfNumbers):
    """Pearson's correlation of predictions and targets, averaged over the outputs."""

    label = "Pearson correlation"

    def _of_column(self, predicted: Tensor, targets: Tensor, weights: Tensor) -> float:
        x, y = (part - weights @ part / weights.sum() for part in (predicted, targets))
        scale = math.sqrt(float(weights @ x.square()) * float(weights @ y.square()))
        constant = bool((predicted == predicted[0]).all() or (targets == targets[0]).all())
        return math.nan if constant else float(weights @ (x * y)) / scale


class Spearman(Pearson):
    """Spearman's correlation of predictions and targets: Pearson's of their ranks, averaged over the outputs."""

    label = "Spearman correlation"

    def _of_column(self, predicted: Tensor, targets: Tensor, weights: Tensor) -> float:
        return super()._of_column(_ranks(predicted), _ranks(targets), weights)


def _ranks(values: Tensor) -> Tensor:
    """Rank values from the smallest; equal ones share the mean of their ranks."""
    _, place, counts = values.unique(return_inverse=True, return_counts=True)  # type: ignore[no-untyped-call]
    ranks: Tensor = (counts.cumsum(0).double() - (counts - 1).double() / 2)[place]
    return ranks
