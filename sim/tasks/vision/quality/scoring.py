"""Prediction of mean opinion scores, under losses of samples and of whole batches."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from basinet.sim.tasks.model_outputs import fit, output_of
from basinet.sim.tasks.supervised import Regression
from basinet.sim.tasks.task import Batch, MeanOver
from basinet.sim.tasks.vision.quality.batch_losses import plcc_loss, rank_loss

__all__ = ["Loss", "PlccRankScoring", "PlccScoring", "RankScoring", "Scoring"]

Loss = Literal["l1", "plcc", "rank", "plcc_rank"]

_RANK_SHARE = 0.3
"""Factor of the rank loss beside that of the correlation, as in FAST-VQA."""

_LOCAL = "; a batch of another size, such as that of an agent, makes another objective"


@dataclass(frozen=True, kw_only=True)
class Scoring(Regression):
    """Prediction of mean opinion scores, [B, 1], under the absolute error."""

    num_outputs: int = 1

    loss_words: ClassVar[str] = "absolute error of the scores"

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Compute the absolute error of each sample.

        Args:
            outputs: Predicted scores [B, 1].
            batch: The batch.

        Returns:
            Tensor [B], not reduced.
        """
        found, scores = self._scores(outputs, batch)
        return nn.functional.l1_loss(found, scores, reduction="none").mean(-1)

    def _scores(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return predicted and true scores, both [B, 1]."""
        scores = self.targets(batch)
        return fit(output_of(outputs), scores.shape, "the model returns outputs"), scores


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
        return plcc_loss(*self._scores(outputs, batch))


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
        return rank_loss(*self._scores(outputs, batch))


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
        scores = self._scores(outputs, batch)
        return plcc_loss(*scores) + _RANK_SHARE * rank_loss(*scores)
