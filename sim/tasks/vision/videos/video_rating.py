"""Prediction of what people say of videos."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from basinet.sim.tasks.model_outputs import fit, output_of
from basinet.sim.tasks.supervised import Regression
from basinet.sim.tasks.task import Batch

__all__ = ["VideoRating"]


@dataclass(frozen=True, kw_only=True)
class VideoRating(Regression):
    """Prediction of the mean opinion scores of videos, from 1 to 5, under the absolute error.

    The scores [B, 1] are the last part of a batch.

    Attributes:
        names: Names of the test videos.
        pairs: For "source" (the same content) and "nonsource" (different ones), pairs of test videos that are hard to
            tell apart: int64 [P, 3], the places of two, and 1 if the first is the better one, or else 2.
        remark: What its tests do not tell, in words.
    """

    num_outputs: int = 1
    names: tuple[str, ...] = ()
    pairs: Mapping[str, Tensor] = field(default_factory=dict)
    remark: str = ""

    loss_words: ClassVar[str] = "absolute error of the scores"

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Compute the absolute error of each sample.

        Args:
            outputs: Predicted scores [B, 1], or a nest that begins with them.
            batch: The batch.

        Returns:
            Tensor [B], not reduced.
        """
        found, scores = self.both_scores(outputs, batch)
        return nn.functional.l1_loss(found, scores, reduction="none").mean(-1)

    def both_scores(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return predicted and true scores.

        Args:
            outputs: See `loss`.
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
