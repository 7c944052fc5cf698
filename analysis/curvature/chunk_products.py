"""Products of a chunk's contribution to curvature matrices with vectors, one for each point."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["ChunkProduct", "DifferenceProduct", "HessianProduct", "OutputProduct", "gradient_with_graph", "transposed"]

Outputs = list[Tensor]
"""The outputs of a chunk that its losses depend on, [N, b, ...] each."""


class ChunkProduct(Protocol):
    """A chunk's contribution to the matrices."""

    def product(self, vectors: Tensor) -> Tensor:
        """Multiply it by one vector per point, [N, P]."""


class HessianProduct:
    """The losses of a chunk, their graph, and the gradient that is differentiated for products."""

    def __init__(self, leaf: Tensor, losses: Tensor) -> None:
        self.leaf = leaf
        self.losses = losses
        self.value = losses.sum()

    @cached_property
    def slope(self) -> Tensor:
        """The gradient, with the graph of its own derivative."""
        return gradient_with_graph(self.value, self.leaf)

    def product(self, vectors: Tensor) -> Tensor:
        """See `ChunkProduct`."""
        return transposed([self.slope], [self.leaf], [vectors])[0]


class DifferenceProduct:
    r"""Products with the Jacobian of a field f by central differences.

    $$
    F v ≈ \frac{f(θ + h v) - f(θ - h v)}{2 h}, \qquad h = ε^{1/3} \frac{1 + ‖θ‖}{‖v‖} ,
    $$

    with the unit roundoff ε: the step balances the error of the difference, O(h²), with rounding, O(ε / h).

    Args:
        points: θ, [N, P].
        field: Maps points to tensors [N, ...], each row of which depends on the point of that row alone.

    References:
        Nocedal, Wright: Numerical Optimization, section 8.1, 2006, doi:10.1007/978-0-387-40065-5. Knoll, Keyes:
        Jacobian-free Newton–Krylov methods, Journal of Computational Physics 193, 2004,
        doi:10.1016/j.jcp.2003.08.010.
    """

    def __init__(self, points: Tensor, field: Callable[[Tensor], Outputs]) -> None:
        self.points, self.field = points, field
        self.length = torch.finfo(points.dtype).eps ** (1 / 3) * (1 + points.norm(dim=1))

    def products(self, vectors: Tensor) -> Outputs:
        """Multiply the Jacobian of each tensor by one vector per point, [N, P]."""
        norms = vectors.norm(dim=1)
        steps = self.length / norms.where(norms > 0, 1)
        there, opposite = (self.field(self.points + way * steps[:, None] * vectors) for way in (1, -1))
        return [(a - b) / (2 * _beside(steps, a)) for a, b in zip(there, opposite, strict=True)]

    def product(self, vectors: Tensor) -> Tensor:
        """See `ChunkProduct`: the field is a gradient."""
        return self.products(vectors)[0]


class OutputProduct:
    """Fᵀ B F with the Jacobian F of the outputs and a symmetric matrix B that acts on them.

    Args:
        leaf: The points, [N, P].
        outputs: The outputs, with their graph.
        inner: Multiplies by B.
        push: Multiplies by F; None for autograd.
    """

    def __init__(
        self,
        leaf: Tensor,
        outputs: Outputs,
        inner: Callable[[Outputs], Outputs],
        push: Callable[[Tensor], Outputs] | None = None,
    ) -> None:
        self.leaf, self.outputs, self.inner = leaf, outputs, inner
        self.push = push or self._pushed

    @cached_property
    def pulled(self) -> tuple[Outputs, Tensor]:
        """Vectors u in output space, and Fᵀ u, which is linear in u: its derivative is F."""
        u = [torch.zeros_like(t, requires_grad=True) for t in self.outputs]
        with torch.enable_grad():
            value = torch.stack([(t * factor).sum() for t, factor in zip(self.outputs, u, strict=True)]).sum()
            return u, gradient_with_graph(value, self.leaf)

    def _pushed(self, vectors: Tensor) -> Outputs:
        u, pulled = self.pulled
        return transposed([pulled], u, [vectors])

    def product(self, vectors: Tensor) -> Tensor:
        """See `ChunkProduct`."""
        if not self.outputs:
            return torch.zeros_like(vectors)
        return transposed(self.outputs, [self.leaf], self.inner(self.push(vectors)))[0]


@torch.enable_grad()
def gradient_with_graph(value: Tensor, leaf: Tensor) -> Tensor:
    """Differentiate, keeping the graph.

    Args:
        value: A scalar.
        leaf: What to differentiate with respect to.

    Returns:
        The gradient, of the shape of the leaf.
    """
    if not value.requires_grad:  # it depends on no parameter
        return torch.zeros_like(leaf, requires_grad=False)
    return torch.autograd.grad(value, leaf, create_graph=True, materialize_grads=True)[0]


@torch.enable_grad()
def transposed(values: Sequence[Tensor], inputs: Sequence[Tensor], vectors: Sequence[Tensor]) -> Outputs:
    """Multiply the transposed Jacobian of some tensors by vectors, keeping the graph.

    Args:
        values: The tensors.
        inputs: What to differentiate with respect to.
        vectors: A tensor of the shape of each value.

    Returns:
        A tensor of the shape of each input.
    """
    # Not with grad_outputs, which makes torch import sympy; the numbers are the same.
    terms = [(value * v).sum() for value, v in zip(values, vectors, strict=True) if value.requires_grad]
    if not terms:  # the values are constant
        return [torch.zeros_like(t, requires_grad=False) for t in inputs]
    total = terms[0] if len(terms) == 1 else torch.stack(terms).sum()
    return list(torch.autograd.grad(total, inputs, retain_graph=True, materialize_grads=True))


def _beside(values: Tensor, like: Tensor) -> Tensor:
    """Shape numbers [N] to broadcast with [N, ...]."""
    return values.view(-1, *(1 for _ in like.shape[1:]))
