"""All agents as one computation with `torch.vmap`."""

from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from basinet.sim.agents.state import StackedState
from basinet.sim.data.nests import leaves, rebuild
from basinet.sim.engines.randomness import KeyedDropout, dropout_of
from basinet.sim.models.modules import FunctionOf, copy_model, silence_vmap
from basinet.sim.tasks.task import Batch, Task

__all__ = ["VectorizedEngine"]


class VectorizedEngine:
    """Maps the model over the agents' axis with `torch.vmap`; the backward pass is ordinary autograd.

    The sum of the agents' losses has, in agent n's rows, the gradient of agent n's loss.

    Args:
        model: The model of one agent.
        task: Gives the loss.
        state: The agents' state.

    Raises:
        ValueError: The model draws from the global generators, which no batched computation can key.
    """

    name = "vectorized"
    grain = 0

    def __init__(self, model: nn.Module, task: Task, state: StackedState) -> None:
        silence_vmap()
        self.objective = FunctionOf(copy_model(model).train(), task.objective)
        self.state = state
        self.dropout = self.needs_keys = dropout_of(model, task)

    def gradients(self, batch: Batch, keys: Tensor) -> Tensor:
        """Write each agent's gradient into the state, and return the losses; see `Engine`."""
        losses, buffers = self._forward(batch, keys)
        self.state.differentiate(losses)
        self._keep(buffers)
        return losses.detach()

    @torch.no_grad()
    def losses(self, batch: Batch, keys: Tensor) -> Tensor:
        """Compute each agent's loss only; see `Engine`."""
        losses, buffers = self._forward(batch, keys)
        self._keep(buffers)
        return losses

    def _forward(self, batch: Batch, keys: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the losses [N] and the updated buffers."""
        autocast = self.state.autocast
        with torch.autocast(keys.device.type, autocast, enabled=autocast is not None):
            return torch.vmap(partial(self._agent, batch))(
                self.state.parameter_views, self.state.buffers, tuple(leaves(batch)), keys
            )

    def _keep(self, buffers: dict[str, Tensor]) -> None:
        for name, value in buffers.items():
            self.state.buffers[name].copy_(value)

    def _agent(
        self,
        like: Batch,
        parameters: dict[str, Tensor],
        buffers: dict[str, Tensor],
        tensors: tuple[Tensor, ...],
        key: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        # Running statistics are updated in place by the model: on copies, which go back to the state.
        buffers = {name: b.clone() for name, b in buffers.items()}
        with KeyedDropout(key) if self.dropout else nullcontext():
            state = {f"model.{name}": t for name, t in (parameters | buffers).items()}
            loss = functional_call(self.objective, state, (rebuild(like, tensors),))
        return loss, buffers
