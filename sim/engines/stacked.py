"""All agents as one computation by batched layers: a matrix product a layer for all agents together.

The model is traced once (torch.fx) and rewritten so that every layer takes activations [N, B, ...] and the
stacked parameters [N, ...]. Each layer has its rule here; a model with a layer or operation that has none
cannot be stacked, and another engine runs it.
"""

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from basinet.algorithms import draws
from basinet.sim.engines.randomness import keyed_dropout
from basinet.sim.models import Point
from basinet.sim.state import StackedState
from basinet.sim.tasks.task import Batch, Task

__all__ = ["StackedEngine", "stack"]

Views = dict[str, Tensor]
Layer = Callable[[Tensor], Tensor]

ELEMENTWISE_MODULES = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Sigmoid, nn.Tanh, nn.Identity,
)  # fmt: skip
ELEMENTWISE_FUNCTIONS = {
    operator.add, operator.mul, operator.sub, operator.neg, torch.add, torch.mul, torch.sub,
    torch.relu, torch.tanh, torch.sigmoid, nn.functional.relu, nn.functional.gelu, nn.functional.silu,
    nn.functional.softplus, nn.functional.leaky_relu, nn.functional.elu,
}  # fmt: skip


class _Linear(torch.autograd.Function):
    """Each agent's affine map as one batched product, whose backward pass writes into the gradient views."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, gradients: Views) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.gradients = gradients
        if bias is None:
            return torch.bmm(x, weight.mT)
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, None, None, None]:
        (g,) = outer
        x, weight = ctx.saved_tensors
        ctx.gradients["weight"].copy_(torch.bmm(g.mT, x))
        if "bias" in ctx.gradients:
            torch.sum(g, 1, out=ctx.gradients["bias"])
        return torch.bmm(g, weight) if ctx.needs_input_grad[0] else None, None, None, None


def linear(weight: Tensor, bias: Tensor | None, gradients: Views, x: Tensor) -> Tensor:
    """Apply each agent's affine map.

    Args:
        weight: [N, out, in].
        bias: [N, out] or None.
        gradients: Views of the same shapes that the backward pass fills.
        x: [N, B, ..., in].

    Returns:
        Tensor [N, B, ..., out].
    """
    product: Tensor = _Linear.apply(x.flatten(1, -2), weight, bias, gradients)  # type: ignore[no-untyped-call]
    return product.view(*x.shape[:-1], weight.shape[1])


def layer_norm(layer: nn.LayerNorm, weight: Tensor | None, bias: Tensor | None, x: Tensor) -> Tensor:
    """Normalise each sample, then scale and shift by each agent's own factors.

    Args:
        layer: The layer of one agent.
        weight: [N, *normalized_shape] or None.
        bias: The same.
        x: [N, B, ..., *normalized_shape].

    Returns:
        A tensor of the shape of `x`.
    """
    x = nn.functional.layer_norm(x, layer.normalized_shape, eps=layer.eps)
    axes = (slice(None),) + (None,) * (x.ndim - 1 - len(layer.normalized_shape))
    if weight is not None:
        x = x * weight[axes]
    return x if bias is None else x + bias[axes]


def batch_norm(layer: nn.BatchNorm1d, parameters: Views, buffers: Views, x: Tensor) -> Tensor:
    """Normalise each agent's batch by its own statistics: the agents' features stand side by side.

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
    """The agents' keys of the running pass, shared by all dropout layers."""

    now: Tensor


def _rule(module: nn.Module, prefix: str, state: StackedState, keys: _Keys, number: int) -> Layer:
    """Find the stacked form of a layer, or raise a ValueError."""
    parameters, buffers = _below(prefix, state.parameter_views), _below(prefix, state.buffers)
    if len(parameters) < sum(1 for _ in module.parameters()):
        raise ValueError(f"{type(module).__name__} {prefix.removesuffix('.')} has frozen or shared parameters")
    weight, bias = parameters.get("weight"), parameters.get("bias")
    kind = type(module)  # exactly: a subclass may compute something else
    match module:
        case nn.Linear() if kind is nn.Linear and weight is not None:
            gradients = _below(prefix, state.gradient_views)
            return lambda x: linear(weight, bias, gradients, x)
        case nn.Flatten(start_dim=1, end_dim=-1) if kind is nn.Flatten:
            return lambda x: x.flatten(2)
        case nn.Dropout(p=p) if kind is nn.Dropout:
            return lambda x: keyed_dropout(x, p, draws.fold(keys.now, number))
        case nn.LayerNorm() if kind is nn.LayerNorm:
            return lambda x: layer_norm(module, weight, bias, x)
        case nn.BatchNorm1d() if kind is nn.BatchNorm1d and module.momentum is not None:
            return lambda x: batch_norm(module, parameters, buffers, x)
        case Point() if kind is Point:
            value = parameters["value"]
            return lambda x: value.unsqueeze(1).expand(-1, x.shape[1], -1)
        case _ if kind in ELEMENTWISE_MODULES:
            return module
    raise ValueError(f"{type(module).__name__} has no stacked form")


