"""The stacked state: one row per agent, and each layer's parameters as views into it."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from basinet.sim.agents.placement import Placement
from basinet.sim.data.generators import restored_generators, seed_all
from basinet.sim.models.freezing import held_parameters
from basinet.sim.models.modules import copy_model
from basinet.sim.models.patterns import trained_names

__all__ = [
    "StackedState",
    "instantiate",
    "interchangeable",
    "join_rows",
    "load_vector",
    "measured_parameters",
    "take_rows",
    "weighted_mean",
]


class StackedState:
    """Parameters, gradients and buffers of N agents.

    `parameters` and `gradients` are contiguous [N, P]; `parameter_views` and `gradient_views` are views [N, *shape]
    into them, by the model's parameter names. The parameter views are autograd leaves. Frozen parameters stay in the
    model and are shared by all agents, unless the model holds them as buffers, whose names are `held`. `names` are all
    names of each trained parameter. `loss_scale`, if set, is a factor on each agent's loss [N] in backward passes.

    Args:
        model: The model whose trainable parameters and buffers are stacked; its values are not used.
        num_agents: N.
        device: Where the state lives.
        dtype: Floating type of the state.
        autocast: Lower-precision type for torch's autocast in the engines, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        num_agents: int,
        device: torch.device,
        dtype: torch.dtype,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.shapes = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
        self.names = trained_names(model)
        size = sum(shape.numel() for shape in self.shapes.values())
        buffers = {
            name: torch.empty(num_agents, *b.shape, device=device, dtype=dtype if b.is_floating_point() else b.dtype)
            for name, b in model.named_buffers()
        }
        self.held = held_parameters(model)
        self.autocast = autocast
        self.loss_scale: Tensor | None = None
        self._set(_zeros(num_agents, size, device, dtype), _zeros(num_agents, size, device, dtype), buffers)

    def _set(self, parameters: Tensor, gradients: Tensor, buffers: dict[str, Tensor]) -> None:
        """Set the state to tensors [N, ...], and create the views."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        self._places = [
            ((len(parameters), *shape), (sum(sizes), *torch.empty(shape, device="meta").stride()), sum(sizes[:layer]))
            for layer, shape in enumerate(self.shapes.values())
        ]
        self.num_agents = len(parameters)
        self.parameters, self.gradients, self.buffers = parameters, gradients, buffers
        leaves = [view.requires_grad_() for view in self.split(parameters)]
        self.parameter_views = dict(zip(self.shapes, leaves, strict=True))
        self.gradient_views = dict(zip(self.shapes, self.split(gradients), strict=True))
        self._parts: list[tuple[slice, StackedState]] = []

    def part(self, rows: slice) -> "StackedState":
        """Return some agents as a state of their own, in the same memory.

        Args:
            rows: Which agents.

        Returns:
            A state that shares memory with this one.
        """
        part = copy.copy(self)
        # Views share a count of writes, by which autograd would refuse the pass of one part after a write of another.
        buffers = {name: b[rows].data for name, b in self.buffers.items()}
        part._set(self.parameters[rows], self.gradients[rows], buffers)
        part.loss_scale = None if self.loss_scale is None else self.loss_scale[rows]
        self._parts.append((rows, part))
        return part

    def split(self, flat: Tensor) -> list[Tensor]:
        """Split [N, P] into layers.

        Args:
            flat: A tensor laid out like the parameters.

        Returns:
            Views [N, *shape], in the model's order.
        """
        start = flat.storage_offset()
        return [flat.as_strided(shape, strides, start + offset) for shape, strides, offset in self._places]

    def exchange(self, x: Tensor, other: Tensor) -> None:
        """Swap two tensors in memory, together with the views: x then holds the data of `other`.

        Args:
            x: [N, P]; the parameters, or any tensor like them.
            other: [N, P]; the gradients, or any tensor like them.
        """
        x.data, other.data = other.data, x.data
        self._refresh_views()

    def _refresh_views(self) -> None:
        """Recreate the views."""
        for flat, views in ((self.parameters, self.parameter_views), (self.gradients, self.gradient_views)):
            for view, moved in zip(views.values(), self.split(flat), strict=True):
                view.data = moved
        for rows, part in self._parts:
            part.parameters.data, part.gradients.data = self.parameters[rows], self.gradients[rows]
            part._refresh_views()

    def differentiate(self, losses: Tensor) -> None:
        """Write the gradient of each agent's loss, scaled if there is a scale, into its rows of `gradients`.

        Args:
            losses: [N]; the gradient of their sum has the gradient of an agent's loss in its rows.
        """
        scaled = losses if self.loss_scale is None else losses * self.loss_scale
        scaled.sum().backward()  # type: ignore[no-untyped-call]
        for name, leaf in self.parameter_views.items():
            if leaf.grad is None:  # the loss does not depend on it
                self.gradient_views[name].zero_()
            else:
                self.gradient_views[name].copy_(leaf.grad)
                leaf.grad = None

    def fill(self, rows: slice, model: nn.Module) -> None:
        """Set some agents to the values of a model.

        Args:
            rows: Which agents.
            model: A model of the same structure.
        """
        with torch.no_grad():
            for name, view in self.parameter_views.items():
                view.data[rows] = model.get_parameter(name).to(self.parameters)
            for name, b in model.named_buffers():
                self.buffers[name][rows] = b.to(self.buffers[name])


def interchangeable(x: Tensor, other: Tensor) -> bool:
    """Return whether two tensors can be swapped in memory: they are alike, and the first is not a view."""
    same = x.shape == other.shape and x.dtype == other.dtype and x.device == other.device
    return same and x.is_contiguous() and x._base is None


def _zeros(rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Allocate zeros; on the CPU by numpy, which asks for huge pages and so speeds up access to scattered rows."""
    if device.type != "cpu":
        return torch.zeros(rows, columns, device=device, dtype=dtype)
    like = torch.zeros(0, dtype=dtype).numpy()
    return torch.from_numpy(np.zeros((rows, columns), dtype=like.dtype))


