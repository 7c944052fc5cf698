"""Mean losses of many agents' models at once, each over all samples or over its own."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from basinet.analysis.curvature.determinism import check_modes, differentiable
from basinet.analysis.curvature.functional import FunctionalModel, Loss, State
from basinet.analysis.curvature.samples import Chunk, Samples, Share
from basinet.sim.data.nests import leaves, map_nest, rebuild
from basinet.sim.data.rows import length, singles, take
from basinet.sim.models.modules import check_module, saved_bytes, silence_vmap, writes
from basinet.sim.tasks import Task
from basinet.sim.tasks.calls import called
from basinet.sim.tasks.model_outputs import output_of
from basinet.sim.tasks.task import Batch

__all__ = ["Objective"]

Buffers = Mapping[str, Tensor]


_SMALL = 2**22
"""Samples times parameters per agent up to which the agents are batched by vmap on the CPU. Measured on one thread:
16 agents run 3.4 times as fast batched with 64 samples each, 0.8 times with 1,437 each."""


class Objective:
    r"""Mean losses of N models with parameters θ_k, each over all samples or over those that agent k holds.

    $$
    J_k(θ_k) = \sum_i w_{ki} ℓ(θ_k; x_i), \qquad w_{ki} = \frac{1}{n} \quad \text{or} \quad \frac{1}{n_k} .
    $$

    Unequal holdings and ragged chunks are weighted by their samples, and samples by the labels that count if a task
    ignores some. The models of many agents are batched by `torch.vmap` where that is faster (small models and few
    samples; not convolutions on the CPU), otherwise evaluated one by one into a common graph.

    Args:
        model: A model in evaluation mode, or one whose layers behave the same in both modes. Its parameters and buffers
            are never written to.
        loss: Maps the model and a batch to the mean loss of the batch; weight decay counts only if it adds it.
        data: Tensors [n, ...] that share their first dimension.
        holdings: The sample indices of each point; None gives all samples to every point.
        chunk: Maximum number of samples differentiated at once; None for all.
        training: Whether layers may normalise by batch statistics: the data then form one batch.
        share: The share of the samples that this process sums over.
        faults: Known faults of this loss's derivatives, by name; updated in place.

    Raises:
        ValueError: If a layer is in a mode that makes the loss random or dependent on how samples are batched, if
            the parameters are not of one floating type on one device, or if data, holdings or chunk are empty.
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
        # A batch whose statistics matter cannot be split.
        self.share = Share() if training or share is None else share
        task = getattr(loss, "__self__", None)
        task = task if isinstance(task, Task) and type(task).objective is Task.objective else None
        # A task whose loss is the mean of per-sample losses can return these in one pass.
        self._task = task if task is not None and task.mean_over == "samples" else None
        outputs = called if task is None else task.outputs
        self._functional = FunctionalModel(model, loss, lambda model, batch: output_of(outputs(model, batch)))
        self._buffers = {name: b.detach().clone() for name, b in model.named_buffers()}
        counts = None if self._task is None else self._task.counts(data)
        self.samples = Samples(data, holdings, chunk, self.share, self.dtype, counts)
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
        return self._task is not None and self._task.classification and not self._task.weighs

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
        losses = self._map(self._loss, points, buffers, chunk)
        return losses if chunk.share == 1 else losses * chunk.share

    def sample_gradients(self, point: Tensor, buffers: Buffers, chunk: Chunk) -> Tensor:
        """Compute per-sample gradients of a chunk at one point.

        Args:
            point: [P].
            buffers: The point's buffers by name.
            chunk: The samples, shared by all points or this point's own.

        Returns:
            [b, P].
        """
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
            value = self._at(self._loss, leaf.clone(), buffers, batch)
        if not value.requires_grad:  # it depends on no parameter
            return torch.zeros_like(point)
        return torch.autograd.grad(value, leaf)[0]

    def _single_gradients(self, point: Tensor, buffers: Buffers, batch: Batch) -> Tensor:
        return torch.stack([self.gradient(point, buffers, sample) for sample in singles(batch)])

    def _mapped_gradients(self, point: Tensor, buffers: Buffers, batch: Batch) -> Tensor:
        """Compute per-sample gradients by `torch.vmap`."""

        def loss(theta: Tensor, *sample: Tensor) -> Tensor:
            return self._at(self._loss, theta, buffers, rebuild(batch, (t.unsqueeze(0) for t in sample)))

        tensors = leaves(batch)
        dims = (None, *(0 for _ in tensors))
        with differentiable(self.device):
            gradients: Tensor = torch.vmap(torch.func.grad(loss), dims, randomness="same")(point, *tensors)
        return gradients

    def outputs(self, points: Tensor, buffers: Buffers, chunk: Chunk) -> Tensor:
        """Evaluate the models' outputs.

        Args:
            points: [N, P].
            buffers: Tensors [N, ...] by name.
            chunk: The samples.

        Returns:
            [N, b, ...], with a graph if the points require gradients.
        """
        return self._map(self._call_model, points, buffers, chunk)

    def output_losses(self, outputs: Tensor, chunk: Chunk) -> Tensor:
        """Evaluate a chunk's contribution to the loss as a function of the models' outputs.

        Args:
            outputs: [N, b, ...].
            chunk: The samples.

        Returns:
            [N], with a graph if the outputs require gradients.
        """
        if chunk.weights is None:
            return torch.stack([chunk.share * self._loss_of(z, chunk.batch) for z in outputs])
        parts = zip(outputs, chunk.weights, strict=True)
        return torch.stack([
            (self._losses_of(z, take(chunk.batch, k)) * weights).sum() for k, (z, weights) in enumerate(parts)
        ])  # fmt: skip

    def _loss_of(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.loss(lambda *_, **__: outputs, batch)  # type: ignore[arg-type]

    def _losses_of(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Evaluate per-sample losses [b] from the outputs [b, ...]."""
        if self._task is not None:
            return self._task.mean_loss(outputs, batch, (len(outputs),))
        return self._each(lambda one: self._loss_of(one[0], one[1:]), (outputs, *batch))

    def _loss(self, state: State, batch: Batch, weights: Tensor | None) -> Tensor:
        if weights is not None:
            return (self._sample_losses(state, batch, None) * weights).sum()
        return self._functional.loss(state, batch)

    def _sample_losses(self, state: State, batch: Batch, _: Tensor | None) -> Tensor:
        """Evaluate per-sample losses [b] at a point."""
        if self._task is not None:
            return self._losses_of(self._call_model(state, batch, None), batch)
        return self._each(lambda one: self._loss(state, one, None), batch)

    def _each(self, loss: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """Evaluate a mean loss on each sample as a batch of one, [b]."""

        def alone(*sample: Tensor) -> Tensor:
            return loss(rebuild(batch, (t.unsqueeze(0) for t in sample)))

        if not self._samples_can_be_mapped:
            return torch.stack([loss(sample) for sample in singles(batch)])
        losses: Tensor = torch.vmap(alone, randomness="same")(*leaves(batch))
        return losses

    def _call_model(self, state: State, batch: Batch, _: Tensor | None) -> Tensor:
        return self._functional.outputs(state, batch)

    def bytes_per_sample(self) -> int:
        """Measure the memory that the graph of a Hessian product takes per sample of a point.

        Returns:
            Bytes, at least 1.
        """
        if length(self.samples.data) < 2 or self.training:
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

    def _map(self, function: Callable[..., Tensor], points: Tensor, buffers: Buffers, chunk: Chunk) -> Tensor:
        """Apply a function of (state, batch, weights) to each point."""
        check_modes(self.model, one_batch=self.training)  # again: the mode may have changed since
        own = chunk.weights is not None
        points = points.clone()  # some layers write into their parameters
        each_alone = own and self._task is None and not self._samples_can_be_mapped  # not to be tried inside vmap
        with differentiable(points.device):
            if len(points) > 1 and not each_alone and self._as_one(chunk.size, own=own):
                each = 0 if own else None
                apply = torch.vmap(partial(self._at, function), (0, 0, each, each), randomness="same")
                values: Tensor = apply(points, dict(buffers), chunk.batch, chunk.weights)
                return values
            found = []
            for k, theta in enumerate(points.unbind()):
                batch = take(chunk.batch, k) if own else chunk.batch
                weights = None if chunk.weights is None else chunk.weights[k]
                found.append(self._at(function, theta, {name: b[k] for name, b in buffers.items()}, batch, weights))
            return torch.stack(found)

    def _at(
        self,
        function: Callable[..., Tensor],
        theta: Tensor,
        buffers: Buffers,
        batch: Batch,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Apply a function of (state, batch, weights) at one point."""
        given = map_nest(torch.clone, batch) if self._writes else batch
        return function(self._state(theta, buffers), given, weights)

    def _state(self, theta: Tensor, buffers: Buffers) -> State:
        parts = torch.split(theta, [shape.numel() for shape in self.shapes.values()])
        state = {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
        # Clones, because running statistics are written in place.
        return state | {name: buffer.clone() for name, buffer in buffers.items()}

    @cached_property
    def _writes(self) -> bool:
        """Whether the model or the loss writes into its inputs and so needs clones; the model of a run does not."""
        state = self._state(self.point[0], self._buffers)
        try:
            with torch.no_grad(), differentiable(self.device):
                return writes(lambda given: self._functional.loss(state, given), take(self.samples.data, slice(0, 2)))
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
        return self._maps(take(self.samples.data, slice(0, 2)), None)

    @cached_property
    def _own_can_be_mapped(self) -> bool:
        """Whether every layer supports vmap when each agent has its own samples."""
        return self._maps(map_nest(lambda t: t.expand(2, *t.shape), take(self.samples.data, slice(0, 1))), 0)

    def _maps(self, batch: Batch, each: int | None) -> bool:
        """Return whether the gradients at two points are the same with vmap as one by one."""

        def together(points: Tensor) -> Tensor:
            apply = torch.vmap(partial(self._at, self._loss), (0, 0, each), randomness="same")
            losses: Tensor = apply(points, self.buffers(2), batch)
            return losses

        def one_by_one(points: Tensor) -> Tensor:
            batches = [batch if each is None else take(batch, k) for k in range(2)]
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
        batch, buffers = take(self.samples.data, slice(0, 2)), {n: b[0] for n, b in self.buffers(1).items()}
        return self._agrees(
            lambda: self._mapped_gradients(self.point[0].clone(), buffers, batch),
            lambda: self._single_gradients(self.point[0], buffers, batch),
        )

    def _agrees(self, mapped: Callable[[], Tensor], single: Callable[[], Tensor]) -> bool:
        """Return whether vmap succeeds with the same result; it drops hooks and mistreats some layers."""
        try:
            found = mapped()
        except (RuntimeError, ValueError):
            return False
        tolerance = torch.finfo(self.dtype).eps ** 0.5
        return torch.allclose(found, single(), rtol=tolerance, atol=tolerance, equal_nan=True)
