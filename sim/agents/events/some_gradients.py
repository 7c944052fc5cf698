"""Gradients of some of a block's agents, each at a point of its own and of a batch of its own."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from basinet.sim.agents.oracle import Oracle
from basinet.sim.agents.state import StackedState
from basinet.sim.data.nests import leaves, rebuild
from basinet.sim.engines import ENGINES, Engine
from basinet.sim.engines.fallback import FallbackEngine
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks import Task

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

    def compute(self, rows: np.ndarray, batches: np.ndarray, steps: Sequence[int]) -> Tensor:
        """Compute the gradients of some agents at `points`.

        Args:
            rows: The agents' rows in the block, int64 [n], all different.
            batches: Numbers of their batches, int64 [n].
            steps: The step of the run in which each is finished, from 0.

        Returns:
            [n, P], valid until the next call.
        """
        state, engine = self._part(len(rows))
        oracle, noise = self._oracle, self._setup.config.gradient_noise
        index, numbers = (torch.from_numpy(each).to(state.parameters.device) for each in (rows, batches))
        for name, buffer in self._agents.buffers.items():
            state.buffers[name].copy_(buffer[index])
        # An engine without random draws does not read the keys.
        keys = oracle.keys("model", numbers, index) if engine.needs_keys else index
        batch = oracle.sampler.some(rows, batches)
        if (augmentation := self._setup.config.task.augmentation) is not None:
            images, *others = leaves(batch)
            changed = augmentation.make(images=images, keys=oracle.keys("augmentation", numbers, index))
            batch = rebuild(batch, (changed, *others))
        with torch.enable_grad():
            losses = engine.gradients(batch, keys)
        for name, buffer in self._agents.buffers.items():
            buffer[index] = state.buffers[name]
        oracle.watch.add_some(rows, losses.detach(), [step + 1 for step in steps])
        if noise is not None:
            noise.disturb(state.gradients, oracle.keys("gradient noise", numbers, index))
        if oracle.clipping is not None:
            oracle.clipping.clip(state.gradients, index)
        return state.gradients
