"""Curvature matrices of many agents at once, as matrix-vector products."""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.analysis.curvature.chunk_products import (
    ChunkProduct,
    DifferenceProduct,
    HessianProduct,
    OutputProduct,
    gradient_with_graph,
    transposed,
)
from basinet.analysis.curvature.derivatives import check_chunk, find_asymmetry, find_fault
from basinet.analysis.curvature.determinism import differentiable
from basinet.analysis.curvature.elementary import Elementary
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.samples import Chunk
from basinet.sim.data.nests import Nest, leaves, map_nest
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.tasks.model_outputs import output_of

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
        self._kept: ChunkProduct | None = None

    @property
    def num_points(self) -> int:
        """N."""
        return len(self.points)

    @property
    def _keeps_graph(self) -> bool:
        """Whether one graph serves losses, gradients and products."""
        objective = self.objective
        return self.kind == "hessian" and objective.products == "exact" and objective.samples.is_one_chunk

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
            assert isinstance(graph, HessianProduct)
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
            assert isinstance(graph, HessianProduct)
            return self.objective.share.sum(graph.slope.detach().clone())
        total = torch.zeros_like(self.points)
        for chunk in self.objective.samples.chunks(self.rows):
            total += self._slope(self.points, chunk)
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
        if self.objective.products != "exact":
            raise ValueError("Third derivatives need exact products, and those asked for are differences.")
        self._check("third derivative")
        total = torch.zeros_like(self.points, dtype=torch.float64)
        for number, chunk in enumerate(self.objective.samples.chunks(self.rows)):
            with Elementary(3):
                graph = self._graph(chunk, number)
            assert isinstance(graph, HessianProduct)
            for vector, weight in zip(vectors.to(self.points), weights.to(total), strict=True):
                with torch.enable_grad(), differentiable(self.points.device):
                    form = (gradient_with_graph((graph.slope * vector).sum(), graph.leaf) * vector).sum()
                    total += weight * transposed([form], [graph.leaf], [torch.ones_like(form)])[0]
        return self.objective.share.sum(total)

    def _check(self, derivative: Kind | Literal["third derivative"]) -> None:
        """Raise if the derivative is wrong at the first point; checked once per objective."""
        faults = self.objective.faults
        if derivative not in faults:
            faults[derivative] = self._find_fault(derivative)
        if (fault := faults[derivative]) is not None:
            way_out = "; differences of gradients need no second derivative (analysis_products: differences)"
            helps = self.objective.products == "exact" and derivative != "third derivative"
            raise ExperimentError(fault + way_out if helps else fault)

    def _find_fault(self, derivative: Kind | Literal["third derivative"]) -> str | None:
        """Check the products for a few samples; return the fault in words, or None."""
        exact, point = self.objective.products == "exact", self.points[0]
        if exact and derivative in ("hessian", "third derivative"):
            buffers = {name: b[0] for name, b in self.buffers.items()}
            return find_fault(self.objective, point, buffers, 2 if derivative == "hessian" else 3)
        chunk, statistics = check_chunk(self.objective), {name: b[:1] for name, b in self.buffers.items()}

        def products(near: Tensor) -> Callable[[Tensor], Tensor]:
            rows = slice(0, 1)
            there = Curvature(self.objective, near[None], statistics, kind=self.kind, rows=rows, seed=self.seed)
            graph = there._graph(chunk, 0)
            return lambda vector: graph.product(vector[None])[0]

        # The products of differences are wrong by the square of their step.
        fault = find_asymmetry(products, point, self.objective.eps ** (0.5 if exact else 0.25))
        how = "as autograd computes it" if exact else "by differences of autograd's gradient"
        return fault and f"the {derivative} matrix, {how}, {fault}"

    def _graphs(self) -> Iterator[ChunkProduct]:
        """Yield the graph of each chunk; the graph of a single chunk is kept."""
        if self._kept is not None:
            yield self._kept
            return
        for number, chunk in enumerate(self.objective.samples.chunks(self.rows)):
            graph = self._graph(chunk, number)
            if self.objective.samples.is_one_chunk:
                self._kept = graph
            yield graph

    def _graph(self, chunk: Chunk, number: int) -> ChunkProduct:
        """Evaluate a chunk, with the graph that products with this kind of matrix need."""
        objective, exact = self.objective, self.objective.products == "exact"
        if objective.samples.has_batches and self.kind in ("empirical_fisher", "sampled_fisher"):
            raise ValueError("The loss is that of whole batches, so there is no Fisher matrix of its samples.")
        if self.kind == "hessian" and not exact:
            return DifferenceProduct(self.points, lambda points: [self._slope(points, chunk)])
        # One flat leaf, split into parameters inside the graph: each derivative is one flat tensor.
        leaf = self.points.clone().requires_grad_()
        with torch.enable_grad():
            if self.kind == "hessian":
                return HessianProduct(leaf, objective.losses(leaf, self.buffers, chunk))
            outputs = objective.outputs(leaf, self.buffers, chunk)
            places, inner = self._outer(outputs, chunk, number)

        def outputs_at(points: Tensor) -> list[Tensor]:
            flat = leaves(objective.outputs(points, self.buffers, chunk))
            return [flat[place] for place in places]

        found = leaves(outputs)
        push = None if exact else DifferenceProduct(self.points, outputs_at).products
        return OutputProduct(leaf, [found[place] for place in places], inner, push)

    def _slope(self, points: Tensor, chunk: Chunk) -> Tensor:
        """Evaluate the gradient of a chunk's contribution to each loss, [N, P]."""
        with torch.enable_grad():
            leaf = points.clone().requires_grad_()
            value = self.objective.losses(leaf, self.buffers, chunk).sum()
        if not value.requires_grad:  # it depends on no parameter
            return torch.zeros_like(points)
        return torch.autograd.grad(value, leaf, materialize_grads=True)[0]

    def _outer(
        self, outputs: Nest, chunk: Chunk, number: int
    ) -> tuple[list[int], Callable[[list[Tensor]], list[Tensor]]]:
        """Find the places of the outputs that the loss depends on, and the matrix that acts on them."""
        first: dict[int, int] = {}
        for place, t in enumerate(leaves(outputs)):
            if t.requires_grad:
                first.setdefault(id(t), place)
        inner = {place: leaves(outputs)[place].detach().requires_grad_() for place in first.values()}
        given = map_nest(lambda t: inner[first[id(t)]] if id(t) in first else t, outputs)
        slopes: dict[int, Tensor]
        if self.kind == "sampled_fisher":
            key, scores = draws.key(self.seed, "labels", self.objective.share.rank, number), output_of(given)
            drawn = _slope_of_drawn_labels(self.objective, scores.detach(), key) * _per_output(chunk, scores)
            slopes = {place: drawn for place, z in inner.items() if z is scores}
        else:
            value = self.objective.output_losses(given, chunk).sum()
            every: tuple[Tensor | None, ...] = (None,) * len(inner)
            if value.requires_grad:
                every = torch.autograd.grad(value, [*inner.values()], create_graph=True, allow_unused=True)
            slopes = {place: slope for place, slope in zip(inner, every, strict=True) if slope is not None}
        used = [inner[place] for place in slopes]
        if any(z.ndim < 2 for z in used):
            raise ValueError(
                f"The {self.kind.replace('_', ' ')} matrix needs outputs of each sample, and the loss depends on an"
                " output that is a single number."
            )
        if self.kind == "gauss_newton":
            return [*slopes], lambda v: transposed([*slopes.values()], used, v)
        if any(z.shape[1] != chunk.size for z in used):
            shapes = ", ".join(str(tuple(z.shape[1:])) for z in used)
            raise ValueError(
                f"The {self.kind.replace('_', ' ')} matrix needs outputs whose first dimension are the"
                f" {chunk.size} samples, and the loss depends on outputs of shape {shapes}."
            )
        fixed = [slope.detach() for slope in slopes.values()]
        # Each sample's gradient is weighted once, not twice; padding has weight zero.
        scaled = [slope * torch.where(slope != 0, 1 / _per_output(chunk, slope), 0.0) for slope in fixed]

        def outer(v: list[Tensor]) -> list[Tensor]:
            parts = [(slope * part).reshape(*slope.shape[:2], -1).sum(2) for slope, part in zip(fixed, v, strict=True)]
            along = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
            return [slope * along.view(*along.shape, *(1 for _ in slope.shape[2:])) for slope in scaled]

        return [*slopes], outer


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
