"""Mean losses of many agents' models at once, each over all samples or over its own."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from basinet.analysis.curvature.determinism import check_modes, differentiable
from basinet.analysis.curvature.functional import FunctionalModel, Loss, State, calls_of
from basinet.analysis.curvature.samples import Chunk, Samples, Share
from basinet.sim.data.nests import Nest, leaves, map_nest, rebuild
from basinet.sim.data.rows import length, singles, take
from basinet.sim.evaluation.measuring import fixed_batches
from basinet.sim.models.modules import check_module, saved_bytes, silence_vmap, writes
from basinet.sim.tasks import Task
from basinet.sim.tasks.task import Batch

__all__ = ["Objective", "Products"]

Buffers = Mapping[str, Tensor]

Products = Literal["exact", "differences"]

_SMALL = 2**22
"""Samples times parameters per agent up to which the agents are batched by vmap on the CPU. Measured on one thread:
16 agents run 3.4 times as fast batched with 64 samples each, 0.8 times with 1,437 each."""


class Objective:
    r"""Mean losses of N models with parameters θ_k, each over all samples or over those that agent k holds.

    $$
    J_k(θ_k) = \sum_i w_{ki} ℓ(θ_k; x_i), \qquad w_{ki} = \frac{1}{n} \quad \text{or} \quad \frac{1}{n_k} .
    $$

    Unequal holdings and ragged chunks are weighted by their samples, and samples by what counts of them if a task has
    weights. If it has a loss of whole batches, J is the mean over the fixed batches of `Task.batches`: it has no losses
    of single samples, and the batches are the chunks. The models of many agents are batched by `torch.vmap` where that
    is faster (small models and few samples; not convolutions on the CPU), otherwise evaluated one by one into a common
    graph.

    Args:
        model: A model in evaluation mode, or one whose layers behave the same in both modes. Its parameters and buffers
            are never written to.
        loss: Maps the model and a batch to the mean loss of the batch; weight decay counts only if it adds it.
        data: A nest of tensors [n, ...] that share their first dimension.
        holdings: The sample indices of each point; None gives all samples to every point.
        chunk: Maximum number of samples differentiated at once; None for all.
        training: Whether layers may normalise by batch statistics: the data then form one batch, unless the loss has
            batches of its own.
        share: The share of the samples that this process sums over.
        faults: Known faults of this loss's derivatives, by name; updated in place.
        products: How products with curvature matrices are computed: "exact" by autograd, or by "differences" of its
            gradients, for models whose second derivative it lacks. These take float64, are symmetric only up to the
            error of the differences, and see the kinks of piecewise linear layers.
        batches: The samples of each batch that has a loss, as indices; J is the mean over them. By default those of the
            task, if it has such a loss.

    Raises:
        ValueError: If a layer is in a mode that makes the loss random or dependent on how samples are batched, if
            the parameters are not of one floating type on one device, or not float64 for differences, or if data,
            holdings or chunk are empty, or given where batches have a loss.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        data: Batch,
        *,
        holdings: Sequence[Any] | None = None,
        chunk: int | None = None,
        training: bool = False,
        share: Share | None = None,
        faults: dict[str, str | None] | None = None,
        products: Products = "exact",
        batches: Sequence[Tensor] | None = None,
    ) -> None:
        check_module(model)
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        kinds = {(p.dtype, p.device) for p in parameters.values()}
        if len(kinds) != 1:
            found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds)) or "none"
            raise ValueError(f"The parameters must be of one floating type on one device, got {found}.")
        if training and (chunk is not None or holdings is not None):
            raise ValueError("In training mode all samples are one batch: leave out chunk and holdings.")
        self.model, self.loss = model, loss
        self.faults = {} if faults is None else faults
        self.shapes = {name: p.shape for name, p in parameters.items()}
        self.training = training
        ((self.dtype, self.device),) = kinds
        self.products = products
        if products == "differences" and self.dtype != torch.float64:
            raise ValueError(f"Differences of gradients need parameters in float64, got {self.dtype}.")
        # A batch whose statistics matter cannot be split.
        self.share = Share() if training or share is None else share
        task = getattr(loss, "__self__", None)
        self._task: Task | None = None
        outputs: Callable[..., Any] = partial(calls_of, loss)
        if isinstance(task, Task) and type(task).objective is Task.objective:
            self._task, outputs = task, task.outputs
        self._functional = FunctionalModel(model, loss, outputs)
        self._buffers = {name: b.detach().clone() for name, b in model.named_buffers()}
        counts = None
        if isinstance(task, Task) and task.mean_over == "batch":
            batches = batches or [*fixed_batches(task, length(data))]
        elif self._task is not None:
            counts = self._task.counts(data)
        self.samples = Samples(data, holdings, chunk, self.share, self.dtype, counts, batches)
        self._convolves = any(isinstance(module, _ConvNd) for module in model.modules())
        check_modes(model, one_batch=training)
        silence_vmap()  # one operation that vmap runs in a loop is no slower than running all of them so

    @property
    def num_parameters(self) -> int:
        """P."""
        return sum(shape.numel() for shape in self.shapes.values())

    @property
    def point(self) -> Tensor:
        """A copy of the model's own parameters, [1, P], in the order of `model.parameters()`."""
        parameters = (p for p in self.model.parameters() if p.requires_grad)
        return torch.cat([p.detach().flatten() for p in parameters]).unsqueeze(0)

    @property
    def classifies(self) -> bool:
        """Whether the loss is known to be a cross-entropy in which every label counts."""
        task = self._task
        return task is not None and task.classification and type(task).loss is Task.loss and not task.weighs

    def buffers(self, num_points: int) -> dict[str, Tensor]:
        """Repeat the model's own buffers, as they were when the objective was created.

        Args:
            num_points: N.

        Returns:
            Tensors [N, ...] by name.
        """
        return {name: b.expand(num_points, *b.shape) for name, b in self._buffers.items()}

    def losses(self, points: Tensor, buffers: Buffers, chunk: Chunk) -> Tensor:
        """Evaluate a chunk's contribution to each point's loss.

        Args:
            points: [N, P].
            buffers: Tensors [N, ...] by name.
            chunk: The samples.

        Returns:
            [N], with a graph if the points require gradients.
        """
        losses: Tensor = self._map(self._loss, points, buffers, chunk)
        return losses if chunk.share == 1 else losses * chunk.share

    def sample_gradients(self, point: Tensor, buffers: Buffers, chunk: Chunk) -> Tensor:
        """Compute per-sample gradients of a chunk at one point.

        Args:
            point: [P].
            buffers: The point's buffers by name.
            chunk: The samples, shared by all points or this point's own.

        Returns:
            [b, P].

        Raises:
            ValueError: If samples have no losses of their own.
        """
        if self.samples.has_batches:
            raise ValueError("The loss is that of whole batches, so single samples have no gradient.")
        batch = chunk.batch if chunk.weights is None else take(chunk.batch, 0)
        if self._samples_can_be_mapped:
            return self._mapped_gradients(point, buffers, batch)
        return self._single_gradients(point, buffers, batch)

    def gradient(self, point: Tensor, buffers: Buffers, batch: Batch) -> Tensor:
        """Compute the gradient of a batch's loss at one point.

        Args:
            point: [P].
            buffers: The point's buffers by name.
            batch: The samples.

        Returns:
            [P].
        """
        with differentiable(self.device), torch.enable_grad():
            leaf = point.clone().requires_grad_()
            value: Tensor = self._at(self._loss, leaf.clone(), buffers, batch)
        if not value.requires_grad:  # it depends on no parameter
            return torch.zeros_like(point)
        return torch.autograd.grad(value, leaf)[0]

    def _single_gradients(self, point: Tensor, buffers: Buffers, batch: Batch) -> Tensor:
        return torch.stack([self.gradient(point, buffers, sample) for sample in singles(batch)])

    def _mapped_gradients(self, point: Tensor, buffers: Buffers, batch: Batch) -> Tensor:
        """Compute per-sample gradients by `torch.vmap`."""

        def loss(theta: Tensor, *sample: Tensor) -> Tensor:
            value: Tensor = self._at(self._loss, theta, buffers, rebuild(batch, (t.unsqueeze(0) for t in sample)))
            return value

        tensors = leaves(batch)
        dims = (None, *(0 for _ in tensors))
        with differentiable(self.device):
            gradients: Tensor = torch.vmap(torch.func.grad(loss), dims, randomness="same")(point, *tensors)
        return gradients

    def outputs(self, points: Tensor, buffers: Buffers, chunk: Chunk) -> Nest:
        """Evaluate the models' outputs.

        Args:
            points: [N, P].
            buffers: Tensors [N, ...] by name.
            chunk: The samples.

        Returns:
            What the models return, a nest of tensors [N, b, ...], with a graph if the points require gradients; if the
            loss is no task's, a list of what it gets from each call of the model.
        """
        return self._map(lambda state, batch, _: self._functional.outputs(state, batch), points, buffers, chunk)

    def output_losses(self, outputs: Nest, chunk: Chunk) -> Tensor:
        """Evaluate a chunk's contribution to the loss as a function of the models' outputs.

        Args:
            outputs: A nest of tensors [N, b, ...].
            chunk: The samples.

        Returns:
            [N], with a graph if the outputs require gradients.
        """
        each = [take(outputs, k) for k in range(len(leaves(outputs)[0]))]
        if chunk.weights is None:
            return torch.stack([chunk.share * self._loss_of(z, chunk.batch) for z in each])
        parts = zip(each, chunk.weights, strict=True)
        return torch.stack([
            (self._losses_of(z, take(chunk.batch, k)) * weights).sum() for k, (z, weights) in enumerate(parts)
        ])  # fmt: skip

    def _loss_of(self, outputs: Nest, batch: Batch) -> Tensor:
        if self._task is not None:
            return self._task.mean_loss(outputs, batch)
        following = iter(outputs)
        return self.loss(lambda *_, **__: next(following), batch)  # type: ignore[arg-type]

    def _losses_of(self, outputs: Nest, batch: Batch) -> Tensor:
        """Evaluate per-sample losses [b] from the outputs [b, ...]."""
        if self._task is not None:
            return self._task.mean_loss(outputs, batch, (length(batch),))
        return self._each(lambda one: self._loss_of(one[1], one[0]), (batch, outputs))

    def _loss(self, state: State, batch: Batch, weights: Tensor | None) -> Tensor:
        if weights is not None:
            return (self._sample_losses(state, batch) * weights).sum()
        return self._functional.loss(state, batch)

    def _sample_losses(self, state: State, batch: Batch) -> Tensor:
        """Evaluate per-sample losses [b] at a point."""
        if self._task is not None:
            return self._losses_of(self._functional.outputs(state, batch), batch)
        return self._each(lambda one: self._loss(state, one, None), batch)

    def _each(self, loss: Callable[[Batch], Tensor], batch: Batch, *, mapped: bool | None = None) -> Tensor:
        """Evaluate a mean loss on each sample as a batch of one, [b]; tensors of another length have no samples."""
        mapped = self._losses_can_be_mapped if mapped is None else mapped
        tensors, count = leaves(batch), length(batch)
        cut = [t.shape[:1] == (count,) for t in tensors]

        def alone(*sample: Tensor) -> Tensor:
            parts = zip(sample, cut, strict=True)
            return loss(rebuild(batch, (t.unsqueeze(0) if cuts else t for t, cuts in parts)))

        if not mapped:
            kinds = [*zip(tensors, cut, strict=True)]
            return torch.stack([alone(*(t[place] if cuts else t for t, cuts in kinds)) for place in range(count)])
        dims = tuple(0 if cuts else None for cuts in cut)
        losses: Tensor = torch.vmap(alone, dims, randomness="same")(*tensors)
        return losses

    def bytes_per_sample(self) -> int:
        """Measure the memory that the graph of a Hessian product takes per sample of a point.

        Returns:
            Bytes, at least 1.
        """
        if length(self.samples.data) < 2 or self.training or self.samples.has_batches:
            return 1
        one, two = (self._graph_bytes(count) for count in (1, 2))
        return max(1, two - one)

    def _graph_bytes(self, count: int) -> int:
        """Count the bytes that the graph of the gradient keeps for `count` samples."""
        chunk = Chunk(map_nest(torch.clone, take(self.samples.data, slice(0, count))))

        def gradient() -> Tensor:
            leaf = self.point.requires_grad_()
            value = self.losses(leaf, self.buffers(1), chunk).sum()
            if not value.requires_grad:
                return value
            return torch.autograd.grad(value, leaf, create_graph=True, materialize_grads=True)[0]

        return saved_bytes(gradient)

    def _map(self, function: Callable[..., Nest], points: Tensor, buffers: Buffers, chunk: Chunk) -> Any:
        """Apply a function of (state, batch, weights) to each point, and stack the tensors that it returns."""
        check_modes(self.model, one_batch=self.training)  # again: the mode may have changed since
        own = chunk.weights is not None
        points = points.clone()  # some layers write into their parameters
        each_alone = own and self._task is None and not self._losses_can_be_mapped  # not to be tried inside vmap
        with differentiable(points.device):
            if len(points) > 1 and not each_alone and self._as_one(chunk.size, own=own):
                return self._together(function, points, buffers, chunk.batch, chunk.weights, own=own)
            found = []
            for k, theta in enumerate(points.unbind()):
                batch = take(chunk.batch, k) if own else chunk.batch
                weights = None if chunk.weights is None else chunk.weights[k]
                found.append(self._at(function, theta, {name: b[k] for name, b in buffers.items()}, batch, weights))
            return map_nest(lambda *parts: torch.stack(parts), *found)

    def _together(
        self,
        function: Callable[..., Nest],
        points: Tensor,
        buffers: Buffers,
        batch: Batch,
        weights: Tensor | None,
        *,
        own: bool,
    ) -> Any:
        """Apply a function of (state, batch, weights) to all points by `torch.vmap`, which takes only tensors."""
        form: Nest = None

        def flat(theta: Tensor, buffers: Buffers, tensors: list[Tensor], weights: Tensor | None) -> list[Tensor]:
            nonlocal form
            form = self._at(function, theta, buffers, rebuild(batch, tensors), weights)
            return leaves(form)

        each = 0 if own else None
        apply = torch.vmap(flat, (0, 0, each, None if weights is None else 0), randomness="same")
        values = apply(points, dict(buffers), leaves(batch), weights)
        return rebuild(form, values)

    def _at(
        self,
        function: Callable[..., Any],
        theta: Tensor,
        buffers: Buffers,
        batch: Batch,
        weights: Tensor | None = None,
    ) -> Any:
        """Apply a function of (state, batch, weights) at one point."""
        given = map_nest(torch.clone, batch) if self._writes else batch
        return function(self._state(theta, buffers), given, weights)

    def _state(self, theta: Tensor, buffers: Buffers) -> State:
        parts = torch.split(theta, [shape.numel() for shape in self.shapes.values()])
        state = {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
        # Clones, because running statistics are written in place.
        return state | {name: buffer.clone() for name, buffer in buffers.items()}

    @cached_property
    def eps(self) -> float:
        """Machine epsilon of the lowest precision in which model and loss compute, whatever that of the parameters."""
        state = self._state(self.point[0].requires_grad_(), self._buffers)
        batch = map_nest(torch.clone, self.samples.few())
        with torch.enable_grad(), differentiable(self.device), _Precision() as seen:
            loss = self._functional.loss(state, batch)
        return max(torch.finfo(dtype).eps for dtype in (self.dtype, loss.dtype, *seen.dtypes))

    @cached_property
    def _writes(self) -> bool:
        """Whether the model or the loss writes into its inputs and so needs clones; the model of a run does not."""
        state = self._state(self.point[0], self._buffers)
        try:
            with torch.no_grad(), differentiable(self.device):
                return writes(lambda given: self._functional.loss(state, given), self.samples.few())
        except Exception:  # cloning is safe; the evaluation itself reports the error
            return True

    def _as_one(self, samples: int, *, own: bool) -> bool:
        """Return whether to batch the agents by vmap, given the samples of each and whether they are its own."""
        if self.device.type == "cpu" and (self._convolves or samples * self.num_parameters > _SMALL):
            return False
        return self._own_can_be_mapped if own else self._can_be_mapped

    @cached_property
    def _can_be_mapped(self) -> bool:
        """Whether every layer supports vmap (nn.LSTM does not)."""
        return self._maps(self.samples.few(), own=False)

    @cached_property
    def _own_can_be_mapped(self) -> bool:
        """Whether every layer supports vmap when each agent has its own samples."""
        return self._maps(map_nest(lambda t: t.expand(2, *t.shape), take(self.samples.data, slice(0, 1))), own=True)

    def _maps(self, batch: Batch, *, own: bool) -> bool:
        """Return whether the gradients at two points are the same with vmap as one by one."""

        def together(points: Tensor) -> Tensor:
            losses: Tensor = self._together(self._loss, points, self.buffers(2), batch, None, own=own)
            return losses

        def one_by_one(points: Tensor) -> Tensor:
            batches = [take(batch, k) if own else batch for k in range(2)]
            buffers = {name: b[0] for name, b in self.buffers(1).items()}
            return torch.stack([self._at(self._loss, points[k], buffers, batches[k]) for k in range(2)])

        def gradients(losses: Callable[[Tensor], Tensor]) -> Tensor:
            with torch.enable_grad(), differentiable(self.device):
                leaf = torch.cat([self.point, 1.01 * self.point]).requires_grad_()
                value = losses(leaf.clone()).sum()
            return torch.autograd.grad(value, leaf)[0] if value.requires_grad else torch.zeros_like(leaf)

        return self._agrees(lambda: gradients(together), lambda: gradients(one_by_one))

    @cached_property
    def _samples_can_be_mapped(self) -> bool:
        """Whether vmap over samples works: no layer's control flow may depend on their values."""
        batch, buffers = self.samples.few(), {n: b[0] for n, b in self.buffers(1).items()}
        return self._agrees(
            lambda: self._mapped_gradients(self.point[0].clone(), buffers, batch),
            lambda: self._single_gradients(self.point[0], buffers, batch),
        )

    @cached_property
    def _losses_can_be_mapped(self) -> bool:
        """Whether vmap over samples works for losses alone: in float32, nn.LSTM allows it for gradients only."""
        buffers = {name: b[0] for name, b in self.buffers(1).items()}

        @torch.no_grad()
        def losses(*, mapped: bool) -> Tensor:
            def alone(batch: Batch) -> Tensor:
                value: Tensor = self._at(self._loss, self.point[0], buffers, batch)
                return value

            with differentiable(self.device):
                return self._each(alone, self.samples.few(), mapped=mapped)

        return self._samples_can_be_mapped and self._agrees(lambda: losses(mapped=True), lambda: losses(mapped=False))

    def _agrees(self, mapped: Callable[[], Tensor], single: Callable[[], Tensor]) -> bool:
        """Return whether vmap succeeds with the same result; it drops hooks and mistreats some layers."""
        try:
            found = mapped()
        except (RuntimeError, ValueError):
            return False
        tolerance = self.eps**0.5
        return torch.allclose(found, single(), rtol=tolerance, atol=tolerance, equal_nan=True)


class _Precision(TorchFunctionMode):
    """Records the floating types of results that depend on the parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.requires_grad and result.is_floating_point():
            self.dtypes.add(result.dtype)
        return result
