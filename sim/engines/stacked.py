"""All agents as one computation with batched layers: one matrix product per layer for all agents.

The model is traced once (torch.fx) into a list of layers that take activations [N, B, ...] and the stacked parameters
[N, ...]. Every supported layer has its rule here; a model with any other layer or operation cannot be stacked, and
another engine runs it.
"""

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from basinet.algorithms import draws
from basinet.sim.agents.state import StackedState
from basinet.sim.data.nests import map_nest
from basinet.sim.engines.layers import ACTIVATIONS, Activation, Affine, Flatten, Layer, Local, Views, cross_entropy
from basinet.sim.engines.randomness import keyed_dropout
from basinet.sim.models import Point
from basinet.sim.models.freezing import held_parameters
from basinet.sim.models.modules import copy_model
from basinet.sim.tasks.task import Batch, Task

__all__ = ["StackedEngine"]

ELEMENTWISE_MODULES = (
    nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Identity,
)  # fmt: skip
ELEMENTWISE_FUNCTIONS = {
    operator.add, operator.mul, operator.sub, operator.neg, torch.add, torch.mul, torch.sub,
    torch.relu, torch.tanh, torch.sigmoid, nn.functional.relu, nn.functional.gelu, nn.functional.silu,
    nn.functional.softplus, nn.functional.leaky_relu, nn.functional.elu,
}  # fmt: skip


def layer_norm(layer: nn.LayerNorm, parameters: Views, x: Tensor) -> Tensor:
    """Normalise each sample, then scale and shift by each agent's own parameters.

    Args:
        layer: The layer of one agent.
        parameters: `weight` and `bias` [N, *normalized_shape], if the layer has them.
        x: [N, B, ..., *normalized_shape].

    Returns:
        A tensor of the shape of `x`.
    """
    x = nn.functional.layer_norm(x, layer.normalized_shape, eps=layer.eps)
    axes = (slice(None),) + (None,) * (x.ndim - 1 - len(layer.normalized_shape))
    if "weight" in parameters:
        x = x * parameters["weight"][axes]
    return x + parameters["bias"][axes] if "bias" in parameters else x


def batch_norm(layer: nn.BatchNorm1d, parameters: Views, buffers: Views, x: Tensor) -> Tensor:
    """Normalise each agent's batch by its own statistics, with the agents' features side by side.

    Args:
        layer: The layer of one agent.
        parameters: `weight` and `bias` [N, C], if the layer has them.
        buffers: `running_mean` and `running_var` [N, C], updated in place, if the layer tracks them.
        x: [N, B, C].

    Returns:
        A tensor of the shape of `x`.
    """
    n, batch, features = x.shape
    mean, variance = buffers.get("running_mean"), buffers.get("running_var")
    if "num_batches_tracked" in buffers:
        buffers["num_batches_tracked"].add_(1)
    y = nn.functional.batch_norm(
        x.transpose(0, 1).reshape(batch, n * features),
        None if mean is None else mean.view(-1),
        None if variance is None else variance.view(-1),
        parameters["weight"].reshape(-1) if "weight" in parameters else None,
        parameters["bias"].reshape(-1) if "bias" in parameters else None,
        training=True,
        momentum=layer.momentum if layer.momentum is not None else 0.0,
        eps=layer.eps,
    )
    return y.view(batch, n, features).transpose(0, 1)


class _Keys:
    """The agents' keys for the current pass, shared by all dropout layers."""

    now: Tensor


@dataclass
class _Node:
    """An entry of the tape.

    Attributes:
        layer: The layer.
        inputs: Its input entries; -1 is the model's input.
        wanted: Whether to return the gradient of each input, which is so if the input depends on parameters.
    """

    layer: Layer
    inputs: tuple[int, ...]
    wanted: tuple[bool, ...]


