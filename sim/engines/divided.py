"""Agents divided among threads, each with its own engine."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch
from torch import Tensor, nn

from basinet.sim.agents.state import StackedState
from basinet.sim.data.rows import take
from basinet.sim.engines.engine import EngineKind
from basinet.sim.tasks.task import Batch, Task

__all__ = ["DividedEngine"]


class DividedEngine:
    """Runs one engine for each share of the agents, in parallel.

    An agent's results do not depend on the others in its share, nor therefore on the number of threads. One thread per
    share is faster than many threads inside each operation.

    Args:
        kind: Builds the engines.
        model: The model of one agent.
        task: Supplies the loss.
        state: The agents' state.
        threads: Largest number of shares.
        grain: The size of a share is a multiple of this.
    """

    def __init__(
        self,
        kind: EngineKind,
        model: nn.Module,
        task: Task,
        state: StackedState,
        threads: int,
        grain: int,
    ) -> None:
        bounds = [state.num_agents * share // threads // grain * grain for share in range(threads)]
        bounds = [*sorted(set(bounds)), state.num_agents]
        self.shares = [slice(first, last) for first, last in pairwise(bounds)]
        self.engines = [kind(model, task, state.part(share)) for share in self.shares]
        self.name = self.engines[0].name
        self.needs_keys = self.engines[0].needs_keys
        self.grain = grain
        self.pool = ThreadPoolExecutor(len(self.shares), initializer=torch.set_num_threads, initargs=(1,))

    def gradients(self, batch: Batch, keys: Tensor) -> Tensor:
        """Write each agent's gradient into the state, and return the losses; see `Engine`."""
        return self._side_by_side([engine.gradients for engine in self.engines], batch, keys)

    def losses(self, batch: Batch, keys: Tensor) -> Tensor:
        """Compute each agent's loss only; see `Engine`."""
        return self._side_by_side([engine.losses for engine in self.engines], batch, keys)

    def _side_by_side(self, passes: list[Callable[[Batch, Tensor], Tensor]], batch: Batch, keys: Tensor) -> Tensor:
        jobs = [
            self.pool.submit(run, take(batch, share), keys[share])
            for run, share in zip(passes, self.shares, strict=True)
        ]
        return torch.cat([job.result() for job in jobs])
