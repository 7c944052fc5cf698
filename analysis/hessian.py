"""The Hessian of a training loss as a linear operator, by double backward."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

__all__ = ["HessianOperator", "Loss", "hessian_matrix"]

Array = NDArray[np.float64]

Loss = Callable[[nn.Module, tuple[Tensor, ...]], Tensor]
"""Maps a model and a batch to the mean loss of the batch's samples, a scalar tensor."""


class HessianOperator(LinearOperator):  # type: ignore[misc]  # scipy has no types
    r"""Hessian of the mean loss over a data set, known by its products with vectors.

    $$
    J(θ) = \frac{1}{n} \sum_{i=1}^n ℓ(θ; x_i) = \sum_c \frac{n_c}{n} J_c(θ), \qquad
    H v = ∇²J(θ) v = ∇_θ ⟨∇J(θ), v⟩,
    $$

    where J_c is the mean loss of the n_c samples of chunk c: ragged chunks are weighted exactly. A product is
    computed by backpropagation through the gradient (Pearlmutter: Fast exact multiplication by the Hessian,
    Neural Computation 6, 1994, doi:10.1162/neco.1994.6.1.147), for 1.4 times the cost of a gradient. Forward
    over reverse differentiation, as in `torch.func.hessian`, is wrong for affine normalisation layers.

    J is what `loss` returns: weight decay counts only if `loss` adds it. Coordinates are the trainable parameters
    in the order of `model.parameters()`; one that several layers share is there once, and one that takes no part
    in the loss has zeros. Frozen parameters are constants. Vectors are float64; products are computed in the type
    and on the device of the parameters, so it takes a float64 model to have float64 accuracy. Parameters and
    buffers (BatchNorm's running statistics) are copied when the operator is made, and the model is never written
    to.

    Attributes:
        num_products: How many products with a vector have been computed so far.

    Args:
        model: A model in evaluation mode, or one whose layers do the same in both modes.
        loss: Maps the model and a batch to the mean loss of the batch.
        data: Tensors [n, ...] that share their first dimension.
        chunk: At most how many samples to differentiate at once; None takes all of them. A single chunk
            keeps the graph of its gradient in memory; several build theirs anew, which doubles the cost of
            a product.

    Raises:
        ValueError: If a layer is in a mode that makes the loss random or dependent on how samples are
            batched, if the parameters are not of one floating type on one device, or if data or chunk are
            empty.

    Example:
        The mean of (x θ)² / 2 has the Hessian mean(x²).

        >>> model = nn.Linear(1, 1, bias=False).double()
        >>> x = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
        >>> hessian = HessianOperator(model, lambda model, batch: (model(batch[0]) ** 2).mean() / 2, (x,))
        >>> (hessian @ np.ones(1)).round(9)
        array([4.66666667])
    """

    def __init__(self, model: nn.Module, loss: Loss, data: tuple[Tensor, ...], *, chunk: int | None = None) -> None:
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        kinds = {(p.dtype, p.device) for p in parameters.values()}
        if len(kinds) != 1 or not all(dtype.is_floating_point for dtype, _ in kinds):
            found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds)) or "none"
            raise ValueError(f"The parameters must be of one floating type on one device, got {found}.")
        sizes = [len(t) for t in data]
        if len(set(sizes)) != 1 or sizes[0] == 0:
            raise ValueError(f"The data must be tensors with as many samples each, and not none, got {sizes}.")
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk must be at least 1 sample, or None for all of them, got {chunk}.")
        _check_modes(model)
        self._objective = _Objective(model, loss)
        self._shapes = {f"model.{name}": p.shape for name, p in parameters.items()}
        self._buffers = {f"model.{name}": b.detach().clone() for name, b in model.named_buffers()}
        self._chunks = list(zip(*(torch.split(t, chunk or sizes[0]) for t in data), strict=True))
        self._num_samples = sizes[0]
        self._place(torch.cat([p.detach().flatten() for p in parameters.values()]))
        super().__init__(np.dtype(np.float64), (self._point.numel(), self._point.numel()))

    @property
    def point(self) -> Array:
        """The parameters θ, flat [P]."""
        return _array(self._point.clone())

    def at(self, point: Array) -> "HessianOperator":
        """Take the Hessian of the same loss at other parameters.

        Args:
            point: Parameters, flat [P].

        Returns:
            A new operator; this one and the model stay as they are.
        """
        other = copy(self)
        other._place(self._tensor(point))
        return other

    def loss(self) -> float:
        """Compute J at the point."""
        return sum(share * graph.value.item() for share, graph in self._graphs())

    def gradient(self) -> Array:
        """Compute the gradient of J at the point, flat [P]."""
        total = torch.zeros_like(self._point)
        for share, graph in self._graphs():
            total.add_(graph.slope.detach(), alpha=share)
        return _array(total)

    def _matvec(self, v: NDArray[Any]) -> Array:
        return self._matmat(v.reshape(-1, 1))[:, 0]

    def _matmat(self, v: NDArray[Any]) -> Array:
        vectors = self._tensor(v.T)
        products = torch.zeros_like(vectors)
        # Chunks outside, vectors inside: the graph of a chunk serves all vectors.
        for share, graph in self._graphs():
            for vector, product in zip(vectors, products, strict=True):
                product.add_(graph.product(vector), alpha=share)
        self.num_products += len(vectors)
        return _array(products).T

    def _adjoint(self) -> "HessianOperator":
        return self

    def _place(self, point: Tensor) -> None:
        """Stand at a point where nothing has been computed yet."""
        self._point = point
        self.num_products = 0
        self._kept: _Graph | None = None

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.tensor(np.ascontiguousarray(values), dtype=self._point.dtype, device=self._point.device)

    def _graphs(self) -> Iterator[tuple[float, "_Graph"]]:
        """Yield each chunk's share of the samples and its graph; the graph of an only chunk is kept."""
        if len(self._chunks) == 1:
            self._kept = self._kept or self._graph(self._chunks[0])
            yield 1.0, self._kept
        else:
            for batch in self._chunks:
                yield len(batch[0]) / self._num_samples, self._graph(batch)

    @torch.enable_grad()
    def _graph(self, batch: tuple[Tensor, ...]) -> "_Graph":
        """Evaluate the loss of a batch at the point."""
        _check_modes(self._objective.model)  # again: the mode may have changed since
        # One flat leaf, cut into the parameters inside the graph: each derivative is one flat tensor.
        leaf = self._point.clone().requires_grad_()
        parts = torch.split(leaf, [shape.numel() for shape in self._shapes.values()])
        state = {n: part.view(shape) for (n, shape), part in zip(self._shapes.items(), parts, strict=True)}
        state |= {name: buffer.clone() for name, buffer in self._buffers.items()}
        # The fused attention kernels have no second derivative.
        with sdpa_kernel(SDPBackend.MATH), _no_randomness(leaf.device):
            value = torch.func.functional_call(self._objective, state, (batch,))
        return _Graph(leaf, value)


