"""How well the phases of test videos are recognised: for each video by itself, and then averaged over the videos."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from basinet.sim import tasks
from basinet.sim.data.nests import Nest
from basinet.sim.evaluation.metric import Metric
from basinet.sim.tasks import Task
from basinet.sim.tasks.vision.procedures.labelled_frames import Frames

__all__ = ["TEST", "PhaseAccuracy", "PhaseF1"]

TEST = "test"
"""The set whose videos are like those of training."""


class _PhaseScore(Metric):
    """A mean over the test videos of a set, of what is computed from the frames of each.

    Args:
        of: The set, such as "test", or "other_centre" for transfer.
    """

    unit, direction = "", "larger"

    def __init__(self, of: str = TEST) -> None:
        self.of = of
        if of != TEST:
            kind = type(self)
            self.name, words = f"{kind.name}_{of}", of.replace("_", " ")
            self.label, self.heading = f"{kind.label}, {words}", f"{kind.heading}, {words}"

    def reset(self) -> None:
        """Forget all batches."""
        self._seen: list[Tensor] = []

    def update(self, outputs: Any, batch: Nest, task: Task) -> None:
        """Take a batch into account.

        Args:
            outputs: Scores of the phases.
            batch: Frames of test videos.
            task: A task of videos and language.

        Raises:
            ValueError: The task is another one, or the batch is for training.
        """
        if not isinstance(task, tasks.VideoLanguage):
            raise ValueError(f"{self.name} needs a task of videos and what is told of them, such as video_language")
        if not isinstance(batch, Frames):
            raise ValueError(f"{self.name} needs frames of known phases; allowed is metrics_on: [test]")
        if self.of not in task.sets:
            there = ", ".join(dict.fromkeys(task.sets))
            raise ValueError(f"{self.name} is of test videos of the set {self.of}; there are {there}")
        self._phases = len(task.phases)
        self._videos = [video for video, each in enumerate(task.sets) if each == self.of]
        self._seen.append(torch.stack((batch.video, batch.phase, task.predict(outputs))))

    def compute(self) -> float:
        """Compute the mean.

        Returns:
            The mean; NaN without frames of the set.
        """
        if not self._seen:
            return torch.nan
        video, phase, predicted = torch.cat(self._seen, 1).cpu()
        shown = [video == each for each in self._videos]
        found = [self._of(phase[frames], predicted[frames]) for frames in shown if frames.any()]
        return sum(found) / len(found) if found else torch.nan

    @abstractmethod
    def _of(self, phase: Tensor, predicted: Tensor) -> float:
        """Compute the value of a video from true and predicted phases, int64 [M]."""


class PhaseAccuracy(_PhaseScore):
    """The fraction of the frames of a video whose phase is recognised, averaged over the videos."""

    label, heading, unit = "accuracy per video", "accuracy", "fraction correct"

    def _of(self, phase: Tensor, predicted: Tensor) -> float:
        return float((phase == predicted).double().mean())


class PhaseF1(_PhaseScore):
    """The F1 score of a video, averaged over the phases that occur or are predicted in it, and then over the videos."""

    label, heading, name = "macro F1 per video", "F1", "phase_f1"

    def _of(self, phase: Tensor, predicted: Tensor) -> float:
        hits, seen, said = (
            torch.bincount(part, minlength=self._phases).double()
            for part in (phase[phase == predicted], phase, predicted)
        )
        occurs = seen + said > 0
        return float((2 * hits / (seen + said))[occurs].mean())
