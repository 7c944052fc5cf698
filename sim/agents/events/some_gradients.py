"""Gradients of some of a block's agents, each at a point of its own and of a batch of its own."""

from collections.abc import Iterator, Sequence

import numpy as np
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

_NUMBERS = 2**19
"""Approximate numbers in the batches that are drawn at once: a call costs more than many of them."""


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

    def batches(self, passes: Sequence[tuple[np.ndarray, np.ndarray]]) -> Iterator[Batch]:
        """Draw the batches of passes in turn, and augment their images; those of several passes at once, if small.

        Args:
            passes: The agents' rows in the block, int64 [n], and the numbers of their batches, int64 [n].

        Yields:
            Tensors [n, B, ...].
        """
        count, augmentation = 1, self._setup.config.task.augmentation
        while passes:
            some, passes = passes[:count], passes[count:]
            rows, numbers = (np.concatenate(parts) for parts in zip(*some, strict=True))
            batch = self._oracle.sampler.some(rows, numbers)
            if augmentation is not None:
                images, *others = leaves(batch)
                keys = self._keys("augmentation", rows, numbers)
                batch = rebuild(batch, (augmentation.make(images=images, keys=keys), *others))
            apart = [torch.split(tensor, [len(own) for own, _ in some]) for tensor in leaves(batch)]
            for parts in zip(*apart, strict=True):
                yield rebuild(batch, parts)
            count = max(1, _NUMBERS * len(some) // sum(t.numel() for t in leaves(batch)))

    def _keys(self, purpose: str, rows: np.ndarray, batches: np.ndarray) -> Tensor:
        index, numbers = (torch.from_numpy(each).to(self._room.parameters.device) for each in (rows, batches))
        return self._oracle.keys(purpose, numbers, index)

    def compute(self, rows: np.ndarray, numbers: np.ndarray, batch: Batch, steps: Sequence[int]) -> Tensor:
        """Compute the gradients of some agents at `points`.

        Args:
            rows: The agents' rows in the block, int64 [n], all different.
            numbers: The numbers of their batches, int64 [n].
            batch: Their batches.
            steps: The step of the run in which each is finished, from 0.

        Returns:
            [n, P], valid until the next call.
        """
        state, engine = self._part(len(rows))
        oracle, noise = self._oracle, self._setup.config.gradient_noise
        index = torch.from_numpy(rows).to(state.parameters.device)
        for name, buffer in self._agents.buffers.items():
            state.buffers[name].copy_(buffer[index])
        # An engine without random draws does not read the keys.
        keys = self._keys("model", rows, numbers) if engine.needs_keys else index
        with torch.enable_grad():
            losses = engine.gradients(batch, keys)
        for name, buffer in self._agents.buffers.items():
            buffer[index] = state.buffers[name]
        oracle.watch.add_some(rows, losses.detach(), [step + 1 for step in steps])
        if noise is not None:
            noise.disturb(state.gradients, self._keys("gradient noise", rows, numbers))
        if oracle.clipping is not None:
            oracle.clipping.clip(state.gradients, index)
        return state.gradients
