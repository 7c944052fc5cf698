"""Escapes: when the centroid of a replica first leaves the region where it started."""

from collections.abc import Callable
from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from basinet.sim.agents.state import load_vector
from basinet.sim.evaluation.measuring import chunks
from basinet.sim.experiment.component import Component
from basinet.sim.tasks import Task

__all__ = ["ESCAPES", "EscapeWatch", "passes", "risk_above"]

_CHUNK = 4096
"""Samples that pass through the model at a time."""


def passes(*, centroids: Tensor, start: Tensor, value: float, coordinate: Annotated[int, Field(ge=0)] = 0) -> Tensor:
    """A coordinate of the centroid crosses a value, from the side where it started.

    Args:
        centroids: The centroids [R, P]; the simulator supplies them.
        start: Where they started [R, P]; the simulator supplies it.
        value: The value.
        coordinate: Index of the parameter, from 0.

    Returns:
        Whether each replica is beyond the value, bool [R].

    Raises:
        ValueError: The model has no such coordinate.

    Example:
        >>> passes(centroids=torch.tensor([[0.5], [2.0]]), start=torch.tensor([[-1.0], [3.0]]), value=0.0).tolist()
        [True, False]
    """
    if coordinate >= centroids.shape[1]:
        raise ValueError(f"coordinate is {coordinate}, but the model has {centroids.shape[1]} numbers")
    now, then = centroids[:, coordinate], start[:, coordinate]
    return ((now > value) & (then <= value)) | ((now < value) & (then >= value))


def risk_above(*, excess_loss: Callable[[], Tensor], level: Annotated[float, Field(gt=0)]) -> Tensor:
    """The training loss of the centroid exceeds its initial value by more than a level.

    From a minimum, this is the excess risk, and a level at the height of the barrier has to be climbed by any path.

    Args:
        excess_loss: Computes by how much the training loss of each centroid exceeds that at its start, [R]; the
            simulator supplies it.
        level: The level.

    Returns:
        Whether each replica is above it, bool [R].
    """
    return excess_loss() > level


ESCAPES: dict[str, Callable[..., Tensor]] = {"passes": passes, "risk_above": risk_above}


class EscapeWatch:
    """Records the step at which the centroid of each replica escapes, without a device sync.

    Args:
        condition: Computes which replicas are outside.
        every: Steps between two checks.
        centroids: The initial centroids, [R, P].
        buffers: The model's initial buffers by name, [R, ...].
        model: A plain model on the device, in evaluation mode.
        task: Supplies loss and data.

    Attributes:
        steps: The step at which each replica was first seen outside, or 0: int64 [R].
    """

    def __init__(
        self,
        condition: Component,
        every: int,
        centroids: Tensor,
        buffers: dict[str, Tensor],
        model: nn.Module,
        task: Task,
    ) -> None:
        self.condition = condition
        self.every = every
        self.start = centroids, buffers
        self.model = model
        self.task = task
        self.steps = torch.zeros(len(centroids), dtype=torch.int64, device=centroids.device)

    def look(self, centroids: Tensor, buffers: dict[str, Tensor], step: int) -> None:
        """Check where the replicas are.

        Args:
            centroids: [R, P].
            buffers: The model's buffers by name, [R, ...].
            step: Number of steps taken.
        """
        outside = self.condition.make(
            centroids=centroids,
            start=self.start[0],
            excess_loss=lambda: self._losses(centroids, buffers) - self._start_losses,
        )
        self.steps += (outside & (self.steps == 0)) * step

    @cached_property
    def _start_losses(self) -> Tensor:
        return self._losses(*self.start)

    @torch.no_grad()
    def _losses(self, centroids: Tensor, buffers: dict[str, Tensor]) -> Tensor:
        """Compute the training loss of each replica's centroid, [R]."""
        losses = centroids.new_zeros(len(centroids))
        for replica, parameters in enumerate(centroids):
            load_vector(self.model, parameters, {name: b[replica] for name, b in buffers.items()})
            for part, weight in chunks(self.task, self.task.train, _CHUNK):
                losses[replica] += weight * self.task.objective(self.model, part)
        return losses
