"""Trivial forecasts: the last value, that of a season before, and a linear function fitted in closed form."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from basinet.sim.evaluation.measuring import chunks

if TYPE_CHECKING:
    from basinet.sim.tasks.task import Task

__all__ = ["LinearForecast", "last_value", "seasonal_naive"]

_CHUNK = 1024
"""Windows that are taken at a time."""


def last_value(inputs: Tensor, horizon: int) -> Tensor:
    """Repeat the last value of each window.

    Args:
        inputs: Windows [B, L, C].
        horizon: Number of values to forecast, H.

    Returns:
        Forecasts [B, H, C].
    """
    return inputs[:, -1:].expand(-1, horizon, -1)


def seasonal_naive(inputs: Tensor, horizon: int, season: int) -> Tensor:
    """Repeat the last season of each window.

    Args:
        inputs: Windows [B, L, C].
        horizon: Number of values to forecast, H.
        season: Length of a season, at most L.

    Returns:
        Forecasts [B, H, C].
    """
    repeats = -(-horizon // season)
    return inputs[:, -season:].repeat(1, repeats, 1)[:, :horizon]


class LinearForecast:
    """Each future value as an affine function of the window, shared by the channels, fitted by ridge regression.

    It is fitted to the differences from the last value of the window, in float64. The penalty of the squared weights
    keeps the system regular, since neighbouring values are nearly the same; the intercept is not penalised.

    Args:
        task: A task with inputs [n, L, C] and targets [n, H, C], to whose training data it is fitted.
        penalty: Factor of the squared weights in the sum of squared errors, relative to the sum of the squared inputs
            at a time, in the mean over the times of a window.
    """

    def __init__(self, task: "Task", *, penalty: float = 1e-3) -> None:
        gram: Tensor | float = 0.0
        cross: Tensor | float = 0.0
        for batch, _ in chunks(task, task.train, _CHUNK):
            inputs, targets = batch
            last = inputs[:, -1:]
            past, future = (_rows(part - last) for part in (inputs, targets))
            past = torch.nn.functional.pad(past, (0, 1), value=1.0)
            gram, cross = gram + past.T @ past, cross + past.T @ future
        assert isinstance(gram, Tensor) and isinstance(cross, Tensor)
        size = gram.diagonal()[:-1].mean()
        ridge = penalty * torch.where(size > 0, size, 1.0) * torch.ones_like(gram[0])
        ridge[-1] = 0.0
        self.weights = torch.linalg.solve(gram + ridge.diag(), cross)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Forecast.

        Args:
            inputs: Windows [B, L, C].

        Returns:
            Forecasts [B, H, C].
        """
        last = inputs[:, -1:]
        past = (inputs - last).double().transpose(1, 2)
        change: Tensor = past @ self.weights[:-1] + self.weights[-1]
        return change.transpose(1, 2).to(inputs.dtype) + last


def _rows(windows: Tensor) -> Tensor:
    """Write the channels of windows below one another, [B, T, C] as float64 [B C, T]."""
    return windows.double().transpose(1, 2).flatten(0, 1)