def hessian_matrix(model: nn.Module, loss: Loss, data: tuple[Tensor, ...], *, chunk: int | None = None) -> Array:
    """Compute the Hessian as a matrix: its products with the P unit vectors, for small models.

    Args:
        model: A model, as for `HessianOperator`.
        loss: Maps the model and a batch to the mean loss of the batch.
        data: Tensors [n, ...] that share their first dimension.
        chunk: At most how many samples to differentiate at once; None takes all of them.

    Returns:
        The matrix [P, P], symmetric up to rounding.

    Example:
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> x = torch.eye(2, dtype=torch.float64)
        >>> hessian_matrix(model, lambda model, batch: (model(batch[0]) ** 2).mean(), (x,))
        array([[1., 0.],
               [0., 1.]])
    """
    operator = HessianOperator(model, loss, data, chunk=chunk)
    return np.asarray(operator @ np.eye(operator.shape[0]))


class _Objective(nn.Module):
    """The loss as a module, so that `functional_call` swaps the parameters however the loss reads them."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: tuple[Tensor, ...]) -> Tensor:
        return self.loss(self.model, batch)


class _Graph:
    """The loss of a chunk with its graph, and what is differentiated from it when first asked for."""

    def __init__(self, leaf: Tensor, value: Tensor) -> None:
        self.leaf = leaf
        self.value = value

    @cached_property
    def slope(self) -> Tensor:
        """The gradient, with the graph of its own derivative."""
        if not self.value.requires_grad:  # no parameter takes part
            return torch.zeros_like(self.leaf, requires_grad=False)
        (slope,) = torch.autograd.grad(self.value, self.leaf, create_graph=True, materialize_grads=True)
        return slope

    def product(self, vector: Tensor) -> Tensor:
        """Multiply the Hessian with a vector."""
        if not self.slope.requires_grad:  # the loss is linear
            return torch.zeros_like(vector)
        (product,) = torch.autograd.grad(self.slope, self.leaf, vector, retain_graph=True, materialize_grads=True)
        return product


def _array(values: Tensor) -> Array:
    array: Array = values.to("cpu", torch.float64).numpy()
    return array


def _check_modes(model: nn.Module) -> None:
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, _DropoutNd) and module.training and module.p > 0:
            raise ValueError(
                f"{kind} {name!r} is in training mode, which makes the loss random: call model.eval() first."
            )
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            raise ValueError(
                f"{kind} {name!r} normalises by the statistics of the batch, so the loss is no mean over "
                "samples: call model.eval() first, and let it track running statistics."
            )


@contextmanager
def _no_randomness(device: torch.device) -> Iterator[None]:
    """Leave the generators of random numbers as they are, and object to their use."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    states = [generator.get_state() for generator in generators]
    yield
    used = False
    for generator, state in zip(generators, states, strict=True):
        used |= not torch.equal(generator.get_state(), state)
        generator.set_state(state)
    if used:
        raise ValueError("The loss draws random numbers, so it has no Hessian: call model.eval() first.")
