"""Attendance: which agents take part in each step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from basinet.sim.agents.channel import Channel
from basinet.sim.agents.placement import Placement
from basinet.sim.setup.setup import Setup

if TYPE_CHECKING:
    from basinet.sim.agents.block import Block

__all__ = ["Attendance"]


class Attendance:
    """Keeps what absent agents have, and leaves them out of the centroid.

    Args:
        setup: The parts of the run.
        placement: The rows of this worker.
        channel: Carries the messages between the agents.

    Attributes:
        present: Which agents take part in the present step, bool [N]; None for all.
        weights: Weights of the agents in the centroid of each replica, [R, K].
    """

    def __init__(self, setup: Setup, placement: Placement, channel: Channel) -> None:
        self._honest = self.weights = setup.honest_weights
        self._placement = placement
        self._channel = channel
        self.present: Tensor | None = None

    @contextmanager
    def of_step(self, block: "Block") -> Iterator[None]:
        """Take a step within this context, after which absent agents have what they had before.

        Those who return may go on from the parameters of their neighbours.

        Args:
            block: The agents.

        Yields:
            Nothing.
        """
        absent = self._channel.links.outages.absent(block.step)
        if absent is None:
            yield
            return
        welcomed = self._channel.links.outages.welcomed(block.step)
        if welcomed is not None:
            self._channel.welcome(welcomed, block.step)
        mine = torch.from_numpy(absent[self._placement.row_replicas, self._placement.row_agents]).to(block.x.device)
        self.present = ~mine
        rows = mine.nonzero()[:, 0]
        held = {place: tensor[rows].clone() for place, tensor in _tensors(block).items()}
        yield
        self.present = None
        for place, tensor in _tensors(block).items():
            if place in held:
                tensor[rows] = held[place]
        self.weigh(block.step)

    def weigh(self, step: int) -> None:
        """Leave those out of the centroid who are absent in a step, unless all of a replica are.

        Args:
            step: The step.
        """
        absent = self._channel.links.outages.absent(step)
        if absent is None:
            return
        here = np.where(absent, 0, self._honest)
        here = np.where(here.any(1, keepdims=True), here, self._honest)
        self.weights = here / here.sum(1, keepdims=True)
        self._channel.replicas.weigh(self.weights)


def _tensors(block: "Block") -> dict[str, Tensor]:
    """Return what a step may change of each agent, [N, ...], by name; the optimizer keeps its state by itself."""
    mixed = block.optimizer.rows() if block.setup.config.optimizer_state != "keep" else []
    return {
        "parameters": block.x,
        **{f"buffer {name}": tensor for name, tensor in block.state.buffers.items()},
        **{f"memory {name}": tensor for name, tensor in block.memory.items()},
        **{f"optimizer {place}": tensor for place, tensor in enumerate(mixed)},
    }
