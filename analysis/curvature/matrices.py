"""Curvature matrices of many agents at once, as matrix-vector products."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.analysis.curvature.derivatives import check_chunk, find_asymmetry, find_fault
from basinet.analysis.curvature.determinism import differentiable
from basinet.analysis.curvature.elementary import Elementary
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.samples import Chunk
from basinet.sim.experiment.component import ExperimentError

__all__ = ["Curvature", "Kind"]

Kind = Literal["hessian", "gauss_newton", "empirical_fisher", "sampled_fisher"]


class Curvature:
    r"""Curvature matrices C_1, …, C_N of an objective, one for each of N points.

    With outputs f_i of sample i, their Jacobian F_i and the sample's weight w_i, at each point

    $$
    H = ∇² J, \qquad
    G = \sum_i w_i F_iᵀ \, ∂²_f ℓ_i \, F_i, \qquad
    E = \sum_i w_i \, ∇ℓ_i ∇ℓ_iᵀ,
    $$

    the Hessian, the Gauss-Newton matrix and the empirical Fisher matrix. For softmax cross-entropy and squared error, G
    is the Fisher matrix itself. `sampled_fisher` is E with labels sampled from the model's softmax: its expectation
    is G.

    The sum of the agents' losses has a block-diagonal Hessian, so one backward pass through the gradient of the sum
    multiplies every agent's Hessian by its own vector (Pearlmutter: Fast exact multiplication by the Hessian,
    Neural Computation 6, 1994, doi:10.1162/neco.1994.6.1.147). If all samples are one chunk, the graph of the gradient
    is kept and a product costs 1.4 gradients, otherwise 2.4. G and E follow from products with F and its
    transpose (Schraudolph: Fast curvature matrix-vector products for second-order gradient descent, Neural
    Computation 14, 2002, doi:10.1162/08997660260028683).

    Attributes:
        objective: The losses.
        points: The points, [N, P].
        kind: Which curvature matrix.
        num_products: Number of products computed with each matrix so far.

    Args:
        objective: The losses.
        points: [N, P], in the model's dtype.
        buffers: Running statistics [N, ...] by name; None uses the model's own at all points.
        kind: Which curvature matrix.
        rows: The objective's holdings that belong to the points, if each point has its own samples.
        seed: Seed of the labels of `sampled_fisher`.

    Raises:
        ValueError: If the points do not match the objective.
    """

    def __init__(
        self,
        objective: Objective,
        points: Tensor,
        buffers: Mapping[str, Tensor] | None = None,
        *,
        kind: Kind = "hessian",
        rows: slice | None = None,
        seed: int = 0,
    ) -> None:
        if points.ndim != 2 or points.shape[1] != objective.num_parameters:
            expected = f"[N, {objective.num_parameters}]"
            raise ValueError(f"The points must be of shape {expected}, got {list(points.shape)}.")
        held = objective.samples.num_points
        if objective.samples.has_holdings and not (rows or slice(len(points))).stop <= held:
            raise ValueError(f"Each point needs its own samples; got {len(points)} points and {held} holdings.")
        self.objective = objective
        self.points = points.detach()
        self.buffers = objective.buffers(len(points)) if buffers is None else buffers
        self.rows = slice(0, len(points)) if rows is None else rows
        self.kind = kind
        self.seed = seed
        self.num_products = 0
        self._kept: _Graph | None = None

    @property
    def num_points(self) -> int:
        """N."""
        return len(self.points)

    @property
    def _keeps_graph(self) -> bool:
        """Whether one graph serves losses, gradients and products."""
        return self.kind == "hessian" and self.objective.samples.is_one_chunk

    def at(self, points: Tensor) -> "Curvature":
        """Return the same curvature at other points.

        Args:
            points: [N, P].

        Returns:
            A new object; this one is unchanged.
        """
        return Curvature(self.objective, points, self.buffers, kind=self.kind, rows=self.rows, seed=self.seed)

    def part(self, rows: slice) -> "Curvature":
        """Return the curvature at some of the points.

        Args:
            rows: The points to keep.

        Returns:
            A new object; this one is unchanged.
        """
        start = self.rows.start
        held = slice(start + rows.start, start + rows.stop)
        buffers = {name: b[rows] for name, b in self.buffers.items()}
        return Curvature(self.objective, self.points[rows], buffers, kind=self.kind, rows=held, seed=self.seed)

    def of_kind(self, kind: Kind) -> "Curvature":
        """Return another curvature matrix at the same points.

        Args:
            kind: Which curvature matrix.

        Returns:
            A new object; this one is unchanged.
        """
        return Curvature(self.objective, self.points, self.buffers, kind=kind, rows=self.rows, seed=self.seed)

    def losses(self, *, keep: bool = False) -> Tensor:
        """Compute J_k at each point.

        Args:
            keep: Whether to keep the graph, for gradients and products at the same points.

        Returns:
            [N], in float64.
        """
        if keep and self._keeps_graph:
            (graph,) = self._graphs()
            assert isinstance(graph, _HessianGraph)
            return self.objective.share.sum(graph.losses.detach().to(torch.float64, copy=True))
        total = self.points.new_zeros(len(self.points), dtype=torch.float64)
        with torch.no_grad():
            for chunk in self.objective.samples.chunks(self.rows):
                total += self.objective.losses(self.points, self.buffers, chunk)
        return self.objective.share.sum(total)

    def gradients(self) -> Tensor:
        """Compute the gradient of J_k at each point.

        Returns:
            [N, P], in the dtype of the points.
        """
        if self._keeps_graph:  # products reuse the graph
            (graph,) = self._graphs()
            assert isinstance(graph, _HessianGraph)
            return self.objective.share.sum(graph.slope.detach().clone())
        total = torch.zeros_like(self.points)
        for chunk in self.objective.samples.chunks(self.rows):
            with torch.enable_grad():
                leaf = self.points.clone().requires_grad_()
                value = self.objective.losses(leaf, self.buffers, chunk).sum()
            if value.requires_grad:
                total += torch.autograd.grad(value, leaf, materialize_grads=True)[0]
        return self.objective.share.sum(total)

    def products(self, vectors: Tensor) -> Tensor:
        """Multiply each point's matrix by its own vectors.

        Args:
            vectors: [N, P], or [m, N, P] for m vectors per point; of any floating dtype.

        Returns:
            A tensor of the same shape and dtype; computed in the dtype of the points.

        Raises:
            ValueError: If autograd's products are wrong; the message names the layer.
        """
        self._check(self.kind)
        wanted = vectors.to(self.points.dtype).reshape(-1, *self.points.shape)
        products = torch.zeros_like(wanted)
        # Vectors in the inner loop: one graph per chunk serves all of them.
        for graph in self._graphs():
            for vector, product in zip(wanted, products, strict=True):
                product += graph.product(vector)
        self.num_products += len(wanted)
        return self.objective.share.sum(products).view(vectors.shape).to(vectors.dtype)

    def form_gradients(self, vectors: Tensor, weights: Tensor) -> Tensor:
        r"""Differentiate quadratic forms of the Hessian with the vectors held fixed: $∇_θ \sum_m w_m v_mᵀ H(θ) v_m$.

        Piecewise linear networks have almost no third derivative: it comes from the loss alone.

        Args:
            vectors: v, [m, N, P], m per point.
            weights: w, [m].

        Returns:
            [N, P], float64; computed in the dtype of the points.

        Raises:
            ValueError: If the matrices are not Hessians, or autograd's third derivative is missing or wrong.
        """
        if self.kind != "hessian":
            raise ValueError(f"Only quadratic forms of the Hessian can be differentiated, got {self.kind}.")
        self._check("third derivative")
        total = torch.zeros_like(self.points, dtype=torch.float64)
        for number, chunk in enumerate(self.objective.samples.chunks(self.rows)):
            with Elementary(3):
                graph = self._graph(chunk, number)
            assert isinstance(graph, _HessianGraph)
            for vector, weight in zip(vectors.to(self.points), weights.to(total), strict=True):
                with torch.enable_grad(), differentiable(self.points.device):
                    form = (_gradient((graph.slope * vector).sum(), graph.leaf) * vector).sum()
                    total += weight * _derivative(form, graph.leaf, torch.ones_like(form))
        return self.objective.share.sum(total)

    def _check(self, derivative: Kind | Literal["third derivative"]) -> None:
        """Raise if the derivative is wrong at the first point; checked once per objective."""
        faults = self.objective.faults
        if derivative not in faults:
            faults[derivative] = self._find_fault(derivative)
        if (fault := faults[derivative]) is not None:
            raise ExperimentError(fault)

    def _find_fault(self, derivative: Kind | Literal["third derivative"]) -> str | None:
        """Check the products for a few samples; return the fault in words, or None."""
        if derivative in ("hessian", "third derivative"):
            buffers = {name: b[0] for name, b in self.buffers.items()}
            return find_fault(self.objective, self.points[0], buffers, 2 if derivative == "hessian" else 3)
        chunk, statistics = check_chunk(self.objective), {name: b[:1] for name, b in self.buffers.items()}

        def products(near: Tensor) -> Callable[[Tensor], Tensor]:
            rows = slice(0, 1)
            there = Curvature(self.objective, near[None], statistics, kind=self.kind, rows=rows, seed=self.seed)
            graph = there._graph(chunk, 0)
            return lambda vector: graph.product(vector[None])[0]

        fault = find_asymmetry(products, self.points[0])
        return fault and f"the {derivative} matrix, as autograd computes it, {fault}"

    def _graphs(self) -> Iterator["_Graph"]:
        """Yield the graph of each chunk; the graph of a single chunk is kept."""
        if self._kept is not None:
            yield self._kept
            return
        for number, chunk in enumerate(self.objective.samples.chunks(self.rows)):
            graph = self._graph(chunk, number)
            if self.objective.samples.is_one_chunk:
                self._kept = graph
            yield graph

    @torch.enable_grad()
    def _graph(self, chunk: Chunk, number: int) -> "_Graph":
        """Evaluate a chunk, with the graph that products with this kind of matrix need."""
        # One flat leaf, split into parameters inside the graph: each derivative is one flat tensor.
        leaf = self.points.clone().requires_grad_()
        objective = self.objective
        if self.kind == "hessian":
            return _HessianGraph(leaf, objective.losses(leaf, self.buffers, chunk))
        outputs = objective.outputs(leaf, self.buffers, chunk)
        inner = outputs.detach().requires_grad_()
        if self.kind == "sampled_fisher":
            key = draws.key(self.seed, "labels", objective.share.rank, number)
            slope = _slope_of_drawn_labels(objective, inner.detach(), key) * _per_output(chunk, inner)
        else:
            value = objective.output_losses(inner, chunk).sum()
            (slope,) = torch.autograd.grad(value, inner, create_graph=True, materialize_grads=True)
        if self.kind == "gauss_newton":
            return _OutputGraph(leaf, outputs, lambda v: _derivative(slope, inner, v))
        slope = slope.detach()
        # Each sample's gradient is weighted once, not twice; padding has weight zero.
        inverse = torch.where(slope != 0, 1 / _per_output(chunk, inner), 0.0)
        dims = tuple(range(2, inner.ndim))
        return _OutputGraph(leaf, outputs, lambda v: slope * inverse * (slope * v).sum(dims, keepdim=True))


class _Graph(Protocol):
    """A chunk's contribution to the matrices."""

    def product(self, vectors: Tensor) -> Tensor:
        """Multiply it by one vector per point, [N, P]."""