def load_vector(model: nn.Module, parameters: Tensor, buffers: dict[str, Tensor]) -> nn.Module:
    """Load one row into a plain model; the row is copied, so a model that writes its parameters leaves it unchanged.

    Args:
        model: A model with the structure of the state; changed in place.
        parameters: [P].
        buffers: Buffers by name, without the leading axis.

    Returns:
        The model.
    """
    with torch.no_grad():
        nn.utils.vector_to_parameters(parameters.clone(), (p for p in model.parameters() if p.requires_grad))
        for name, b in model.named_buffers():
            b.copy_(buffers[name])
    return model


def instantiate(factory: Callable[[], nn.Module] | nn.Module, seed: int) -> nn.Module:
    """Build a model with keyed initial values, leaving the global random state unchanged.

    Args:
        factory: Builds a model, or is one (whose values then start every replica).
        seed: Seed of the initial values.

    Returns:
        A new model on the CPU.
    """
    if isinstance(factory, nn.Module):
        return copy_model(factory)
    with restored_generators(), torch.random.fork_rng(devices=[]):
        seed_all(seed)
        return factory()


def weighted_mean(rows: Tensor, weights: Tensor) -> Tensor:
    """Average rows; if all agree, the mean is exactly their common value, as in `Replicas.centroid`.

    Args:
        rows: Parameters or buffers, [N, ...].
        weights: Floating-point weights of the rows, [N]; they sum to one.

    Returns:
        The mean, [1, ...], in the type of the weights; integers are rounded.
    """
    values = rows.to(weights.dtype)
    shares = weights.view(-1, *(1 for _ in rows.shape[1:]))
    mean = values[:1] + ((values - values[0]) * shares).sum(0, keepdim=True)
    return mean if rows.is_floating_point() else mean.round().to(rows.dtype)


def measured_parameters(state: dict[str, Any]) -> Tensor:
    """Return what is measured of the agents in a checkpoint.

    Args:
        state: The checkpoint, or a part of its rows.

    Returns:
        Their parameters [N, P], or the averages of these over the steps, if the experiment asks for that.
    """
    found: Tensor = state["rows"][state.get("measured", "parameters")]
    return found


def take_rows(state: dict[str, Any], rows: slice | np.ndarray) -> dict[str, Any]:
    """Take some agents' part of a state.

    Args:
        state: A mapping whose entry "rows" holds nested mappings of tensors and lists with leading agent axis.
            Everything else is common to all agents.
        rows: Which rows.

    Returns:
        The same nesting, with copies of these rows only.
    """
    return {**state, "rows": _map([state["rows"]], lambda parts: _take(parts[0], rows))}


def join_rows(parts: list[dict[str, Any]], placement: Placement) -> dict[str, Any]:
    """Join the workers' parts of a state.

    Args:
        parts: The state of each worker.
        placement: Which worker hosts which rows.

    Returns:
        The state of all rows; entries outside "rows" come from the first part.
    """
    return {**parts[0], "rows": _map([part["rows"] for part in parts], placement.join)}


def _map(parts: list[Any], function: Callable[[list[Any]], Any]) -> Any:
    """Apply a function to the corresponding leaves of nested mappings."""
    if isinstance(parts[0], dict):
        return {name: _map([part[name] for part in parts], function) for name in parts[0]}
    return function(parts)


def _take(values: Any, rows: slice | np.ndarray) -> Any:
    if isinstance(rows, slice):
        return values[rows].clone() if isinstance(values, Tensor) else values[rows]
    return values[torch.from_numpy(rows)] if isinstance(values, Tensor) else [values[row] for row in rows]
