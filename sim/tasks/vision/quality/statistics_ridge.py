"""Ridge regression on statistics of scenes, a trivial predictor of quality."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from basinet.sim.evaluation.measuring import measure
from basinet.sim.tasks.loaders.csv_files import shift_and_scale
from basinet.sim.tasks.task import Batch, Task

__all__ = ["RIDGE", "Ridge", "Standard", "ridge_baseline"]

RIDGE = "ridge on scene statistics"
"""Name of the baseline."""

_STRENGTHS = torch.logspace(-3, 3, 25, dtype=torch.float64)
"""Penalties of the squared weights that are tried, per sample."""


@dataclass(frozen=True)
class Standard:
    """What shifts and scales features to mean 0 and variance 1.

    Attributes:
        shift: What is subtracted from each.
        scale: What it is then divided by.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def of(cls, features: Tensor) -> Self:
        """Return what standardises features.

        Args:
            features: [..., F].

        Returns:
            The mean and deviation of each, over all other dimensions.
        """
        shift, scale = shift_and_scale(features.double().flatten(0, -2).numpy())
        return cls(tuple(shift.tolist()), tuple(scale.tolist()))

    def __call__(self, features: Tensor) -> Tensor:
        """Standardise features, float64 [..., F]."""
        found: Tensor = (features - torch.tensor(np.array(self.shift))) / torch.tensor(np.array(self.scale))
        return found


class Ridge:
    r"""Ridge regression, whose strength has the smallest squared error when each sample is left out in turn.

    With the singular vectors $u_j$ and values $s_j$ of the centred features, the prediction for a sample that is left
    out has the residual $e_i / (1 − h_i)$, where $h_i = 1/n + \sum_j u_{ij}^2 s_j^2 / (s_j^2 + n λ)$ (Allen: The
    relationship between variable selection and data augmentation, Technometrics 16, 1974).

    Args:
        features: [n, F].
        targets: [n].

    Attributes:
        strength: The penalty λ of the squared weights, per sample.
    """

    def __init__(self, features: Tensor, targets: Tensor) -> None:
        x, y = features.double(), targets.double()
        self.standard = Standard.of(x)
        self.mean = y.mean()
        left, values, right = torch.linalg.svd(self.standard(x), full_matrices=False)
        rotated, n = left.T @ (y - self.mean), len(y)
        errors = []
        for strength in _STRENGTHS:
            kept = values.square() / (values.square() + n * strength)
            leverage = (1 / n + left.square() @ kept).clamp(max=1 - 1e-9)
            errors.append(((y - self.mean - left @ (kept * rotated)) / (1 - leverage)).square().mean())
        self.strength = float(_STRENGTHS[int(torch.stack(errors).argmin())])
        self.weights = right.T @ (values / (values.square() + n * self.strength) * rotated)

    def __call__(self, features: Tensor) -> Tensor:
        """Predict, from features [B, F]: float64 [B]."""
        found: Tensor = self.standard(features.double()) @ self.weights + self.mean
        return found


def ridge_baseline(task: Task) -> dict[str, float]:
    """Measure ridge regression that is fitted to the training data.

    Args:
        task: A task whose batches are (features [n, F], scores [n, 1]), float64 on the CPU.

    Returns:
        Its losses and metrics by name.
    """
    features, scores = task.train
    ridge = Ridge(features, scores[:, 0])

    def predicted(batch: Batch) -> Tensor:
        return ridge(batch[0])[:, None]

    with torch.no_grad():
        measured = [measure(task, where, predicted) for where in ("train", "test") if getattr(task, where) is not None]
    return {name: value for part in measured for name, value in part.items()}
