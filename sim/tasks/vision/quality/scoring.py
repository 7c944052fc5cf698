"""Prediction of mean opinion scores, under losses of samples and of whole batches."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from basinet.sim.evaluation.baselines import constant_baselines
from basinet.sim.tasks.model_outputs import fit, output_of
from basinet.sim.tasks.supervised import Regression
from basinet.sim.tasks.task import Batch, MeanOver
from basinet.sim.tasks.vision.quality.batch_losses import plcc_loss, rank_loss
from basinet.sim.tasks.vision.quality.statistics_ridge import RIDGE, ridge_baseline
from basinet.sim.tasks.vision.videos.video_views import Videos, statistics_of
from basinet.sim.vision.video_files import evenly_spaced

__all__ = ["Loss", "PlccRankScoring", "PlccScoring", "RankScoring", "Scoring"]

Loss = Literal["l1", "plcc", "rank", "plcc_rank"]

_RANK_SHARE = 0.3
"""Factor of the rank loss beside that of the correlation, as in FAST-VQA."""

_FITTED = 512
"""Most training videos to which ridge regression is fitted, evenly spaced, which bounds its time."""

_LOCAL = "; a batch of another size, such as that of an agent, makes another objective"


@dataclass(frozen=True, kw_only=True)
class Scoring(Regression):
    """Prediction of mean opinion scores, [B, 1], under the absolute error.

    Attributes:
        names: Names of the test samples.
        remark: What its tests do not tell, in words.
    """

    num_outputs: int = 1
    names: tuple[str, ...] = ()
    remark: str = ""

    keeps_apart: ClassVar[tuple[str, ...]] = ("photo", "content")
    loss_words: ClassVar[str] = "absolute error of the scores"

    def hold_out(self, share: float, seed: int) -> Self:
        """Hold samples out, without names; see `Task.hold_out`."""
        return replace(super().hold_out(share, seed), names=(), remark="")

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Compute the absolute error of each sample.

        Args:
            outputs: Predicted scores [B, 1].
            batch: The batch.

        Returns:
            Tensor [B], not reduced.
        """
        found, scores = self.both_scores(outputs, batch)
        return nn.functional.l1_loss(found, scores, reduction="none").mean(-1)

    def both_scores(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return predicted and true scores.

        Args:
            outputs: Predicted scores [B, 1], or a nest that begins with them.
            batch: The batch.

        Returns:
            Both [B, 1].
        """
        scores = self.targets(batch)
        return fit(output_of(outputs), scores.shape, "the model returns outputs"), scores

    @property
    def about_loss(self) -> str:
        """The loss and what it is measured on, in words."""
        return f"{super().about_loss}; {self.remark}" if self.remark else super().about_loss

    @property
    def least_batch(self) -> int:
        """Smallest number of samples that a batch needs: two for losses of a whole batch, which compare scores."""
        return 2 if self.mean_over == "batch" else 1

    @property
    def key_frames(self) -> int:
        """Number of frames whose scene statistics are averaged for a baseline."""
        return 1

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what `evaluate` returns for the mean score, and for the `ridges`, by name."""
        found = constant_baselines(self.with_inputs(lambda part, rows: torch.empty(len(rows), 0)))
        return found | {name: ridge_baseline(task) for name, task in self.ridges().items()}

    def ridges(self) -> dict[str, Self]:
        """Return the tasks whose inputs are fitted by ridge regression, by the name of the baseline."""
        return {RIDGE: self.with_inputs(self._scenes, _FITTED)}

    def with_inputs(self, inputs: Callable[[Any, Tensor], Tensor], most: int | None = None) -> Self:
        """Return the task with other inputs, float64 on the CPU.

        Args:
            inputs: Takes the data of a part, and the indices of samples, int64 [n]; returns [n, F].
            most: Most training samples, evenly spaced; None for all.

        Returns:
            The task.
        """
        data: dict[str, Any] = {}
        for where, part in self.measured().items():
            scores = part.scores if isinstance(part, Videos) else part[-1]
            count = min(most or len(scores), len(scores)) if where == "train" else len(scores)
            rows = torch.tensor(evenly_spaced(len(scores), count))
            data[where] = (inputs(part, rows).double(), scores.cpu()[rows].double())
        return replace(self, **data)

    def _scenes(self, part: Any, rows: Tensor) -> Tensor:
        """Return the scene statistics of some videos, averaged over their key frames, [n, 36]."""
        if isinstance(part, Videos):
            key = statistics_of(part.source, part.origin, part.rows[rows], self.key_frames)
        else:
            key = part[0].cpu()[rows]
        return key.double().mean(1)


@dataclass(frozen=True, kw_only=True)
class PlccScoring(Scoring):
    """Prediction of scores under a loss of their correlation."""

    mean_over: MeanOver = "batch"
    loss_words: ClassVar[str] = f"loss of the correlation with the scores of the batch{_LOCAL}"

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Compute `plcc_loss` of a batch.

        Args:
            outputs: Predicted scores [B, 1].
            batch: The batch.

        Returns:
            A scalar.
        """
        return plcc_loss(*self.both_scores(outputs, batch))


@dataclass(frozen=True, kw_only=True)
class RankScoring(Scoring):
    """Prediction of scores under a hinge loss of all pairs."""

    mean_over: MeanOver = "batch"
    loss_words: ClassVar[str] = f"hinge loss of all pairs of the batch{_LOCAL}"

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Compute `rank_loss` of a batch.

        Args:
            outputs: Predicted scores [B, 1].
            batch: The batch.

        Returns:
            A scalar.
        """
        return rank_loss(*self.both_scores(outputs, batch))


@dataclass(frozen=True, kw_only=True)
class PlccRankScoring(Scoring):
    """Prediction of scores under both losses of a batch."""

    mean_over: MeanOver = "batch"
    loss_words: ClassVar[str] = (
        f"loss of the correlation with the scores of the batch, and {_RANK_SHARE} of a hinge loss of its pairs{_LOCAL}"
    )

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Compute `plcc_loss`, and 0.3 of `rank_loss`, of a batch.

        Args:
            outputs: Predicted scores [B, 1].
            batch: The batch.

        Returns:
            A scalar.
        """
        scores = self.both_scores(outputs, batch)
        return plcc_loss(*scores) + _RANK_SHARE * rank_loss(*scores)
