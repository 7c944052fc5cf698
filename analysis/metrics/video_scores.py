"""The numbers by which the challenge on video quality scores predictions, on the test videos."""

import functools
import logging
import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from basinet.analysis.metrics.seen import numbers
from basinet.sim.data.nests import Nest
from basinet.sim.evaluation.metric import Metric
from basinet.sim.tasks import Task, VideoRating
from basinet.sim.tasks.vision.videos.video_views import KINDS

__all__ = ["PLCC", "SROCC", "ChallengeScore", "RankNonsource", "RankSource"]

_log = logging.getLogger(__name__)


class _VideoScore(Metric):
    """One of the numbers, which is read from all predictions."""

    unit, direction = "", "larger"

    of_pairs: ClassVar[tuple[str, ...]] = ()
    """The kinds of pairs of test videos that it needs."""

    def reset(self) -> None:
        """Forget all batches."""
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._pairs: dict[str, Any] = {}
        self._is_model = False

    def update(self, outputs: Any, batch: Nest, task: Task) -> None:
        """Take a batch into account.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: A task of video quality, whose test videos are given in their order if pairs are needed.

        Raises:
            ValueError: The task has no videos, or pairs are needed that are not known.
        """
        if not isinstance(task, VideoRating):
            raise ValueError(f"{self.name} needs a task of video quality, such as video_quality")
        if self.of_pairs and "train" in task.metrics_on:
            raise ValueError(f"{self.name} compares pairs of test videos; allowed is metrics_on: [test]")
        for kind in self.of_pairs:
            if not len(task.pairs.get(kind, ())):
                raise ValueError(f"{self.name} needs {kind} pairs of test videos, and the task knows none")
            self._pairs[kind] = task.pairs[kind]
        self._is_model |= not (isinstance(outputs, Tensor) and 0 in outputs.stride())  # a baseline repeats one number
        predicted, targets, _ = numbers(self, outputs, batch, task)
        self._seen.append((predicted, targets))

    def compute(self) -> float:
        """Compute the number.

        Returns:
            The number; NaN for fewer than two videos, or if predictions are not finite.
        """
        from basinet.analysis.challenges.video_protocol import five_numbers, is_constant  # with scipy.stats, slowly

        predicted, truth = (torch.cat(parts).flatten().cpu().numpy() for parts in zip(*self._seen, strict=True))
        if len(predicted) < 2:
            return math.nan
        if self._is_model and self.name == "srocc" and is_constant(predicted):
            _say_once(f"a model rates all {len(predicted)} videos alike, so that SROCC and PLCC count as 0")
        pairs = {kind: torch.as_tensor(rows).cpu() for kind, rows in self._pairs.items()}
        # A trial measures only the first few videos.
        known = {kind: rows[(rows[:, :2] < len(predicted)).all(1)] for kind, rows in pairs.items()}
        return five_numbers(predicted, truth, known)[self.name.removeprefix("challenge_")]


class ChallengeScore(_VideoScore):
    """0.45 SROCC + 0.45 PLCC + 0.05 + 0.05 of the fractions of right non-source and source pairs.

    The score of the NTIRE 2024 challenge on the quality of short-form videos, arXiv:2404.11313. Predictions that are
    all equal have SROCC and PLCC 0.
    """

    label, heading, of_pairs = "challenge score", "score", KINDS


class SROCC(_VideoScore):
    """Spearman's correlation of predicted and true quality; 0 if all predictions are equal."""

    name, label = "srocc", "SROCC"


class PLCC(_VideoScore):
    """Pearson's correlation of predicted and true quality, without a logistic fit; 0 if all predictions are equal."""

    name, label = "plcc", "PLCC"


class RankNonsource(_VideoScore):
    """The fraction of pairs of different contents whose better video is predicted; the first one counts if equal."""

    label, heading, unit, of_pairs = "accuracy on non-source pairs", "non-source", "fraction correct", ("nonsource",)


class RankSource(_VideoScore):
    """The fraction of pairs of the same content whose better video is predicted; the first one counts if equal."""

    label, heading, unit, of_pairs = "accuracy on source pairs", "source", "fraction correct", ("source",)


@functools.cache
def _say_once(sentence: str) -> None:
    _log.warning("%s", sentence)