class _HessianGraph:
    """The losses of a chunk, their graph, and the gradient that is differentiated for products."""

    def __init__(self, leaf: Tensor, losses: Tensor) -> None:
        self.leaf = leaf
        self.losses = losses
        self.value = losses.sum()

    @cached_property
    def slope(self) -> Tensor:
        """The gradient, with the graph of its own derivative."""
        return _gradient(self.value, self.leaf)

    def product(self, vectors: Tensor) -> Tensor:
        return _derivative(self.slope, self.leaf, vectors)


class _OutputGraph:
    """Fᵀ B F with the Jacobian F of the outputs and a symmetric matrix B that acts on them."""

    def __init__(self, leaf: Tensor, outputs: Tensor, inner: Callable[[Tensor], Tensor]) -> None:
        self.leaf = leaf
        self.outputs = outputs
        self.inner = inner

    @cached_property
    def pulled(self) -> tuple[Tensor, Tensor]:
        """A vector u in output space, and Fᵀ u, which is linear in u: its derivative is F."""
        u = torch.zeros_like(self.outputs, requires_grad=True)
        with torch.enable_grad():
            return u, _gradient((self.outputs * u).sum(), self.leaf)

    def product(self, vectors: Tensor) -> Tensor:
        u, pulled = self.pulled
        moved = _derivative(pulled, u, vectors)
        return _derivative(self.outputs, self.leaf, self.inner(moved))


