"""Losses, metrics and gradient norm of a model on the data of a task."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.sim.data.nests import Nest, leaves, map_nest
from basinet.sim.data.rows import IGNORED, Data, Stored, at_once, length, spread, take
from basinet.sim.evaluation.metric import Metric, as_metric
from basinet.sim.experiment.plugged import plugged
from basinet.sim.run.interruptions import go_on
from basinet.sim.run.quantity import Quantity, Where, of_every_run, of_validation

if TYPE_CHECKING:
    from basinet.sim.tasks.task import Task

__all__ = [
    "chunks",
    "evaluate",
    "evaluate_with_gradient",
    "fixed_batches",
    "main_metric",
    "measure",
    "metrics_of",
    "of_validation",
    "quantities_of",
    "size",
    "weights_of",
]


_OUTPUTS = 2**22
"""Most outputs that are computed at a time, unless a single sample has more: memory of this size is soon used again."""


def metrics_of(task: "Task") -> list[Metric]:
    """List the metrics of a task.

    Args:
        task: The task.

    Returns:
        Its own; the usual ones if it has none.
    """
    chosen = plugged("default metrics")(task) if task.metrics is None else task.metrics
    return list(map(as_metric, chosen))


def places_of(task: "Task") -> list[Where]:
    """List the data on which a task's metrics are measured.

    Args:
        task: The task.

    Returns:
        Those of `metrics_on` that exist.
    """
    return [where for where in task.metrics_on if getattr(task, where) is not None]


def quantities_of(task: "Task") -> dict[str, Quantity]:
    """Describe the metrics of a task.

    Args:
        task: The task.

    Returns:
        Quantities by the name of the value, the main metric first.
    """
    places, metrics = places_of(task), metrics_of(task)
    found = {f"{where}_{metric.name}": metric.quantity(where) for metric in metrics for where in places}
    return {name: of_validation(known) for name, known in found.items()} if task.is_validation else found


def main_metric(task: "Task") -> tuple[str, Quantity]:
    """Choose the number by which a model is judged.

    Args:
        task: The task.

    Returns:
        Name and quantity of its first metric; of the loss if it has none.
    """
    loss = "train_loss" if task.test is None else "test_loss"
    known = of_every_run(validation=task.is_validation)[loss]
    return next(iter(quantities_of(task).items()), (loss, known))


def evaluate(task: "Task", model: Callable[..., Any], *, chunk: int = 4096) -> dict[str, float]:
    """Measure a model.

    Args:
        task: The task.
        model: The model.
        chunk: Samples that pass through the model at a time.

    Returns:
        See `Task.evaluate`.
    """
    outputs = partial(task.outputs, model)
    found = measure(task, "train", outputs, model=model, chunk=chunk)
    return {**found, **_test(task, outputs, found["train_loss"], model=model, chunk=chunk)}


def evaluate_with_gradient(task: "Task", model: nn.Module, *, chunk: int = 4096) -> dict[str, float]:
    """Measure a model, and the gradient norm of its training loss in the same pass.

    Args:
        task: The task.
        model: The model.
        chunk: Samples that pass through the model at a time.

    Returns:
        What `Task.evaluate` returns, and `gradient_norm`, which is NaN if the loss has no gradient.
    """
    outputs = partial(task.outputs, model)
    model.zero_grad(set_to_none=True)
    found = measure(task, "train", outputs, model=model, chunk=chunk, backward=True)
    squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    gradient = {"gradient_norm": float(torch.stack(squares).sum().sqrt()) if squares else math.nan}
    if task.overrides("evaluate"):  # a user's task may measure in its own way
        return {**task.evaluate(model), **gradient}
    return {**found, **gradient, **_test(task, outputs, found["train_loss"], model=model, chunk=chunk)}


def _test(task: "Task", outputs: Callable[[Nest], Any], train_loss: float, **kwargs: Any) -> dict[str, float]:
    if task.test is None:
        return {}
    found = measure(task, "test", outputs, **kwargs)
    loss = found.pop("test_loss")
    gap = {"generalization_gap": loss - train_loss} if task.same_loss else {}
    return {"test_loss": loss, **gap, **found}


def measure(
    task: "Task",
    where: Where,
    outputs: Callable[[Nest], Any],
    *,
    model: Callable[..., Any] | None = None,
    chunk: int = 4096,
    backward: bool = False,
) -> dict[str, float]:
    """Measure the loss and the metrics on some data.

    Args:
        task: The task.
        where: Which data.
        outputs: Computes the outputs of a batch.
        model: The model, for a task with an `objective` of its own.
        chunk: Samples that are measured at a time.
        backward: Whether to differentiate the loss.

    Returns:
        The mean loss, and the metrics if they are measured on these data, by the name of the value.
    """
    metrics = [metric.fresh() for metric in metrics_of(task)] if where in task.metrics_on else []
    data = task.evaluated if where == "train" else task.test
    losses, of_batches = [], task.mean_over == "batch"
    for part, share in chunks(task, data, chunk):
        go_on()
        with torch.set_grad_enabled(backward):
            loss, returned = _loss(task, part, outputs, model)
            if backward and loss.requires_grad:
                (loss * share).backward()  # type: ignore[no-untyped-call]
        losses.append((share, loss.detach()))
        if not of_batches:
            with torch.no_grad():
                _update(metrics, returned, part, task, outputs)
    if of_batches and metrics:  # of all samples in their order, and not of the fixed batches
        with torch.no_grad():
            for part in _in_order(task, data, chunk):
                go_on()
                _update(metrics, None, part, task, outputs)
    # Numbers are read at the end: the device need not wait between the chunks.
    total = sum((share * float(loss) for share, loss in losses), 0.0)
    return {f"{where}_loss": total, **{f"{where}_{metric.name}": metric.value() for metric in metrics}}


def _loss(
    task: "Task", part: Nest, outputs: Callable[[Nest], Any], model: Callable[..., Any] | None
) -> tuple[Tensor, Any]:
    """Return the loss, and the outputs if they are known and not written into."""
    if model is not None and task.overrides("objective"):
        return task.objective(model, part), None
    returned = outputs(part)
    before = _versions(returned)
    loss = task.mean_loss(returned, part)
    return loss, returned if _versions(returned) == before else None


def _update(metrics: list[Metric], returned: Any, part: Nest, task: "Task", outputs: Callable[[Nest], Any]) -> None:
    """Update the metrics with a chunk; outputs that one of them has written into are computed again."""
    for metric in metrics:
        if returned is None:
            returned = outputs(part)
        elif any(t.requires_grad for t in leaves(returned)):
            returned = map_nest(Tensor.detach, returned)
        before = _versions(returned)
        metric.update(returned, part, task)
        if _versions(returned) != before:
            returned = None


def _versions(outputs: Any) -> list[int]:
    """Return how often each tensor has been written into."""
    return [t._version for t in leaves(outputs)]


def chunks(task: "Task", data: Data, most: int) -> Iterator[tuple[Nest, float]]:
    """Cut data into chunks; if batches have a loss, into these.

    Args:
        task: The task.
        data: Its training or test data.
        most: Largest number of samples in a chunk; fewer if they, or a model's outputs for them, are large.

    Yields:
        The chunks, with the weight of each one's loss in the overall mean.
    """
    if task.mean_over == "batch":
        rows = fixed_batches(task, length(data))
        rows = rows if isinstance(data, Stored) else rows.to(leaves(data)[0].device)
        yield from ((take(data, some), 1 / len(rows)) for some in rows)
        return
    total = size(task, data) or 1
    yield from ((part, size(task, part) / total) for part in _in_order(task, data, most))


def _in_order(task: "Task", data: Data, most: int) -> Iterator[Nest]:
    """Cut data into chunks in the order of the samples."""
    most = min(most, at_once(data), _outputs_at_once(task))
    yield from (take(data, slice(first, first + most)) for first in range(0, length(data), most))


def _outputs_at_once(task: "Task") -> int:
    """Count the samples that have so many outputs, at least one."""
    return max(1, _OUTPUTS // max(1, task.outputs_per_sample))


def fixed_batches(task: "Task", count: int) -> Tensor:
    """Choose the fixed batches that a loss of whole batches is measured on, the same in every run.

    Args:
        task: The task.
        count: Number of samples.

    Returns:
        The samples of each batch in a random order, int64 [m, B]; those that do not fill a batch are left out.
    """
    most = min(task.measured_batch or count, count)
    order = draws.permutation(torch.tensor([draws.key(0, "measured batches")]), torch.tensor([count]), count)[0]
    return order[: count - count % most].view(-1, most)


def size(task: "Task", data: Data) -> float:
    """Count the samples, or sum the weights of what counts.

    Args:
        task: The task.
        data: Some of its data.

    Returns:
        The sum.
    """
    if isinstance(data, Stored):
        if not task.weighs:
            return len(data)
        if data.labels is not None and not task.has_weights:
            return float((data.labels != IGNORED).sum())
        known = task.sizes
        if id(data) not in known:
            parts = (take(data, rows) for rows in torch.split(torch.arange(len(data)), at_once(data)))
            known[id(data)] = sum(size(task, part) for part in parts)
        return known[id(data)]
    counts = task.counts(data)
    return length(data) if counts is None else float(counts.sum())


def weights_of(task: "Task", batch: Nest, shape: tuple[int, ...]) -> Tensor | None:
    """Return how much each element of some values counts.

    Args:
        task: The task.
        batch: A batch.
        shape: The shape of the values: that of the weights, or more dimensions, or others of length one.

    Returns:
        The weights in that shape, bool or numbers of at least 0; None if all elements count alike.

    Raises:
        ValueError: If the values have another shape.
    """
    weights = task.counted(batch)
    if weights is None:
        return None
    return weights.reshape(shape) if weights.numel() == math.prod(shape) else spread(weights, shape, "values")
