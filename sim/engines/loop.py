"""The agents one after another: one module that uses each agent's views in turn."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from basinet.sim.agents.state import StackedState
from basinet.sim.data.rows import take
from basinet.sim.engines.randomness import KeyedDropout, randomness_of, seeded
from basinet.sim.models.modules import copy_model
from basinet.sim.tasks.task import Batch, Task

__all__ = ["LoopEngine"]


class LoopEngine:
    """Runs the forward and backward pass of each agent separately, in place on its rows.

    The fastest engine for convolutions on a CPU, and the only one for models that draw from the global generators
    of torch, NumPy or Python, which are then seeded by the agent's key.

    Args:
        model: The model of one agent.
        task: Supplies the loss.
        state: The agents' state.
    """

    name = "loop"

    def __init__(self, model: nn.Module, task: Task, state: StackedState) -> None:
        self.model = copy_model(model).train()
        self.task = task
        self.state = state
        self.dropout, self.random = randomness_of(model, task)
        self.needs_keys = self.dropout or self.random
        self.grain = 0 if self.random else 1  # torch's generators are shared by all threads
        self.parameters = [self.model.get_parameter(name) for name in state.parameter_views]
        # Under all names of a buffer that several layers share.
        self.buffers = [
            [
                (layer._buffers, key)
                for layer in self.model.modules()
                for key, b in layer._buffers.items()
                if b is buffer
            ]
            for buffer in map(self.model.get_buffer, state.buffers)
        ]

    def gradients(self, batch: Batch, keys: Tensor) -> Tensor:
        """Write each agent's gradient into the state, and return the losses; see `Engine`."""
        self.state.gradients.zero_()
        return self._agents(batch, keys)

    @torch.no_grad()
    def losses(self, batch: Batch, keys: Tensor) -> Tensor:
        """Compute each agent's loss only; see `Engine`."""
        return self._agents(batch, keys)

    def _agents(self, batch: Batch, keys: Tensor) -> Tensor:
        losses = [self._agent(n, take(batch, n), keys[n]).detach() for n in range(self.state.num_agents)]
        return torch.stack(losses)

    def _agent(self, n: int, batch: Batch, key: Tensor) -> Tensor:
        """Compute an agent's loss, and its gradient if autograd is on."""
        views = self.state.parameter_views.values()
        for parameter, view, gradient in zip(self.parameters, views, self.state.gradient_views.values(), strict=True):
            parameter.data = view.data[n]
            parameter.grad = gradient[n]
        buffers = [stacked[n] for stacked in self.state.buffers.values()]
        for places, view in zip(self.buffers, buffers, strict=True):
            for owner, name in places:
                owner[name] = view
        with (
            seeded(int(key)) if self.random else nullcontext(),
            KeyedDropout(key) if self.dropout else nullcontext(),
            torch.autocast(key.device.type, self.state.autocast, enabled=self.state.autocast is not None),
        ):
            loss = self.task.objective(self.model, batch)
        if torch.is_grad_enabled():
            scale = self.state.loss_scale
            (loss if scale is None else loss * scale[n]).backward()  # type: ignore[no-untyped-call]
        for places, buffer in zip(self.buffers, buffers, strict=True):
            for owner, name in places:
                now = owner[name]
                if now is not None and now is not buffer:  # the model has assigned another tensor
                    if now.shape != buffer.shape:
                        raise ValueError(
                            f"the buffer {name} has the shape {list(buffer.shape)} before a pass and {list(now.shape)}"
                            " after it; allowed are buffers that keep their shape"
                        )
                    buffer.copy_(now.detach())
        return loss
