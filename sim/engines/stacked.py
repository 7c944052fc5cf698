"""All agents as one computation with batched layers: one matrix product per layer for all agents.

The computation of one agent is recorded once for each shape of its batch. A model that cannot be recorded is run by
another engine.
"""

import numpy as np
import torch
from torch import Tensor, nn

from basinet.sim.agents.state import StackedState
from basinet.sim.data.nests import leaves, map_nest, rebuild
from basinet.sim.data.rows import take
from basinet.sim.engines.functions import Keys
from basinet.sim.engines.layers import cross_entropy
from basinet.sim.engines.randomness import DRAWS, dropout_of, watch_draws
from basinet.sim.engines.recording import Unrecordable, record
from basinet.sim.engines.tape import Tape
from basinet.sim.experiment.mistakes import first_line
from basinet.sim.models.modules import copy_model, silence_vmap
from basinet.sim.tasks.model_outputs import output_of
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

    Raises:
        ValueError: The model cannot be recorded, draws from the global generators, or autocast is asked for.
    """

    name = "stacked"
    # A vectorised kernel rounds the last numbers, those that do not fill its registers, differently: with shares in
    # multiples of this, they do not depend on how the agents are divided.
    grain = 32

    def __init__(self, model: nn.Module, task: Task, state: StackedState) -> None:
        if state.autocast is not None:
            raise ValueError("its layers compute in the type of the parameters")
        silence_vmap()
        self.needs_keys = dropout_of(model, task)
        self.model = copy_model(model).train()
        self.task = task
        self.state = state
        self.keys = Keys()
        self.tapes: dict[tuple[object, ...], Tape] = {}
        self.refused: dict[tuple[object, ...], str] = {}
        plain = type(task).objective is Task.objective and type(task).loss is Task.loss and task.mean_over == "samples"
        self.ordinary = plain and task.draw is None and not task.weighs
        self._record(map_nest(lambda t: t[None], take(task.train, slice(0, 2))))  # it may raise

    def _tape(self, batch: Batch, tensors: list[Tensor]) -> Tape:
        """Return the tape for a batch of this shape, recording it first if there is none."""
        shape = tuple([t.shape for t in tensors])
        if shape not in self.tapes:
            if shape in self.refused:
                raise ValueError(self.refused[shape])
            try:
                tape = self._record(batch)
                self._try(tape, tensors)
            except Exception as error:  # the user's model may raise anything
                self.refused[shape] = first_line(error)
                raise
            if len(self.tapes) == _MOST_TAPES:
                self.tapes.clear()
            self.tapes[shape] = tape
        return self.tapes[shape]

    def _try(self, tape: Tape, tensors: list[Tensor]) -> None:
        """Run a tape once, so that what cannot be batched fails before it has written buffers."""
        buffers = {name: b.clone() for name, b in self.state.buffers.items()}
        try:
            tape.value(tensors)
        finally:
            for name, b in buffers.items():
                self.state.buffers[name].copy_(b)

    @torch.inference_mode(False)  # what is made in that mode could not be watched
    def _record(self, batch: Batch) -> Tape:
        """Record what the first agent computes: its loss, or its outputs if the loss has a form of its own."""
        state, model, task = self.state, self.model, self.task
        parameters: dict[str, Tensor] = {name: model.get_parameter(name) for name in state.parameter_views}
        for name, parameter in parameters.items():
            parameter.data = state.parameter_views[name][0].detach().clone()
        buffers = {name: model.get_buffer(name) for name in state.buffers}
        for name, buffer in buffers.items():
            buffer.data = state.buffers[name][0].clone()

        def compute(tensors: list[Tensor]) -> Tensor:
            part = rebuild(batch, tensors)
            return output_of(task.outputs(model, part)) if self.ordinary else task.objective(model, part)

        mine = [t[0] for t in leaves(batch)]
        try:
            recording, random = watch_draws(lambda: record(compute, mine, parameters, buffers), state.parameters.device)
            if random:
                raise Unrecordable(DRAWS)
        except Unrecordable as error:
            raise ValueError(f"{'the model' if self.ordinary else 'the model or its loss'} {error}") from error
        for name, buffer in buffers.items():
            if model.get_buffer(name) is not buffer:
                raise ValueError(f"the model puts another tensor in the place of its buffer {name}")
        return Tape(recording, state, self.keys)

    @torch.no_grad()
    def gradients(self, batch: Batch, keys: Tensor) -> Tensor:
        """Write each agent's gradient into the state, and return the losses; see `Engine`."""
        self.keys.now = keys
        tensors = leaves(batch)
        tape = self._tape(batch, tensors)
        with np.errstate(all="ignore"):  # divergence is recorded, not warned about
            found = tape.forward(tensors)
            losses, gradient = self._losses(found, batch) if self.ordinary else (found, torch.ones_like(found))
            tape.backward(gradient)
        return losses

    @torch.no_grad()
    def losses(self, batch: Batch, keys: Tensor) -> Tensor:
        """Compute each agent's loss only; see `Engine`."""
        self.keys.now = keys
        with np.errstate(all="ignore"):  # divergence is recorded, not warned about
            tensors = leaves(batch)
            found = self._tape(batch, tensors).value(tensors)
            return self._losses(found, batch)[0] if self.ordinary else found

    def _losses(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        return cross_entropy(outputs, self.task.targets(batch))