@torch.enable_grad()
def _gradient(value: Tensor, leaf: Tensor) -> Tensor:
    if not value.requires_grad:  # it depends on no parameter
        return torch.zeros_like(leaf, requires_grad=False)
    return torch.autograd.grad(value, leaf, create_graph=True, materialize_grads=True)[0]


@torch.enable_grad()
def _derivative(value: Tensor, leaf: Tensor, vectors: Tensor) -> Tensor:
    """Multiply the transposed Jacobian of a value by vectors, keeping the graph."""
    if not value.requires_grad:  # the value is constant
        return torch.zeros_like(leaf, requires_grad=False)
    # Not with grad_outputs, which makes torch import sympy; the numbers are the same.
    return torch.autograd.grad((value * vectors).sum(), leaf, retain_graph=True, materialize_grads=True)[0]


def _per_output(chunk: Chunk, outputs: Tensor) -> Tensor:
    """Return each sample's weight in its point's mean, shaped to broadcast with the outputs [N, b, ...]."""
    weights = chunk.sample_weights(outputs).expand(outputs.shape[:2])
    return weights.view(*weights.shape, *(1 for _ in outputs.shape[2:]))


def _slope_of_drawn_labels(objective: Objective, outputs: Tensor, key: int) -> Tensor:
    """Sample labels from the model's softmax [N, b, ..., C]; return the derivative of each sample's loss."""
    if not objective.classifies:
        raise ValueError("Labels can only be sampled for a classification task all of whose labels count.")
    keys = torch.full(outputs.shape[:-1], key, dtype=torch.int64, device=outputs.device)
    keys = draws.fold(keys, torch.arange(keys.numel(), device=keys.device).view(keys.shape))
    elements = outputs[0, 0, ..., 0].numel()
    if outputs.shape[-1] == 1:  # one logit for two classes
        p = outputs.sigmoid()
        return (p - (draws.uniform(keys, (1,)) < p).to(p.dtype)) / elements
    p = outputs.softmax(-1)
    below = p.double().cumsum(-1) <= draws.uniform(keys, (1,))
    labels = below.sum(-1, keepdim=True).clamp(max=p.shape[-1] - 1)
    return p.scatter_add(-1, labels, p.new_full(labels.shape, -1.0)) / elements
