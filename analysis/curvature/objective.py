"""The mean losses of many agents' models at once, each over all samples or over its own."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from basinet.analysis.curvature.determinism import check_modes, differentiable
from basinet.analysis.curvature.functional import FunctionalModel, Loss, State
from basinet.analysis.curvature.samples import Chunk, Samples, Share
from basinet.sim.models.modules import check_module, saved_bytes, silence_vmap, writes
from basinet.sim.tasks import Task
from basinet.sim.tasks.task import Batch

__all__ = ["Objective"]

Buffers = Mapping[str, Tensor]


_SMALL = 2**22
"""Samples times parameters of an agent up to which the agents are mapped as one on the CPU. Measured on one thread:
16 agents with 64 samples each run 3.4 times as fast mapped, with 1,437 each 0.8 times."""


class Objective:
    r"""Mean losses of N models with parameters θ_k, each over all samples or over those that agent k holds.

    $$
    J_k(θ_k) = \sum_i w_{ki} ℓ(θ_k; x_i), \qquad w_{ki} = \frac{1}{n} \quad \text{or} \quad \frac{1}{n_k} .
    $$

    Agents with unequal data, and ragged chunks, are weighted by their samples, and these by their labels where a task
    has some that do not count. The models of many agents are evaluated as one, by `torch.vmap`, where that is faster
    (small models and few samples; not convolutions on the CPU) and one by one into a common graph elsewhere.

    Args:
        model: A model in evaluation mode, or one whose layers do the same in both modes. Its parameters and buffers are
            never written to.
        loss: Maps the model and a batch to the mean loss of the batch; weight decay counts only if it adds it.
        data: Tensors [n, ...] that share their first dimension.
        holdings: For each point the indices of its samples; None gives all samples to every point.
        chunk: At most how many samples to differentiate at once; None takes all of them.
        training: Whether layers may normalise by the statistics of the batch: the loss is then that of the whole
            data as one batch.
        share: Which part of the samples this process sums over.
        faults: What is known to be wrong with derivatives of this loss, by their names; it is added to.

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
        # A batch whose statistics count cannot be divided.
        self.share = Share() if training or share is None else share
        self._functional = FunctionalModel(model, loss)
        self._buffers = {name: b.detach().clone() for name, b in model.named_buffers()}
        task = getattr(loss, "__self__", None)
        # A task whose loss is the mean over its samples' losses can give these in one pass.
        self._task = task if isinstance(task, Task) and type(task).loss is Task.loss else None
        counts = None if self._task is None else self._task.counts(data[-1])
        self.samples = Samples(data, holdings, chunk, self.share, self.dtype, counts)
        self._convolves = any(isinstance(module, _ConvNd) for module in model.modules())
        check_modes(model, one_batch=training)
        silence_vmap()  # an operation that is mapped in a loop is no slower than all operations would be

    @property
    def num_parameters(self) -> int:
        """P."""
        return sum(shape.numel() for shape in self.shapes.values())

    @property
    def point(self) -> Tensor:
        """The model's own parameters, a copy [1, P] in the order of `model.parameters()`."""
        parameters = (p for p in self.model.parameters() if p.requires_grad)
        return torch.cat([p.detach().flatten() for p in parameters]).unsqueeze(0)

    @property
    def classifies(self) -> bool:
        """Whether the loss is known to be a cross-entropy, and every label counts in it."""
        return self._task is not None and self._task.classification and not self._task.ignores

    def buffers(self, num_points: int) -> dict[str, Tensor]:
        """Repeat the model's own buffers, as they were when the objective was made.

        Args:
            num_points: N.

        Returns:
            Tensors [N, ...] by name.
        """
        return {name: b.expand(num_points, *b.shape) for name, b in self._buffers.items()}

    def losses(self, points: Tensor, buffers: Buffers, chunk: Chunk) -> Tensor:
        """Evaluate a chunk's part of each point's loss.

        Args:
            points: [N, P].
            buffers: Tensors [N, ...] by name.
            chunk: The samples.

        Returns:
            [N], with a graph if the points want one.
        """
        losses = self._map(self._loss, points, buffers, chunk)
        return losses if chunk.share == 1 else losses * chunk.share

    def sample_gradients(self, point: Tensor, buffers: Buffers, chunk: Chunk) -> Tensor:
        """Compute the gradient of the loss of each sample of a chunk at one point.

        Args:
            point: [P].
            buffers: Tensors by name, those of the point.
            chunk: The samples, shared by all points or those of this one alone.

        Returns:
            [b, P].
        """
        batch = chunk.batch if chunk.weights is None else tuple(t[0] for t in chunk.batch)
        if self._samples_can_be_mapped:
            return self._mapped_gradients(point, buffers, batch)
        return self._single_gradients(point, buffers, batch)

    def gradient(self, point: Tensor, buffers: Buffers, batch: Batch) -> Tensor:
        """Compute the gradient of the loss of a batch at one point.

        Args:
            point: [P].
            buffers: Tensors by name, those of the point.
            batch: The samples.

        Returns:
            [P].
        """
        with differentiable(self.device), torch.enable_grad():
            leaf = point.clone().requires_grad_()
            value = self._at(self._loss, leaf.clone(), buffers, batch)
        if not value.requires_grad:  # no parameter takes part
            return torch.zeros_like(point)
        return torch.autograd.grad(value, leaf)[0]

    def _single_gradients(self, point: Tensor, buffers: Buffers, batch: Batch) -> Tensor:
        samples = zip(*(torch.split(t, 1) for t in batch), strict=True)
        return torch.stack([self.gradient(point, buffers, sample) for sample in samples])

    def _mapped_gradients(self, point: Tensor, buffers: Buffers, batch: Batch) -> Tensor:
        """Compute the gradient of each sample by `torch.vmap`."""

        def loss(theta: Tensor, *sample: Tensor) -> Tensor:
            return self._at(self._loss, theta, buffers, tuple(t.unsqueeze(0) for t in sample))

        dims = (None, *(0 for _ in batch))
        with differentiable(self.device):
            gradients: Tensor = torch.vmap(torch.func.grad(loss), dims, randomness="same")(point, *batch)
        return gradients

    def outputs(self, points: Tensor, buffers: Buffers, chunk: Chunk) -> Tensor:
        """Evaluate the models' outputs.

        Args:
            points: [N, P].
            buffers: Tensors [N, ...] by name.
            chunk: The samples.

        Returns:
            [N, b, ...], with a graph if the points want one.
        """
        return self._map(self._call_model, points, buffers, chunk)

    def output_losses(self, outputs: Tensor, chunk: Chunk) -> Tensor:
        """Evaluate a chunk's part of the loss as a function of the models' outputs.

        Args:
            outputs: [N, b, ...].
            chunk: The samples.

        Returns:
            [N], with a graph if the outputs want one.
        """
        if chunk.weights is None:
            return torch.stack([chunk.share * self._loss_of(z, chunk.batch) for z in outputs])
        parts = zip(outputs, chunk.weights, *chunk.batch, strict=True)
        return torch.stack([(self._losses_of(z, tuple(batch)) * weights).sum() for z, weights, *batch in parts])

    def _loss_of(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.loss(lambda _: outputs, batch)  # type: ignore[arg-type]

    def _losses_of(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Evaluate the loss of each sample [b] from the outputs [b, ...]."""
        if self._task is not None:
            return self._task.mean_loss(outputs, batch[-1], (len(outputs),))
        return self._each(lambda one: self._loss_of(one[0], one[1:]), (outputs, *batch))

    def _loss(self, state: State, batch: Batch, weights: Tensor | None) -> Tensor:
        if weights is not None:
            return (self._sample_losses(state, batch, None) * weights).sum()
        return self._functional.loss(state, batch)

    def _sample_losses(self, state: State, batch: Batch, _: Tensor | None) -> Tensor:
        """Evaluate the loss of each sample [b] at a point."""
        if self._task is not None:
            return self._losses_of(self._call_model(state, batch, None), batch)
        return self._each(lambda one: self._loss(state, one, None), batch)

    def _each(self, loss: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """Evaluate a mean loss for each sample as a batch of its own, [b]."""

        def alone(*sample: Tensor) -> Tensor:
            return loss(tuple(t.unsqueeze(0) for t in sample))

        if not self._samples_can_be_mapped:
            return torch.stack([alone(*sample) for sample in zip(*batch, strict=True)])
        losses: Tensor = torch.vmap(alone, randomness="same")(*batch)
        return losses

    def _call_model(self, state: State, batch: Batch, _: Tensor | None) -> Tensor:
        return self._functional.outputs(state, batch)

    def bytes_per_sample(self) -> int:
        """Find how much memory the graph of a Hessian product keeps for each sample of a point.

        Returns:
            Bytes, at least 1.
        """
        if len(self.samples.data[0]) < 2 or self.training:
            return 1
        one, two = (self._graph_bytes(count) for count in (1, 2))
        return max(1, two - one)

    def _graph_bytes(self, count: int) -> int:
        """Count what the graph of the gradient keeps for so many samples."""
        chunk = Chunk(tuple(t[:count].clone() for t in self.samples.data))

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
        each_alone = own and self._task is None and not self._samples_can_be_mapped  # not to be tried while mapping
        with differentiable(points.device):
            if len(points) > 1 and not each_alone and self._as_one(chunk.size, own=own):
                each = 0 if own else None
                apply = torch.vmap(partial(self._at, function), (0, 0, each, each), randomness="same")
                values: Tensor = apply(points, dict(buffers), chunk.batch, chunk.weights)
                return values
            found = []
            for k, theta in enumerate(points.unbind()):
                batch = tuple(t[k] for t in chunk.batch) if own else chunk.batch
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
        given = tuple(t.clone() for t in batch) if self._writes else batch
        return function(self._state(theta, buffers), given, weights)

    def _state(self, theta: Tensor, buffers: Buffers) -> State:
        parts = torch.split(theta, [shape.numel() for shape in self.shapes.values()])
        state = {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
        # Clones: a layer that keeps running statistics writes them in place.
        return state | {name: buffer.clone() for name, buffer in buffers.items()}

    @cached_property
    def _writes(self) -> bool:
        """Whether the model or the loss writes into its inputs, and needs clones of them; not so the model of a run."""
        state = self._state(self.point[0], self._buffers)
        try:
            with torch.no_grad(), differentiable(self.device):
                return writes(lambda *given: self._functional.loss(state, given), *(t[:2] for t in self.samples.data))
        except Exception:  # it is safe to clone; what the evaluation proper raises is reported
            return True

    def _as_one(self, samples: int, *, own: bool) -> bool:
        """Return whether the agents are mapped as one, with so many samples each, their own or the same."""
        if self.device.type == "cpu" and (self._convolves or samples * self.num_parameters > _SMALL):
            return False
        return self._own_can_be_mapped if own else self._can_be_mapped

    @cached_property
    def _can_be_mapped(self) -> bool:
        """Whether every layer has a batched form (nn.LSTM has none)."""
        return self._maps(tuple(t[:2] for t in self.samples.data), None)

    @cached_property
    def _own_can_be_mapped(self) -> bool:
        """Whether every layer has one where each agent has samples of its own."""
        return self._maps(tuple(t[:1].expand(2, *t[:1].shape) for t in self.samples.data), 0)

    def _maps(self, batch: Batch, each: int | None) -> bool:
        """Return whether two points that are mapped have the gradients that they have one by one."""

        def together(points: Tensor) -> Tensor:
            apply = torch.vmap(partial(self._at, self._loss), (0, 0, each), randomness="same")
            losses: Tensor = apply(points, self.buffers(2), batch)
            return losses

        def one_by_one(points: Tensor) -> Tensor:
            batches = [batch if each is None else tuple(t[k] for t in batch) for k in range(2)]
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
        """Whether every layer can be mapped over samples: what it does must not depend on their values."""
        batch, buffers = tuple(t[:2] for t in self.samples.data), {n: b[0] for n, b in self.buffers(1).items()}
        return self._agrees(
            lambda: self._mapped_gradients(self.point[0].clone(), buffers, batch),
            lambda: self._single_gradients(self.point[0], buffers, batch),
        )

    def _agrees(self, mapped: Callable[[], Tensor], single: Callable[[], Tensor]) -> bool:
        """Return whether what is mapped can be computed, and is the same: hooks and some layers get lost on the way."""
        try:
            found = mapped()
        except (RuntimeError, ValueError):
            return False
        tolerance = torch.finfo(self.dtype).eps ** 0.5
        return torch.allclose(found, single(), rtol=tolerance, atol=tolerance, equal_nan=True)
