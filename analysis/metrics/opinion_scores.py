"""Correlations of predicted scores with mean opinion scores, as the field of quality assessment reports them."""

import functools
import logging
import math
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.analysis.metrics.seen import numbers
from basinet.sim import tasks
from basinet.sim.data.nests import Nest
from basinet.sim.evaluation.metric import Metric
from basinet.sim.tasks import Task

__all__ = ["KROCC", "PLCC", "SROCC", "FittedPLCC", "OpinionScore"]

_log = logging.getLogger(__name__)

_Floats = NDArray[np.float64]


class OpinionScore(Metric):
    """A number that is read from all predictions of a task of mean opinion scores."""

    unit, direction = "", "larger"

    of_pairs: ClassVar[tuple[str, ...]] = ()
    """The kinds of pairs of test videos that it needs."""

    def reset(self) -> None:
        """Forget all batches."""
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._is_model = False

    def update(self, outputs: Any, batch: Nest, task: Task) -> None:
        """Take a batch into account.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: A task of mean opinion scores.

        Raises:
            ValueError: The task is another one.
        """
        if not isinstance(task, tasks.Scoring):
            raise ValueError(f"{self.name} needs a task of mean opinion scores, such as image_quality or video_quality")
        self._is_model |= not (isinstance(outputs, Tensor) and 0 in outputs.stride())  # a baseline repeats one number
        predicted, targets, _ = numbers(self, outputs, batch, task)
        self._seen.append((predicted, targets))

    def compute(self) -> float:
        """Compute the number.

        Returns:
            The number; NaN for fewer than two samples, or if predictions are not finite.
        """
        predicted, truth = (torch.cat(parts).flatten().cpu().numpy() for parts in zip(*self._seen, strict=True))
        if len(predicted) < 2 or not np.isfinite(predicted).all():
            return math.nan
        if self._is_model and self.name == "srocc" and bool((predicted == predicted[0]).all()):
            _say_once(f"a model rates all {len(predicted)} samples alike, so that correlations count as 0")
        return self._of(predicted, truth)

    @abstractmethod
    def _of(self, predicted: _Floats, truth: _Floats) -> float:
        """Compute the number of finite predictions [n] and scores [n], of which there are at least two."""


class SROCC(OpinionScore):
    """Spearman's correlation of predicted and true scores (SROCC, or SRCC); 0 if all predictions are equal."""

    name, label = "srocc", "SROCC"

    def _of(self, predicted: _Floats, truth: _Floats) -> float:
        from basinet.analysis.challenges.video_protocol import srocc  # with scipy.stats, slowly

        return float(srocc(predicted, truth))


class PLCC(OpinionScore):
    """Pearson's correlation of predicted and true scores, without a logistic fit; 0 if all predictions are equal."""

    name, label = "plcc", "PLCC"

    def _of(self, predicted: _Floats, truth: _Floats) -> float:
        from basinet.analysis.challenges.video_protocol import plcc

        return float(plcc(predicted, truth))


class KROCC(OpinionScore):
    """Kendall's correlation τ_b of predicted and true scores (KROCC, or KRCC); 0 if all predictions are equal."""

    name, label = "krocc", "KROCC"

    def _of(self, predicted: _Floats, truth: _Floats) -> float:
        from basinet.analysis.challenges.logistic_fit import krocc

        return krocc(predicted, truth)


class FittedPLCC(OpinionScore):
    """Pearson's correlation after a rising logistic function is fitted to the scores; 0 if all predictions are equal.

    The function has four parameters, fitted to the very samples that are measured, as is usual in the field.
    """

    name, label, heading = "plcc_fitted", "PLCC after a logistic fit", "fitted PLCC"

    def _of(self, predicted: _Floats, truth: _Floats) -> float:
        from basinet.analysis.challenges.logistic_fit import plcc_fitted

        return plcc_fitted(predicted, truth)


@functools.cache
def _say_once(sentence: str) -> None:
    _log.warning("%s", sentence)
