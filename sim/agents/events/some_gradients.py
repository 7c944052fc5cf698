"""Gradients of some of a block's agents, each at a point of its own and of a batch of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from basinet.sim.agents.oracle import Oracle
from basinet.sim.agents.state import StackedState
from basinet.sim.data.nests import leaves, rebuild
from basinet.sim.engines import ENGINES, Engine
from basinet.sim.engines.fallback import FallbackEngine
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks import Batch, Task

__all__ = ["SomeGradients"]


class SomeGradients:
    """Computes gradients of any of a block's agents in one pass.

    Args:
        setup: The parts of the run.
        oracle: Computes the gradients of all agents.
        model: The model, on the device.
        task: The task, on the device.
        state: The agents' state, whose running statistics are updated.
    """

    def __init__(self, setup: Setup, oracle: Oracle, model: nn.Module, task: Task, state: StackedState) -> None:
        self._setup = setup
        self._oracle = oracle
        self._model, self._task = model, task
        self._agents = state
        self._room = setup.state(model, len(state.parameters), state.parameters.device)
        self._room.fill(slice(None), model)
        self._parts: dict[int, tuple[StackedState, Engine]] = {}

    def _part(self, count: int) -> tuple[StackedState, Engine]:
        """Return room for so many agents, and an engine that computes there."""
        if count not in self._parts:
            state, kind = self._room.part(slice(0, count)), ENGINES[self._oracle.engine.name]
            parts = self._model, self._task, state
            engine = kind(*parts) if self._oracle.engine.name == "loop" else FallbackEngine(kind, *parts)
            self._parts[count] = state, engine
        return self._parts[count]

    def points(self, count: int) -> Tensor:
        """Return where the points of so many agents are read from, [n, P]."""
        return self._part(count)[0].parameters

    def compute(self, rows: Tensor, batches: Tensor, steps: Sequence[int]) -> Tensor:
        """Compute the gradients of some agents at `points`.

        Args:
            rows: The agents' rows in the block, int64 [n], all different.
            batches: Numbers of their batches, int64 [n].
            steps: The step of the run in which each is finished, from 0.

        Returns:
            [n, P], valid until the next call.
        """
        state, engine = self._part(len(rows))
        for name, buffer in self._agents.buffers.items():
            state.buffers[name].copy_(buffer[rows])
        oracle, noise = self._oracle, self._setup.config.gradient_noise
        # An engine without random draws does not read the keys.
        keys = oracle.keys("model", batches, rows) if engine.needs_keys else rows
        with torch.enable_grad():
            losses = engine.gradients(self._batch(rows, batches), keys)
        for name, buffer in self._agents.buffers.items():
            buffer[rows] = state.buffers[name]
        oracle.watch.add_some(rows, losses.detach(), [step + 1 for step in steps])
        if noise is not None:
            noise.disturb(state.gradients, oracle.keys("gradient noise", batches, rows))
        if oracle.clipping is not None:
            oracle.clipping.clip(state.gradients, rows)
        return state.gradients

    def _batch(self, rows: Tensor, batches: Tensor) -> Batch:
        """Draw the agents' batches, and augment their images."""
        batch = self._oracle.sampler.some(rows, batches)
        augmentation = self._setup.config.task.augmentation
        if augmentation is None:
            return batch
        images, *others = leaves(batch)
        keys = self._oracle.keys("augmentation", batches, rows)
        return rebuild(batch, (augmentation.make(images=images, keys=keys), *others))
