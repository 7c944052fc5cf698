"""Curvature of a plain torch model and loss, without an experiment or agents."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from itertools import pairwise
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from basinet.analysis.curvature.hessian import (
    CurvatureOperator,
    FisherOperator,
    GaussNewtonOperator,
    HessianOperator,
)
from basinet.analysis.curvature.objective import Products
from basinet.analysis.curvature.samples import Chunk
from basinet.sim.data.nests import leaves, map_nest
from basinet.sim.data.rows import length, take
from basinet.sim.tasks.calls import called, targets_of
from basinet.sim.tasks.task import Batch

__all__ = ["fisher_operator", "gauss_newton_operator", "hessian_operator"]

Criterion = Callable[[Any, Any], Tensor]
"""Maps the outputs of a batch and its targets to the mean loss, as `nn.CrossEntropyLoss()` does."""

Data = Batch | Iterable[Batch]
"""A batch, or a `DataLoader` or other iterable of batches; a batch is a nest of tensors such as (inputs, targets)."""

T = TypeVar("T", bound=CurvatureOperator)


def hessian_operator(
    model: nn.Module,
    loss: Criterion,
    data: Data,
    *,
    chunk: int | None = None,
    mean_over: Literal["samples", "batch"] = "samples",
    products: Products = "exact",
) -> HessianOperator:
    """Return the Hessian of the mean loss over a data set as a linear operator.

    It is a scipy operator: `H @ v` multiplies, and `scipy.sparse.linalg.eigsh(H)` works. This package's
    `top_eigenvalues(H)`, `spectrum(H)` and `trace(H)` stop at a given accuracy. See `HessianOperator` for the
    conventions.

    Args:
        model: A model in evaluation mode. Its trainable parameters, in the order of `model.parameters()`, are the
            coordinates; it is never written to.
        loss: A loss of outputs and targets, such as `nn.CrossEntropyLoss()`: the mean over the samples of a batch. The
            outputs are whatever the model returns.
        data: A batch: a tuple such as (inputs, targets), of which the model takes all parts but the last, or a mapping
            or dataclass, of which it takes the fields that its forward names and the loss the field targets, target,
            labels, label or y, or the whole batch if it has none. Or a `DataLoader` or other iterable of batches, of
            which one pass is read and kept. Tensors are moved to the device of the parameters, and floating ones to
            their dtype: a float64 model gives float64 accuracy.
        chunk: Maximum number of samples differentiated at once; by default the largest batch of a loader, or all
            samples of a single batch.
        mean_over: "batch" if the loss is that of a whole batch and no mean over samples: the operator is that of the
            mean over the batches given.
        products: "differences" for products by differences of gradients, if autograd lacks the second derivative of
            the model: see `Objective`.

    Returns:
        The operator, [P, P].

    Raises:
        ValueError: If the data are not such tensors, if the loss is not a mean, or as for `HessianOperator`.

    Example:
        The mean of (x θ − y)² has the Hessian 2 mean(x xᵀ).

        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> model, x = nn.Linear(2, 1, bias=False).double(), torch.tensor([[1.0, 0.0], [0.0, 3.0]])
        >>> loader = DataLoader(TensorDataset(x, torch.zeros(2, 1)), batch_size=1)
        >>> H = hessian_operator(model, nn.MSELoss(), loader)
        >>> (H @ [1.0, 1.0]).round(9)
        array([1., 9.])
    """
    return _operator(HessianOperator, model, loss, data, chunk, mean_over, products)


def gauss_newton_operator(
    model: nn.Module,
    loss: Criterion,
    data: Data,
    *,
    chunk: int | None = None,
    mean_over: Literal["samples", "batch"] = "samples",
    products: Products = "exact",
) -> GaussNewtonOperator:
    """Return the Gauss-Newton matrix (for cross-entropy, the Fisher matrix) as a linear operator.

    Args:
        model: As for `hessian_operator`.
        loss: As for `hessian_operator`.
        data: As for `hessian_operator`.
        chunk: As for `hessian_operator`.
        mean_over: As for `hessian_operator`.
        products: As for `hessian_operator`.

    Returns:
        The operator, [P, P]; see `GaussNewtonOperator`.
    """
    return _operator(GaussNewtonOperator, model, loss, data, chunk, mean_over, products)


def fisher_operator(
    model: nn.Module, loss: Criterion, data: Data, *, chunk: int | None = None, products: Products = "exact"
) -> FisherOperator:
    """Return the empirical Fisher matrix, the second moment of the per-sample gradients, as a linear operator.

    Args:
        model: As for `hessian_operator`.
        loss: As for `hessian_operator`.
        data: As for `hessian_operator`.
        chunk: As for `hessian_operator`.
        products: As for `hessian_operator`.

    Returns:
        The operator, [P, P]; see `FisherOperator`.
    """
    return _operator(FisherOperator, model, loss, data, chunk, "samples", products)


def _operator(
    kind: type[T],
    model: nn.Module,
    loss: Criterion,
    data: Data,
    chunk: int | None,
    mean_over: Literal["samples", "batch"],
    products: Products,
) -> T:
    """Construct an operator from data in any of the accepted forms."""
    like = next((p for p in model.parameters() if p.requires_grad), torch.zeros(()))
    batches = _batches(data)
    try:
        joined = map_nest(lambda *parts: torch.cat(parts), *batches)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"data must yield batches that differ in their number of samples alone ({error}).") from error
    joined = map_nest(lambda t: t.to(like.device, like.dtype if t.is_floating_point() else None), joined)
    sizes = [length(batch) for batch in batches]

    def of_batch(model: nn.Module, batch: Batch) -> Tensor:
        targets = targets_of(batch, None)
        return loss(called(model, batch), batch if targets is None else targets)

    if mean_over == "batch":
        ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
        rows = [torch.arange(start, end) for start, end in pairwise(ends)]
        return kind(model, of_batch, joined, chunk=chunk, batches=rows, products=products)
    if chunk is None and len(batches) > 1:
        chunk = max(sizes)
    operator = kind(model, of_batch, joined, chunk=chunk, products=products)
    if chunk is not None and length(joined) > 1:
        _check_mean(operator, joined)
    return operator


def _is_batch(data: Data) -> bool:
    """Return whether data are a batch, and not several; a tuple or list is one if a part of it is a tensor."""
    if isinstance(data, tuple | list):
        return hasattr(data, "_fields") or any(isinstance(part, Tensor) for part in data)
    return isinstance(data, Mapping) or is_dataclass(data)


def _batches(data: Data) -> list[Batch]:
    """List the batches of a data set, each a nest of tensors with equally many samples."""
    batches = [data] if _is_batch(data) else list(data)
    batches = [tuple(batch) if isinstance(batch, list) else batch for batch in batches]
    for batch in batches:
        found = leaves(batch)
        if not _is_batch(batch) or any(t.ndim == 0 for t in found) or len({len(t) for t in found}) != 1:
            raise ValueError(
                "data must be a batch, such as a pair (inputs, targets) of tensors with equally many samples, or yield"
                " such batches; wrap a Dataset in a DataLoader."
            )
    if not batches:
        raise ValueError("data must hold at least one sample.")
    return batches


def _check_mean(operator: CurvatureOperator, data: Batch) -> None:
    """Raise unless the loss of two samples is the mean of their losses, as combining chunks requires."""
    objective = operator.curvature.objective

    def loss(rows: slice) -> float:
        with torch.no_grad():
            chunk = Chunk(take(data, rows))
            return float(objective.losses(operator.curvature.points, operator.curvature.buffers, chunk))

    both, one, other = loss(slice(2)), loss(slice(1)), loss(slice(1, 2))
    if abs(both - (one + other) / 2) > objective.eps**0.5 * (abs(one) + abs(other)):
        raise ValueError(
            f"loss must be the mean over the samples of a batch, as with reduction='mean', or mean_over='batch' be"
            f" given; for two samples it is {both:.6g}, for each alone {one:.6g} and {other:.6g}."
        )
