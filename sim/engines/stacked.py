"""All agents as one computation with batched layers: one matrix product per layer for all agents.

The computation of one agent is recorded once for each shape of its batch. A model that cannot be recorded is run by
another engine.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from basinet.sim.agents.state import StackedState
from basinet.sim.engines.functions import Keys
from basinet.sim.engines.layers import cross_entropy
from basinet.sim.engines.randomness import dropout_of
from basinet.sim.engines.recording import record
from basinet.sim.engines.tape import Tape
from basinet.sim.models.modules import copy_model, silence_vmap
from basinet.sim.tasks.task import Batch, Task

__all__ = ["StackedEngine"]

_MOST_TAPES = 4
"""Number of shapes of batches whose tapes are kept at a time."""


class StackedEngine:
    """Runs the forward and backward passes of all agents as batched layers.

    Args:
        model: The model of one agent.
        task: Supplies the loss.
        state: The agents' state.
        sample: Inputs of a small batch, on which the model is tried out.

    Raises:
        ValueError: The model cannot be recorded, draws from torch's global generators, or autocast is asked for.
    """

    name = "stacked"
    # A vectorised kernel rounds the last numbers, those that do not fill its registers, differently: with shares in
    # multiples of this, they do not depend on how the agents are divided.
    grain = 32

    def __init__(self, model: nn.Module, task: Task, state: StackedState, sample: Tensor) -> None:
        if state.autocast is not None:
            raise ValueError("its layers compute in the type of the parameters")
        silence_vmap()
        self.needs_keys = dropout_of(model, sample)
        self.model = copy_model(model).train()
        self.task = task
        self.state = state
        self.keys = Keys()
        self.tapes: dict[tuple[object, ...], Tape] = {}
        plain = type(task).loss is Task.loss and type(task).sample_loss is Task.sample_loss
        self.ordinary = plain and task.draw is None and not task.ignores
        self._tape(tuple(t[:2].expand(state.num_agents, *t[:2].shape) for t in task.train))

    def _tape(self, batch: Batch) -> Tape:
        """Return the tape for a batch of this shape, recording it first if there is none."""
        shape = tuple([t.shape for t in batch])
        if shape not in self.tapes:
            if len(self.tapes) == _MOST_TAPES:
                self.tapes.clear()
            self.tapes[shape] = self._record(batch)
        return self.tapes[shape]

    def _record(self, batch: Batch) -> Tape:
        """Record what the first agent computes: its outputs, if the loss has a form of its own, or its loss."""
        state, model = self.state, self.model
        parameters: dict[str, Tensor] = {name: model.get_parameter(name) for name in state.parameter_views}
        for name, parameter in parameters.items():
            parameter.data = state.parameter_views[name][0].detach().clone()
        buffers = {}
        for name, stacked in state.buffers.items():
            held = model.get_buffer(name)
            held.data = stacked[0].clone()
            buffers[name] = held
        compute: Callable[[list[Tensor]], object]
        if self.ordinary:
            compute = lambda inputs: model(inputs[0])  # noqa: E731
        else:
            compute = lambda inputs: self.task.loss(model, tuple(inputs))  # noqa: E731
        recording = record(compute, [t[0] for t in batch], parameters, buffers)
        for name, held in buffers.items():
            if model.get_buffer(name) is not held:
                raise ValueError(f"the model puts another tensor in the place of its buffer {name}")
        return Tape(recording, state, self.keys)

    @torch.no_grad()
    def gradients(self, batch: Batch, keys: Tensor) -> Tensor:
        """Write each agent's gradient into the state, and return the losses; see `Engine`."""
        self.keys.now = keys
        tape = self._tape(batch)
        with np.errstate(all="ignore"):  # divergence is recorded, not warned about
            losses = tape.forward(batch)
            if self.ordinary:
                losses, gradient = cross_entropy(losses, batch[-1])
                tape.backward(gradient)
            else:
                tape.backward(torch.ones_like(losses))
        return losses

    @torch.no_grad()
    def losses(self, batch: Batch, keys: Tensor) -> Tensor:
        """Compute each agent's loss only; see `Engine`."""
        self.keys.now = keys
        with np.errstate(all="ignore"):  # divergence is recorded, not warned about
            found = self._tape(batch).value(batch)
            return cross_entropy(found, batch[-1])[0] if self.ordinary else found