class _Layer(nn.Module):
    """A stacked layer as a module, which is what a traced graph can call."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def stack(model: nn.Module, state: StackedState, keys: _Keys) -> nn.Module:
    """Rewrite a model for stacked activations.

    Args:
        model: The model of one agent.
        state: The agents' state, whose views the result uses.
        keys: Where dropout finds the agents' keys.

    Returns:
        A module that maps inputs [N, B, ...] to outputs [N, B, ...].

    Raises:
        ValueError: Some layer or operation has no stacked form; the message names it.
    """
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or "forward" in vars(module):
            raise ValueError(f"{type(module).__name__} {name} has hooks or a forward of its own")
    if not any(model.children()):
        return _Layer(_rule(model, "", state, keys, 0))
    try:
        graph = fx.Tracer().trace(copy.deepcopy(model))  # a forward may change the model
    except Exception as error:
        raise ValueError(f"the model cannot be traced: {error}") from error
    layers: dict[str, nn.Module] = {}
    used: set[str] = set()
    dropouts = 0
    for node in graph.nodes:
        if node.op == "call_module":
            module = model.get_submodule(node.target)
            layer = _rule(module, f"{node.target}.", state, keys, dropouts)
            dropouts += isinstance(module, nn.Dropout)
            if node.target in used and any(True for _ in module.parameters()):
                raise ValueError(f"{node.target} is used twice")
            used.add(node.target)
            layers[node.name] = layer if isinstance(layer, nn.Module) else _Layer(layer)
            node.target = node.name
        elif node.op == "call_function" and node.target not in ELEMENTWISE_FUNCTIONS:
            raise ValueError(f"{getattr(node.target, '__name__', node.target)} has no stacked form")
        elif node.op in ("call_method", "get_attr"):
            raise ValueError(f"{node.op.removeprefix('call_')} {node.target} has no stacked form")
    return fx.GraphModule(layers, graph)


def _below(prefix: str, views: Views) -> Views:
    return {name.removeprefix(prefix): view for name, view in views.items() if name.startswith(prefix)}


class StackedEngine:
    """Runs forward and backward of all agents as batched layers.

    Args:
        model: The model of one agent.
        task: Gives the loss of single samples.
        state: The agents' state.
        sample: Not used: the trace needs no data.

    Raises:
        ValueError: The model has a layer without a stacked form, or the task a loss of its own.
    """

    name = "stacked"

    def __init__(self, model: nn.Module, task: Task, state: StackedState, sample: Tensor) -> None:
        if type(task).loss is not Task.loss:
            raise ValueError(f"{type(task).__name__} has a loss of its own, which is not a mean over samples")
        self.task = task
        self.state = state
        self.keys = _Keys()
        self.model = stack(model, state, self.keys)
        self.needs_keys = any(isinstance(m, nn.Dropout) for m in model.modules())

    def gradients(self, batch: Batch, keys: Tensor) -> Tensor:
        """Write each agent's gradient into the state.

        Args:
            batch: Tensors [N, B, ...].
            keys: One key an agent for the draws inside the model, int64 [N].

        Returns:
            Losses [N].
        """
        self.keys.now = keys
        outputs = self.model(batch[0])
        # Samples of all agents side by side: the loss of a sample does not know whose it is.
        samples = self.task.sample_loss(outputs.flatten(0, 1), batch[-1].flatten(0, 1))
        losses: Tensor = samples.view(self.state.num_agents, -1).mean(1)
        self.state.differentiate(losses.sum())
        return losses.detach()
