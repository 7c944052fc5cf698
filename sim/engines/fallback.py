"""An engine that leaves to the loop what it turns out not to be able to run."""

import logging

import torch
from torch import Tensor, nn

from basinet.sim.agents.state import StackedState
from basinet.sim.data.nests import leaves
from basinet.sim.engines.engine import EngineKind
from basinet.sim.engines.loop import LoopEngine
from basinet.sim.experiment.mistakes import first_line
from basinet.sim.tasks.task import Batch, Task

__all__ = ["FallbackEngine"]

logger = logging.getLogger(__name__)


class FallbackEngine:
    """Runs an engine, and the loop in its place where it fails.

    A trial shows that an engine can run batches of one shape. Others occur later (parts of a batch, the rest of a sweep
    over the data), for which the model may do other things. An engine that fails has to leave the buffers as they were.

    Args:
        kind: Builds the engine.
        model: The model of one agent.
        task: Supplies the loss.
        state: The agents' state.
    """

    def __init__(self, kind: EngineKind, model: nn.Module, task: Task, state: StackedState) -> None:
        self.engine = kind(model, task, state)
        self.name, self.needs_keys, self.grain = self.engine.name, self.engine.needs_keys, self.engine.grain
        self.parts = model, task, state
        self.loop: LoopEngine | None = None

    def gradients(self, batch: Batch, keys: Tensor) -> Tensor:
        """Write each agent's gradient into the state, and return the losses; see `Engine`."""
        try:
            return self.engine.gradients(batch, keys)
        except Exception as error:  # the user's model may raise anything when it is called in an unusual way
            return self._loop(batch, error).gradients(batch, keys)

    def losses(self, batch: Batch, keys: Tensor) -> Tensor:
        """Compute each agent's loss only; see `Engine`."""
        try:
            return self.engine.losses(batch, keys)
        except Exception as error:  # as above
            return self._loop(batch, error).losses(batch, keys)

    def _loop(self, batch: Batch, error: Exception) -> LoopEngine:
        """Return the loop, whose own error counts if it fails, too."""
        if isinstance(error, torch.OutOfMemoryError):
            raise error
        if self.loop is None:
            size = leaves(batch)[0].shape[1]
            logger.warning("engine %s: the loop runs batches of %d: %s", self.name, size, first_line(error))
            self.loop = LoopEngine(*self.parts)
        return self.loop
