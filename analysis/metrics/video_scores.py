"""The numbers by which the challenge on video quality scores predictions on pairs of test videos."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from basinet.analysis.metrics.opinion_scores import OpinionScore
from basinet.sim import tasks
from basinet.sim.data.nests import Nest
from basinet.sim.tasks import Task
from basinet.sim.tasks.vision.videos.video_views import KINDS

__all__ = ["ChallengeScore", "RankNonsource", "RankSource"]


class _VideoScore(OpinionScore):
    """One of the numbers, which is read from all predictions and the pairs."""

    def reset(self) -> None:
        """Forget all batches."""
        super().reset()
        self._pairs: dict[str, Any] = {}

    def update(self, outputs: Any, batch: Nest, task: Task) -> None:
        """Take a batch into account.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: A task of video quality, whose test videos are given in their order.

        Raises:
            ValueError: The task has no videos, or pairs are needed that are not known.
        """
        if not isinstance(task, tasks.VideoRating):
            raise ValueError(f"{self.name} needs a task of video quality, such as video_quality")
        if "train" in task.metrics_on:
            raise ValueError(f"{self.name} compares pairs of test videos; allowed is metrics_on: [test]")
        for kind in self.of_pairs:
            if not len(task.pairs.get(kind, ())):
                raise ValueError(f"{self.name} needs {kind} pairs of test videos, and the task knows none")
            self._pairs[kind] = task.pairs[kind]
        super().update(outputs, batch, task)

    def _of(self, predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
        from basinet.analysis.challenges.video_protocol import five_numbers  # with scipy.stats, slowly

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


class RankNonsource(_VideoScore):
    """The fraction of pairs of different contents whose better video is predicted; the first one counts if equal."""

    label, heading, unit, of_pairs = "accuracy on non-source pairs", "non-source", "fraction correct", ("nonsource",)


class RankSource(_VideoScore):
    """The fraction of pairs of the same content whose better video is predicted; the first one counts if equal."""

    label, heading, unit, of_pairs = "accuracy on source pairs", "source", "fraction correct", ("source",)
