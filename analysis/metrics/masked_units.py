"""How well masked units of images are predicted."""

import math
from typing import Any

import torch
from torch import Tensor

from basinet.sim import tasks
from basinet.sim.data.nests import Nest
from basinet.sim.evaluation.metric import Metric
from basinet.sim.tasks import Task
from basinet.sim.tasks.model_outputs import fit, output_of

__all__ = ["DetailR2"]


class DetailR2(Metric):
    """The share of the variance in the channels of masked units that is predicted; 0 for flat units of any colour."""

    label, heading, direction = "R² of the details of masked units", "R² of details", "larger"

    def reset(self) -> None:
        """Forget all batches."""
        self._sums: list[Tensor] = []

    def update(self, outputs: Any, batch: Nest, task: Task) -> None:
        """Take a batch into account.

        Args:
            outputs: Predicted pixels of masked units, [B, masked, 768].
            batch: The batch.
            task: The task quality_pretraining.

        Raises:
            ValueError: If the task is another one.
        """
        if not isinstance(task, tasks.QualityPretraining):
            raise ValueError(f"{self.name} needs masked units, as those of quality_pretraining are")
        targets = task.targets(batch)
        predicted = fit(output_of(outputs), targets.shape, "the model returns outputs")
        found, wanted = (_details(pixels.double()) for pixels in (predicted, targets))
        self._sums.append(torch.stack([(found - wanted).square().sum(), wanted.square().sum()]))

    def compute(self) -> float:
        """Compute 1 − Σ (p − d)² / Σ d², of the deviations d of pixels from the mean of their unit and channel.

        Returns:
            At most 1; NaN if all units are flat.
        """
        errors, whole = torch.stack(self._sums).sum(0).tolist()
        return 1 - errors / whole if whole else math.nan


def _details(pixels: Tensor) -> Tensor:
    """Subtract the mean of each channel from the pixels of units [..., 768]."""
    channels = pixels.reshape(*pixels.shape[:-1], 3, -1)
    return channels - channels.mean(-1, keepdim=True)