class _Tape:
    """The model as a list of layers, run forward and backward for all agents.

    Args:
        model: The model of one agent.
        state: The agents' state, whose views the layers use.
        keys: Holds the agents' keys for dropout.

    Raises:
        ValueError: A layer or operation has no stacked form; the message names it.
    """

    def __init__(self, model: nn.Module, state: StackedState, keys: _Keys) -> None:
        self.state = state
        self.keys = keys
        self.nodes: list[_Node] = []
        self.dropouts = 0
        self.used: set[str] = set()
        for name, module in model.named_modules():
            hooks = (
                module._forward_hooks,
                module._forward_pre_hooks,
                module._backward_hooks,
                module._backward_pre_hooks,
            )
            if any(hooks) or "forward" in vars(module):
                raise ValueError(f"{type(module).__name__} {name} has hooks or a forward of its own")
        if any(model.children()):
            self._trace(model)
        else:
            self._append(self._module_layer(model, "", in_place=False), (-1,))
        self.unused = [view for name, view in state.gradient_views.items() if name not in self.used]

    def _trace(self, model: nn.Module) -> None:
        try:
            graph = fx.Tracer().trace(copy_model(model))  # a forward may change the model
        except Exception as error:
            raise ValueError(f"the model cannot be traced: {error}") from error
        places: dict[fx.Node, int] = {}
        for node in graph.nodes:
            if node.op == "placeholder":
                if places:
                    raise ValueError("the model has several inputs")
                places[node] = -1
            elif node.op == "output":
                if not isinstance(node.args[0], fx.Node) or places[node.args[0]] != len(self.nodes) - 1:
                    raise ValueError("the model's output is not its last operation")
            elif not node.users:
                raise ValueError(f"the model does not use {node.name}, which it computes")
            else:
                places[node] = len(self.nodes)
                self._append(self._layer(model, node, places), tuple(places[n] for n in node.all_input_nodes))

    def _layer(self, model: nn.Module, node: fx.Node, places: dict[fx.Node, int]) -> Layer:
        """Return the stacked form of a traced operation, or raise a ValueError."""
        if node.op == "call_module":
            (source,) = node.all_input_nodes
            alone = len(source.users) == 1 and places[source] >= 0
            in_place = alone and isinstance(self.nodes[places[source]].layer, Affine)
            return self._module_layer(model.get_submodule(str(node.target)), f"{node.target}.", in_place=in_place)
        if node.op != "call_function" or node.target not in ELEMENTWISE_FUNCTIONS:
            name = getattr(node.target, "__name__", node.target)
            raise ValueError(f"{node.op.removeprefix('call_')} {name} has no stacked form")

        def function(*tensors: Tensor) -> Any:
            values = dict(zip(node.all_input_nodes, tensors, strict=True))
            arguments = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            return node.target(*arguments[0], **arguments[1])  # type: ignore[operator]

        return Local(function, {}, {})

    def _module_layer(self, module: nn.Module, prefix: str, *, in_place: bool) -> Layer:
        """Return the stacked form of a module, or raise a ValueError."""
        name = f"{type(module).__name__} {prefix.removesuffix('.')}".strip()
        parameters, buffers = _below(prefix, self.state.parameter_views), _below(prefix, self.state.buffers)
        gradients = _below(prefix, self.state.gradient_views)
        if len(parameters) < sum(1 for _ in module.parameters()) or held_parameters(module):
            raise ValueError(f"{name} has frozen or shared parameters")
        names = {prefix + parameter for parameter in parameters}
        if names & self.used:
            raise ValueError(f"{name} is used twice")
        self.used |= names
        kind = type(module)  # exact: a subclass may compute something else
        if kind is nn.Linear:
            return Affine(parameters, gradients)
        if kind in ACTIVATIONS:
            return Activation(*ACTIVATIONS[kind], in_place=in_place)
        if isinstance(module, nn.Flatten) and kind is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
            return Flatten()
        if isinstance(module, nn.Dropout) and kind is nn.Dropout:
            number, self.dropouts, keys = self.dropouts, self.dropouts + 1, self.keys
            return Local(lambda x: keyed_dropout(x, module.p, draws.fold(keys.now, number)), {}, {})
        if isinstance(module, nn.LayerNorm) and kind is nn.LayerNorm:
            return Local(lambda x: layer_norm(module, parameters, x), parameters, gradients)
        if isinstance(module, nn.BatchNorm1d) and kind is nn.BatchNorm1d and module.momentum is not None:
            return Local(lambda x: batch_norm(module, parameters, buffers, x), parameters, gradients)
        if kind is Point:
            value = parameters["value"]
            return Local(lambda x: value.unsqueeze(1).expand(-1, x.shape[1], -1), parameters, gradients)
        if kind in ELEMENTWISE_MODULES:
            return Local(module, {}, {})
        raise ValueError(f"{name} has no stacked form")

    def _append(self, layer: Layer, inputs: tuple[int, ...]) -> None:
        wanted = tuple(place >= 0 and self._depends_on_parameters(self.nodes[place]) for place in inputs)
        self.nodes.append(_Node(layer, inputs, wanted))

    @staticmethod
    def _depends_on_parameters(node: _Node) -> bool:
        return any(node.wanted) or bool(getattr(node.layer, "parameters", None))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the outputs.

        Args:
            x: Inputs of all agents, [N, B, ...].

        Returns:
            Outputs [N, B, ...].
        """
        values: list[Tensor] = []
        for node in self.nodes:
            values.append(node.layer.forward(*(x if place < 0 else values[place] for place in node.inputs)))
        return values[-1]

    def value(self, x: Tensor) -> Tensor:
        """Compute the outputs, keeping each activation only until its last use.

        Args:
            x: Inputs of all agents, [N, B, ...].

        Returns:
            Outputs [N, B, ...].
        """
        values = {-1: x}
        last_uses = {place: use for use, node in enumerate(self.nodes) for place in node.inputs}
        for place, node in enumerate(self.nodes):
            values[place] = node.layer.value(*(values[source] for source in node.inputs))
            for source in node.inputs:
                if last_uses[source] == place:
                    values.pop(source, None)
        return values[len(self.nodes) - 1]

    def backward(self, gradient: Tensor) -> None:
        """Write the parameters' gradients into the state.

        Args:
            gradient: Gradient of the outputs.
        """
        gradients: list[Tensor | None] = [*(None for _ in self.nodes[1:]), gradient]
        for node in reversed(self.nodes):
            g = gradients.pop()
            if g is None:  # it depends on no parameters
                continue
            for place, inner in zip(node.inputs, node.layer.backward(g, node.wanted), strict=True):
                if inner is not None:
                    before = gradients[place]
                    gradients[place] = inner if before is None else before + inner
        for view in self.unused:
            view.zero_()


def _below(prefix: str, views: Views) -> Views:
    return {name.removeprefix(prefix): view for name, view in views.items() if name.startswith(prefix)}


class StackedEngine:
    """Runs the forward and backward passes of all agents as batched layers.

    Args:
        model: The model of one agent.
        task: Supplies the loss of single samples.
        state: The agents' state.

    Raises:
        ValueError: A layer has no stacked form, the task has its own loss, or autocast is asked for.
    """

    name = "stacked"
    # A vectorised kernel rounds the last numbers, those that do not fill its registers, differently: with shares in
    # multiples of this, they do not depend on how the agents are divided.
    grain = 32

    def __init__(self, model: nn.Module, task: Task, state: StackedState) -> None:
        if type(task).objective is not Task.objective:
            raise ValueError(f"{type(task).__name__} has a loss of its own, which is not a mean over samples")
        if state.autocast is not None:
            raise ValueError("its layers compute in the type of the parameters")
        self.keys = _Keys()
        self.tape = _Tape(model, state, self.keys)
        self.needs_keys = self.tape.dropouts > 0
        self.task = task
        self.ordinary = type(task).loss is Task.loss and task.draw is None and not task.weighs

    @torch.no_grad()
    def gradients(self, batch: Batch, keys: Tensor) -> Tensor:
        """Write each agent's gradient into the state, and return the losses; see `Engine`."""
        self.keys.now = keys
        with np.errstate(all="ignore"):  # divergence is recorded, not warned about
            outputs = self.tape.forward(batch[0])
            losses, gradient = cross_entropy(outputs, batch[-1]) if self.ordinary else self._any_loss(outputs, batch)
            self.tape.backward(gradient)
        return losses

    @torch.no_grad()
    def losses(self, batch: Batch, keys: Tensor) -> Tensor:
        """Compute each agent's loss only; see `Engine`."""
        self.keys.now = keys
        with np.errstate(all="ignore"):  # divergence is recorded, not warned about
            return self._sample_losses(self.tape.value(batch[0]), batch)

    def _sample_losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Average the losses of each agent's samples, [N]; a sample's loss does not depend on its agent."""
        return self.task.mean_loss(outputs.flatten(0, 1), map_nest(lambda t: t.flatten(0, 1), batch), (len(outputs),))

    def _any_loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the agents' losses and the gradient of their sum with respect to the outputs."""
        with torch.enable_grad():
            outputs = outputs.detach().requires_grad_()
            losses = self._sample_losses(outputs, batch)
            (gradient,) = torch.autograd.grad(losses.sum(), outputs)
        return losses.detach(), gradient
