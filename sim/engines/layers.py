"""Layers for all agents at once, on activations [N, B, ...], with explicit backward passes.

A backward pass writes the gradients of the layer's parameters into the state's views and returns those of its inputs,
so that no autograd graph is built. Everything runs under `torch.no_grad`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from basinet.sim.engines.batched import aligned
from basinet.sim.engines.recording import functions_named

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Affine",
    "Embedding",
    "Gradients",
    "Layer",
    "LayerNorm",
    "RMSNorm",
    "Reshape",
    "Sum",
    "Views",
    "cross_entropy",
]

Views = dict[str, Tensor]
"""Views of the state by a layer's own names of its parameters."""

Gradients = Sequence[Tensor | None]
"""Gradients of inputs; None where they are not needed."""


class Layer(Protocol):
    """A part of a model, on the activations of all agents.

    Attributes:
        parameters: Views of the state's parameters that it uses.
        gradients: Where their gradients are to be written.
    """

    parameters: Views
    gradients: Views

    @property
    def forward(self) -> Callable[..., Sequence[Tensor]]:
        """Compute the outputs from the inputs, keeping what the backward pass needs."""

    @property
    def value(self) -> Callable[..., Sequence[Tensor]]:
        """Compute the same outputs, keeping nothing."""

    def backward(self, gradients: Sequence[Any], wanted: Sequence[bool]) -> Gradients:
        """Write the parameters' gradients, and return the inputs' gradients.

        Args:
            gradients: The gradients of the outputs; some may be None, but not all.
            wanted: Whether the gradient of each input is needed.

        Returns:
            The gradient of each input.
        """


class Affine:
    """Each agent's affine map y = W x + b, `nn.Linear`.

    On the CPU, numpy computes the products: the small kernels of its BLAS are up to seven times as fast as torch's
    batched product, and write each agent's product in place.

    Args:
        parameters: Views `weight` [N, out, in] and, if there is one, `bias` [N, out].
        gradients: Views of the same shapes.
    """

    def __init__(self, parameters: Views, gradients: Views) -> None:
        self.parameters = parameters
        self.gradients = gradients
        self.y = torch.empty(0)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Compute the output [N, B, ..., out] of inputs [N, B, ..., in]; see `Layer`."""
        self.x = x.flatten(1, -2)
        shape = self._shape(self.x)
        if self.y.shape != shape:
            self.y = x.new_empty(shape)
        return (self._map(self.x, self.y).view(*x.shape[:-1], -1),)

    def value(self, x: Tensor) -> tuple[Tensor]:
        """Compute the output only; see `Layer`."""
        rows = x.flatten(1, -2)
        return (self._map(rows, x.new_empty(self._shape(rows))).view(*x.shape[:-1], -1),)

    def _shape(self, rows: Tensor) -> tuple[int, int, int]:
        return (*rows.shape[:2], self.parameters["weight"].shape[1])

    def _map(self, rows: Tensor, y: Tensor) -> Tensor:
        _product_with_transposed(rows, self.parameters["weight"], y)
        return y.add_(self.parameters["bias"].unsqueeze(1)) if "bias" in self.parameters else y

    def backward(self, gradients: Sequence[Any], wanted: Sequence[bool]) -> Gradients:
        """Write the gradients of weight and bias, and return the input's; see `Layer`."""
        (gradient,) = gradients
        g = gradient.flatten(1, -2)
        if "bias" in self.gradients:
            torch.sum(g, 1, out=self.gradients["bias"])
        if g.shape[1] == 1:
            torch.mul(g.mT, self.x, out=self.gradients["weight"])
        else:
            _product(g.mT, self.x, self.gradients["weight"])
        if not wanted[0]:
            return (None,)
        inner = _product(g, self.parameters["weight"], torch.empty_like(self.x))
        return (inner.view(*gradient.shape[:-1], -1),)


