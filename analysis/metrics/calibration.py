"""Calibration of the probabilities of classes."""

from typing import Annotated, Any

import torch
from pydantic import Field

from basinet.analysis.metrics.seen import probabilities
from basinet.sim.data.nests import Nest
from basinet.sim.evaluation.metric import Metric
from basinet.sim.tasks import Task

__all__ = ["CalibrationError"]


class CalibrationError(Metric):
    """The expected calibration error (ECE), Σ_b n_b / n · |accuracy_b − confidence_b| over bins b of the confidence.

    The confidence is the largest probability of a class, the softmax of the outputs; the bins have equal widths.

    Args:
        bins: Number of bins.

    References:
        C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger: On calibration of modern neural networks, ICML 2017,
        arXiv:1706.04599.
    """

    name, direction = "ece", "smaller"
    label, heading = "expected calibration error", "ECE"

    def __init__(self, bins: Annotated[int, Field(ge=1, le=10**6)] = 15) -> None:
        self.bins = bins

    def reset(self) -> None:
        """Forget all batches."""
        self._sums: torch.Tensor | None = None

    def update(self, outputs: Any, batch: Nest, task: Task) -> None:
        """Take a batch into account.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: A classification.
        """
        predicted, targets, weights = probabilities(self, outputs, batch, task)
        confidence, chosen = predicted.max(-1)
        place = (confidence * self.bins).ceil().long().sub(1).clamp(0, self.bins - 1)  # (0, 1/bins], …
        if self._sums is None:
            self._sums = weights.new_zeros(3, self.bins)
        for sums, values in zip(
            self._sums, (weights, weights * (chosen == targets), weights * confidence), strict=True
        ):
            sums.index_add_(0, place, values)

    def compute(self) -> float:
        """Compute the error.

        Returns:
            The error; NaN if nothing counts.
        """
        if self._sums is None:
            return torch.nan
        counts, right, confidence = self._sums
        return float((right - confidence).abs().sum() / counts.sum())
