"""Layers for all agents at once, on activations [N, B, ...], with explicit backward passes.

A backward pass writes the gradients of the layer's parameters into the state's views and returns those of its inputs,
so that no autograd graph is built. Everything runs under `torch.no_grad`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Activation", "Affine", "Flatten", "Layer", "Local", "cross_entropy"]

Views = dict[str, Tensor]


class Layer(Protocol):
    """A layer, or an operation in a model's forward, on the activations of all agents."""

    @property
    def forward(self) -> Callable[..., Tensor]:
        """Compute the output from the inputs, keeping what the backward pass needs."""

    @property
    def value(self) -> Callable[..., Tensor]:
        """Compute the same output, keeping nothing."""

    def backward(self, gradient: Tensor, wanted: Sequence[bool]) -> Sequence[Tensor | None]:
        """Write the parameters' gradients, and return the inputs' gradients.

        Args:
            gradient: Gradient of the output.
            wanted: Whether the gradient of each input is needed.

        Returns:
            The gradient of each input, None where it is not needed.
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

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output [N, B, ..., out] of inputs [N, B, ..., in]; see `Layer`."""
        self.x = x.flatten(1, -2)
        shape = self._shape(self.x)
        if self.y.shape != shape:
            self.y = x.new_empty(shape)
        return self._map(self.x, self.y).view(*x.shape[:-1], -1)

    def value(self, x: Tensor) -> Tensor:
        """Compute the output only; see `Layer`."""
        rows = x.flatten(1, -2)
        return self._map(rows, x.new_empty(self._shape(rows))).view(*x.shape[:-1], -1)

    def _shape(self, rows: Tensor) -> tuple[int, int, int]:
        return (*rows.shape[:2], self.parameters["weight"].shape[1])

    def _map(self, rows: Tensor, y: Tensor) -> Tensor:
        _product_with_transposed(rows, self.parameters["weight"], y)
        return y.add_(self.parameters["bias"].unsqueeze(1)) if "bias" in self.parameters else y

    def backward(self, gradient: Tensor, wanted: Sequence[bool]) -> Sequence[Tensor | None]:
        """Write the gradients of weight and bias, and return the input's; see `Layer`."""
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

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output, of the input's shape; see `Layer`."""
        self.y = self.value(x)
        return self.y

    def value(self, x: Tensor) -> Tensor:
        """Compute the output only; see `Layer`."""
        return self.function(x, out=x) if self.in_place else self.function(x)  # type: ignore[call-arg]

    def backward(self, gradient: Tensor, wanted: Sequence[bool]) -> Sequence[Tensor | None]:
        """Compute the input's gradient; see `Layer`."""
        return (self.slope(gradient, self.y) if wanted[0] else None,)


class Flatten:
    """Flattens each sample, `nn.Flatten`."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output [N, B, numbers] of inputs [N, B, ...]; see `Layer`."""
        self.shape = x.shape
        return self.value(x)

    def value(self, x: Tensor) -> Tensor:
        """Compute the output only; see `Layer`."""
        return x.flatten(2)

    def backward(self, gradient: Tensor, wanted: Sequence[bool]) -> Sequence[Tensor | None]:
        """Compute the input's gradient; see `Layer`."""
        return (gradient.view(self.shape) if wanted[0] else None,)


class Local:
    """Any function of stacked tensors, differentiated by autograd on a graph of its own.

    Args:
        function: Maps the inputs to the output.
        parameters: Views of the state's parameters that it uses.
        gradients: Views of their gradients.
    """

    def __init__(self, function: Callable[..., Tensor], parameters: Views, gradients: Views) -> None:
        self.value = function  # keeps nothing when autograd is off
        self.parameters = parameters
        self.gradients = gradients

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute the output of stacked tensors; see `Layer`."""
        with torch.enable_grad():
            self.inputs = [x.detach().requires_grad_(x.is_floating_point()) for x in inputs]
            self.y = self.value(*self.inputs)
        return self.y.detach()

    def backward(self, gradient: Tensor, wanted: Sequence[bool]) -> Sequence[Tensor | None]:
        """Write the gradients of the parameters, and return the inputs'; see `Layer`."""
        leaves = [x for x, want in zip(self.inputs, wanted, strict=True) if want]
        found = torch.autograd.grad(self.y, [*leaves, *self.parameters.values()], gradient, materialize_grads=True)
        for name, value in zip(self.parameters, found[len(leaves) :], strict=True):
            self.gradients[name].copy_(value)
        inner = iter(found)
        return [next(inner) if want else None for want in wanted]


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


ACTIVATIONS: dict[type[nn.Module], tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    nn.ReLU: (lambda x, **out: torch.clamp(x, min=0, **out), lambda g, y: torch.ops.aten.threshold_backward(g, y, 0)),
    nn.Tanh: (torch.tanh, torch.ops.aten.tanh_backward),
    nn.Sigmoid: (torch.sigmoid, torch.ops.aten.sigmoid_backward),
}
"""Function and derivative of the activations that have their own form."""