def _product(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """Multiply [N, i, j] with [N, j, k]."""
    if a.device.type != "cpu":
        return out.copy_(torch.bmm(a, b))
    np.matmul(a.data.numpy(), b.data.numpy(), out=out.data.numpy())
    return out


def _product_with_transposed(x: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """Multiply [N, B, i] with the transpose of [N, o, i]; here torch is faster at medium sizes."""
    rows, outputs, inputs = x.shape[1], *weight.shape[1:]
    small = rows > 1 and (rows * outputs * inputs <= 2**16 or outputs <= 16)
    if small or rows >= 64:
        return _product(x, weight.mT, out)
    return torch.bmm(x, weight.mT, out=out)


class Activation:
    """An elementwise function whose derivative follows from its value.

    Args:
        function: The function.
        slope: Maps the gradient of the output and the output to the gradient of the input.
        in_place: Whether the input may be overwritten.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], slope: Callable[[Tensor, Tensor], Tensor], *, in_place: bool
    ) -> None:
        self.function = function
        self.slope = slope
        self.in_place = in_place
        self.parameters: Views = {}
        self.gradients: Views = {}

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Compute the output, of the input's shape; see `Layer`."""
        (self.y,) = outputs = self.value(x)
        return outputs

    def value(self, x: Tensor) -> tuple[Tensor]:
        """Compute the output only; see `Layer`."""
        return (self.function(x, out=x) if self.in_place else self.function(x),)  # type: ignore[call-arg]

    def backward(self, gradients: Sequence[Any], wanted: Sequence[bool]) -> Gradients:
        """Compute the input's gradient; see `Layer`."""
        return (self.slope(gradients[0], self.y) if wanted[0] else None,)


class Reshape:
    """Brings each agent's inputs, which have no gradient, into another shape.

    Args:
        shape: The shape of the output, [N, ...].
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.parameters: Views = {}
        self.gradients: Views = {}

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Compute the output; see `Layer`."""
        return (x.reshape(self.shape),)

    value = forward

    def backward(self, gradients: Sequence[Any], wanted: Sequence[bool]) -> Gradients:
        """Return nothing, since inputs have no gradient; see `Layer`."""
        return (None,)


class Embedding:
    """Each agent's table of vectors, `nn.Embedding`.

    Args:
        parameters: View `weight` [N, words, width].
        gradients: A view of the same shape.
        words: Which row of a table is looked up, int64 [...], if this is the same for all agents; otherwise it is an
            input [N, ...].
        padding: The word without a gradient; -1 if there is none.
        scaled: Whether gradients are divided by how often a word occurs.
    """

    def __init__(
        self, parameters: Views, gradients: Views, words: Tensor | None, padding: int, *, scaled: bool
    ) -> None:
        self.parameters = parameters
        self.gradients = gradients
        self.words = words
        self.padding = padding
        self.scaled = scaled

    def forward(self, *inputs: Tensor) -> tuple[Tensor]:
        """Compute the output [N, ..., width]; see `Layer`."""
        self.rows = self._rows(*inputs)
        return (self._look_up(self.rows),)

    def value(self, *inputs: Tensor) -> tuple[Tensor]:
        """Compute the output only; see `Layer`."""
        return (self._look_up(self._rows(*inputs)),)

    def _rows(self, *inputs: Tensor) -> Tensor:
        """Return the rows that are looked up if the agents' tables are put one below the other."""
        agents, size, _ = self.parameters["weight"].shape
        words = inputs[0] if self.words is None else self.words.expand(agents, *self.words.shape)
        starts = torch.arange(0, agents * size, size, device=words.device)
        return words + starts.view(-1, *(1 for _ in words.shape[1:]))

    def _look_up(self, rows: Tensor) -> Tensor:
        weight = self.parameters["weight"]
        # The tables lie apart in memory: copying them is cheaper than looking up with two indices.
        return nn.functional.embedding(rows, weight.reshape(-1, weight.shape[-1]))

    def backward(self, gradients: Sequence[Any], wanted: Sequence[bool]) -> Gradients:
        """Write the gradient of the table; see `Layer`."""
        view = self.gradients["weight"]
        (gradient,) = gradients
        total = torch.ops.aten.embedding_dense_backward(gradient, self.rows, view[..., 0].numel(), -1, self.scaled)
        view.copy_(total.view_as(view))
        if self.padding >= 0:
            view[:, self.padding] = 0
        return tuple(None for _ in wanted)


class LayerNorm:
    """Normalises over the last axes, then scales and shifts by each agent's own parameters, `nn.LayerNorm`.

    Args:
        parameters: Views `weight` and `bias` [N, *shape], if the layer has them.
        gradients: Views of the same shapes.
        shape: The axes.
        eps: Added to the variance.
    """

    def __init__(self, parameters: Views, gradients: Views, shape: Sequence[int], eps: float) -> None:
        self.parameters = parameters
        self.gradients = gradients
        self.shape = list(shape)
        self.eps = eps

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Compute the output, of the input's shape; see `Layer`."""
        self.x = x
        self.normal, *self.statistics = torch.native_layer_norm(x, self.shape, None, None, self.eps)
        return (self._scaled(self.normal),)

    def value(self, x: Tensor) -> tuple[Tensor]:
        """Compute the output only; see `Layer`."""
        return (self._scaled(nn.functional.layer_norm(x, self.shape, eps=self.eps)),)

    def _scaled(self, normal: Tensor) -> Tensor:
        parts = {name: aligned(view, normal.ndim) for name, view in self.parameters.items()}
        if "weight" not in parts:
            return normal + parts["bias"] if parts else normal
        return torch.addcmul(parts["bias"], normal, parts["weight"]) if "bias" in parts else normal * parts["weight"]

    def backward(self, gradients: Sequence[Any], wanted: Sequence[bool]) -> Gradients:
        """Write the gradients of weight and bias, and return the input's; see `Layer`."""
        (g,) = gradients
        for name, view in self.gradients.items():
            part = g * self.normal if name == "weight" else g
            torch.sum(part.reshape(len(view), -1, *self.shape), 1, out=view)
        if not wanted[0]:
            return (None,)
        if "weight" in self.parameters:
            g = g * aligned(self.parameters["weight"], g.ndim)
        mean, scale = self.statistics
        inner, _, _ = torch.ops.aten.native_layer_norm_backward(
            g, self.x, self.shape, mean, scale, None, None, [True, False, False]
        )
        return (inner,)


class RMSNorm:
    """Divides by the root mean square over the last axes, then scales by each agent's own parameters, `nn.RMSNorm`.

    Args:
        parameters: View `weight` [N, *shape], if the layer has one.
        gradients: A view of the same shape.
        shape: The axes.
        eps: Added to the mean square; None for the precision of the type.
    """

    def __init__(self, parameters: Views, gradients: Views, shape: Sequence[int], eps: float | None) -> None:
        self.parameters = parameters
        self.gradients = gradients
        self.shape = list(shape)
        self.axes = tuple(range(-len(self.shape), 0))
        self.eps = eps

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Compute the output, of the input's shape; see `Layer`."""
        self.scale = self._scale(x)
        self.normal = x * self.scale
        return (self._weighted(self.normal),)

    def value(self, x: Tensor) -> tuple[Tensor]:
        """Compute the output only; see `Layer`."""
        return (self._weighted(x * self._scale(x)),)

    def _scale(self, x: Tensor) -> Tensor:
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        root: Tensor = torch.linalg.vector_norm(x, dim=self.axes, keepdim=True).div_(math.sqrt(math.prod(self.shape)))
        return root.square_().add_(eps).rsqrt_()

    def _weighted(self, x: Tensor) -> Tensor:
        return x * aligned(self.parameters["weight"], x.ndim) if self.parameters else x

    def backward(self, gradients: Sequence[Any], wanted: Sequence[bool]) -> Gradients:
        """Write the gradient of the weight, and return the input's; see `Layer`."""
        (g,) = gradients
        if self.gradients:
            view = self.gradients["weight"]
            torch.sum((g * self.normal).reshape(len(view), -1, *self.shape), 1, out=view)
        if not wanted[0]:
            return (None,)
        g = self._weighted(g)
        along = (g * self.normal).mean(self.axes, keepdim=True)
        return (torch.addcmul(g, self.normal, along, value=-1).mul_(self.scale),)


class Sum:
    """Adds two tensors of the same shape."""

    def __init__(self) -> None:
        self.parameters: Views = {}
        self.gradients: Views = {}

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor]:
        """Compute the output; see `Layer`."""
        return (x + y,)

    value = forward

    def backward(self, gradients: Sequence[Any], wanted: Sequence[bool]) -> Gradients:
        """Return the gradient, for both; see `Layer`."""
        return gradients[0], gradients[0]


def cross_entropy(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Compute each agent's mean cross-entropy, and its gradient with respect to the outputs.

    Args:
        outputs: [N, B, ..., C].
        targets: Class indices [N, B, ...].

    Returns:
        Losses [N], and a tensor of the shape of `outputs`.
    """
    n, count = len(outputs), targets[0].numel()
    z = outputs.flatten(0, -2)
    shifted = z - z.amax(1, keepdim=True)
    targets = targets.reshape(-1, 1)
    chosen = shifted.gather(1, targets)
    gradient = shifted.exp_()
    total = gradient.sum(1, keepdim=True)
    losses = (total.log() - chosen).view(n, -1).mean(1)
    gradient.div_(total).scatter_add_(1, targets, chosen.new_full(chosen.shape, -1.0)).div_(count)
    return losses, gradient.view_as(outputs)


_SLOPES: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "relu": (lambda x, **out: torch.clamp(x, min=0, **out), lambda g, y: torch.ops.aten.threshold_backward(g, y, 0)),
    "tanh": (torch.tanh, torch.ops.aten.tanh_backward),
    "sigmoid": (torch.sigmoid, torch.ops.aten.sigmoid_backward),
}

ACTIVATIONS = {function: slopes for name, slopes in _SLOPES.items() for function in functions_named(name, f"{name}_")}
"""Function and derivative of the activations that have their own form."""
