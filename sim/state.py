"""The stacked state: one row an agent, and each layer's parameters as a view into it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["StackedState"]


class StackedState:
    """Parameters, gradients and buffers of N agents.

    `parameters` and `gradients` are contiguous [N, P]; what `parameter_views` and `gradient_views` hold are
    views [N, *shape] into them, by the model's own names, and never copies. The parameter views are leaves of
    autograd whose `grad` is the gradient view, so that a backward pass writes into `gradients` directly.

    Args:
        model: The model whose parameters and buffers are stacked; its values are not used.
        num_agents: N.
        device: Where the state lives.
        dtype: Floating type of the state.
    """

    def __init__(self, model: nn.Module, num_agents: int, device: torch.device, dtype: torch.dtype) -> None:
        shapes = {name: p.shape for name, p in model.named_parameters()}
        size = sum(shape.numel() for shape in shapes.values())
        self.num_agents = num_agents
        self.parameters = torch.zeros(num_agents, size, device=device, dtype=dtype)
        self.gradients = torch.zeros_like(self.parameters)
        self.parameter_views: dict[str, Tensor] = {}
        self.gradient_views: dict[str, Tensor] = {}
        offset = 0
        for name, shape in shapes.items():
            place = slice(offset, offset + shape.numel())
            view = self.parameters[:, place].view(num_agents, *shape).requires_grad_()
            view.grad = self.gradients[:, place].view(num_agents, *shape)
            self.parameter_views[name] = view
            self.gradient_views[name] = view.grad
            offset = place.stop
        self.buffers: dict[str, Tensor] = {
            name: torch.empty(
                num_agents, *b.shape, device=device, dtype=dtype if b.is_floating_point() else b.dtype
            )
            for name, b in model.named_buffers()
        }

    def fill(self, rows: slice, model: nn.Module) -> None:
        """Set some agents to the values of a model.

        Args:
            rows: Which agents.
            model: A model of the same structure.
        """
        with torch.no_grad():
            for name, p in model.named_parameters():
                self.parameter_views[name].data[rows] = p.to(self.parameters)
            for name, b in model.named_buffers():
                self.buffers[name][rows] = b.to(self.buffers[name])


def load_vector(model: nn.Module, parameters: Tensor, buffers: dict[str, Tensor]) -> nn.Module:
    """Give a plain model the values of one row.

    Args:
        model: A model of the state's structure; changed in place.
        parameters: [P].
        buffers: Buffers by name, without the leading axis.

    Returns:
        The model.
    """
    with torch.no_grad():
        nn.utils.vector_to_parameters(parameters, model.parameters())
        for name, b in model.named_buffers():
            b.copy_(buffers[name])
    return model


def instantiate(factory: Callable[[], nn.Module] | nn.Module, seed: int) -> nn.Module:
    """Make a model with keyed initial values; the global random state is left as it was.

    Args:
        factory: Makes a model, or is one (whose values are then the start of every replica).
        seed: Seed of the initial values.

    Returns:
        A new model on the CPU.
    """
    if isinstance(factory, nn.Module):
        import copy

        return copy.deepcopy(factory)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return factory()


def rows_of(state: Any, rows: slice, num_rows: int) -> Any:
    """Take some agents' part of a nested state: tensors and lists whose leading length is the number of rows.

    Args:
        state: Nested mappings of tensors, lists and plain values.
        rows: Which rows.
        num_rows: How many rows the state has.

    Returns:
        The same nesting with the rows taken.
    """
    if isinstance(state, dict):
        return {name: rows_of(value, rows, num_rows) for name, value in state.items()}
    if isinstance(state, Tensor):
        return state[rows].clone() if state.ndim and state.shape[0] == num_rows else state.clone()
    if isinstance(state, list) and len(state) == num_rows:
        return state[rows]
    return state
